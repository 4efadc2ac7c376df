"""Reads products; the pool tests each connection before it is used (pool_pre_ping)."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

POOL = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2}
DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    # The test of a connection is a transaction: BEGIN, an empty statement, ROLLBACK, before those of the query.
    engine = create_async_engine(url, pool_pre_ping=True, connect_args=DRIVER, **POOL)
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)

PRODUCT = text("SELECT id, name, price_cents FROM products WHERE id = :id")


class Product(BaseModel):
    id: int
    name: str
    price_cents: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    try:
        async with request.app.state.sessions() as session:
            yield session
    except (DBAPIError, PoolTimeout, OSError) as problem:  # asyncpg's TimeoutError is an OSError
        code = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))
        if isinstance(problem, DBAPIError) and not problem.connection_invalidated and not code.startswith(AWAY):
            raise
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/products/{product_id}")
async def read_product(product_id: Annotated[int, Path(ge=1, lt=2**31)], session: Session) -> Product:
    row = (await session.execute(PRODUCT, {"id": product_id})).one_or_none()
    if row is None:
        raise HTTPException(404, "No such product")
    return Product(id=row.id, name=row.name, price_cents=row.price_cents)
