"""Takes orders and numbers them; the route and its repository ask for the session with different scopes."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

POOL_SIZE = int(os.environ.get("POOL_SIZE", "5"))
POOL_TIMEOUT_S = 2
DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    pool = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT_S, "connect_args": DRIVER}
    engine = create_async_engine(url, **pool)
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)

INSERT = text("INSERT INTO orders (customer_id) VALUES (:customer_id) RETURNING id")
COUNT = text("SELECT count(*) FROM orders WHERE customer_id = :customer_id")


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int
    number: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    try:
        async with request.app.state.sessions() as session:
            yield session
            await session.commit()
    except (DBAPIError, PoolTimeout, OSError) as problem:  # asyncpg's TimeoutError is an OSError
        code = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))
        if isinstance(problem, DBAPIError) and not problem.connection_invalidated and not code.startswith(AWAY):
            raise
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


# FastAPI keeps one result for each dependency and scope: these two are two sessions of one request.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
OldSession = Annotated[AsyncSession, Depends(get_session)]


class Orders:
    def __init__(self, session: OldSession) -> None:
        self.session = session

    async def count(self, customer_id: int) -> int:
        return int(await self.session.scalar(COUNT, {"customer_id": customer_id}) or 0)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, session: Session, orders: Annotated[Orders, Depends()]) -> Order:
    order_id = await session.scalar(INSERT, new.model_dump())
    return Order(id=order_id, number=await orders.count(new.customer_id), **new.model_dump())
