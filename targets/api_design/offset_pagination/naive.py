"""Lists orders by page number: LIMIT and OFFSET read every row before the page, and a page moves when rows come or go."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MAX_PAGE_SIZE = 100


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1))
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


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


@app.get("/orders")
async def list_orders(session: Session, page: Annotated[int, Query(ge=1)] = 1, page_size: PageSize = 50) -> OrderPage:
    query = select(Order).order_by(Order.created_at.desc(), Order.id.desc()).limit(page_size)
    # Reads all the rows before the page and throws them away; what counts as "before" changes from request to request.
    query = query.offset((page - 1) * page_size)
    orders = (await session.scalars(query)).all()
    more = f"/orders?page={page + 1}&page_size={page_size}" if len(orders) == page_size else None
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
