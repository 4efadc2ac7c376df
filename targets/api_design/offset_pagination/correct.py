"""Lists orders from where the last page ended: a cursor names the last row, and the index leads to the next one."""

import base64
import logging
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, exc, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MAX_PAGE_SIZE = 100
CONNECT_S = 0.5  # for a free connection, and for opening one
STATEMENT_S = float(os.environ.get("STATEMENT_S", "1.0"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    limits = {"timeout": CONNECT_S, "command_timeout": STATEMENT_S}
    engine = create_async_engine(url, pool_timeout=CONNECT_S, connect_args=limits)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


async def answer_503(request: Request, problem: Exception) -> JSONResponse:
    state = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))[:2]
    if isinstance(problem, exc.DBAPIError) and not problem.connection_invalidated and state not in ("08", "53", "57"):
        raise problem  # the database did answer, so this is an error of ours
    logging.getLogger(__name__).warning("database: %r", problem)
    return JSONResponse({"detail": "The database does not answer"}, 503, {"Retry-After": "1"})


# OSError is a refused or reset connection, and every time-out of the driver.
AWAY = (OSError, exc.TimeoutError, exc.DBAPIError)
app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(AWAY, answer_503))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int]
    total_cents: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]
    total_cents: Annotated[int, Field(ge=0, lt=2**31)]


class OrderOut(NewOrder):
    model_config = ConfigDict(from_attributes=True)
    id: int
    created_at: datetime


class OrderPage(BaseModel):
    items: list[OrderOut]
    next: str | None


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
OrderId = Annotated[int, Path(ge=1, lt=2**63)]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]


def cursor_of(order: Order) -> str:
    # Whole microseconds, as PostgreSQL stores them: a rounded time would repeat or skip orders.
    microseconds = (order.created_at - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(struct.pack(">qq", microseconds, order.id)).decode().rstrip("=")


def read_cursor(after: str | None = None) -> tuple[datetime, int] | None:
    if after is None:
        return None
    try:
        microseconds, order_id = struct.unpack(">qq", base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        return EPOCH + timedelta(microseconds=microseconds), order_id
    except (ValueError, OverflowError, struct.error):
        raise HTTPException(422, "after: not a cursor of this list") from None


After = Annotated[tuple[datetime, int] | None, Depends(read_cursor)]


@app.get("/orders")
async def list_orders(session: Session, after: After, page_size: PageSize = 50) -> OrderPage:
    query = select(Order).order_by(Order.created_at.desc(), Order.id.desc()).limit(page_size)
    # Starts at the row after the last one seen, wherever that is now; PostgreSQL serves a comparison of both columns from the index.
    if after is not None:
        query = query.where(tuple_(Order.created_at, Order.id) < after)
    orders = (await session.scalars(query)).all()
    more = f"/orders?after={cursor_of(orders[-1])}&page_size={page_size}" if len(orders) == page_size else None
    return OrderPage(items=[OrderOut.model_validate(order) for order in orders], next=more)


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, session: Session) -> OrderOut:
    order = Order(**new.model_dump())
    session.add(order)
    await session.commit()
    return OrderOut.model_validate(order)


@app.delete("/orders/{order_id}", status_code=204)
async def delete_order(order_id: OrderId, session: Session) -> None:
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "No such order")
    await session.delete(order)
    await session.commit()
