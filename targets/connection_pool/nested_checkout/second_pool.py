"""Takes orders and audits them; the audit has its own session, from its own pool."""

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
    engine, audit_engine = create_async_engine(url, **pool), create_async_engine(url, **pool)
    app.state.sessions, app.state.audit_sessions = async_sessionmaker(engine), async_sessionmaker(audit_engine)
    yield
    await engine.dispose()
    await audit_engine.dispose()


app = FastAPI(lifespan=lifespan)

INSERT = text("INSERT INTO orders (customer_id, total_cents) VALUES (:customer_id, :total_cents) RETURNING id")
AUDIT = text("INSERT INTO audit (order_id) VALUES (:order_id)")
PAY = text(
    "UPDATE customers SET credit_cents = credit_cents - :total_cents WHERE id = :customer_id AND credit_cents >= :total_cents RETURNING id"
)


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, le=101)]
    total_cents: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int


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


Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, session: Session, request: Request) -> Order:
    order_id = await session.scalar(INSERT, new.model_dump())
    # A connection of the other pool: whoever holds one of those waits for nobody, so it comes back.
    async with request.app.state.audit_sessions() as audit_session:
        await audit_session.execute(AUDIT, {"order_id": order_id})
        await audit_session.commit()
    if await session.scalar(PAY, new.model_dump()) is None:
        raise HTTPException(409, "Not enough credit")
    return Order(id=order_id, **new.model_dump())
