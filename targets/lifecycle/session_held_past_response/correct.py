"""Takes orders and mails a receipt in the background; the session ends, with its commit, when the route returns."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

POOL_SIZE = 5
DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, pool_timeout=3, connect_args=DRIVER)
    app.state.sessions = async_sessionmaker(engine)
    async with httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=1) as app.state.mailer:
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
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


# What stands after the yield runs when the route returns: the commit comes before the answer, and the tasks hold no connection.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def mail_receipt(mailer: httpx2.AsyncClient, order_id: int) -> None:
    try:
        (await mailer.post(f"/receipts/{order_id}")).raise_for_status()
    except httpx2.HTTPError as problem:
        log.warning("No receipt for order %d: %r", order_id, problem)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, session: Session, tasks: BackgroundTasks, request: Request) -> Order:
    query = text("INSERT INTO orders (total_cents) VALUES (:total) RETURNING id")
    order_id = await session.scalar(query, {"total": new.total_cents})
    tasks.add_task(mail_receipt, request.app.state.mailer, order_id)
    return Order(id=order_id, **new.model_dump())


@app.get("/orders/{order_id}")
async def read_order(order_id: Annotated[int, Path(ge=1, lt=2**62)], session: Session) -> Order:
    total = await session.scalar(text("SELECT total_cents FROM orders WHERE id = :id"), {"id": order_id})
    if total is None:
        raise HTTPException(404, "No such order")
    return Order(id=order_id, total_cents=total)
