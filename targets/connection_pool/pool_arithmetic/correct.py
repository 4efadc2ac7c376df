"""Makes reports with this worker's share of the database's connections."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Request
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

# The budget of the whole deployment (the database's limit less what others need), shared by all processes; no overflow beyond it.
CONNECTION_BUDGET = 36
PROCESSES = int(os.environ.get("WEB_CONCURRENCY", "1"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    engine = create_async_engine(url, pool_size=CONNECTION_BUDGET // PROCESSES, max_overflow=0, pool_timeout=30)
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class Report(BaseModel):
    customer_id: int
    total_cents: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/reports/{customer_id}")
async def read_report(
    customer_id: Annotated[int, Path(ge=1, lt=2**24)], session: Annotated[AsyncSession, Depends(get_session)]
) -> Report:
    total = await session.scalar(text("SELECT report(:customer)"), {"customer": customer_id})
    return Report(customer_id=customer_id, total_cents=total)
