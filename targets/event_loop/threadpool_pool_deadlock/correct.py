"""Reads an order in a def route, with a session that ends before the route returns."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

POOL_TIMEOUT_S = 2
# psycopg: seconds to connect; milliseconds for a statement, and until a network that swallows packets is given up.
DRIVER = {"connect_timeout": 2, "options": "-c statement_timeout=2000", "tcp_user_timeout": 2000}
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    to_thread.current_default_thread_limiter().total_tokens = int(os.environ.get("THREADS", "40"))
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)
    pool_size = int(os.environ.get("POOL_SIZE", "15"))
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=POOL_TIMEOUT_S, connect_args=DRIVER)
    app.state.sessions = sessionmaker(engine)
    yield
    engine.dispose()


app = FastAPI(lifespan=lifespan)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total_cents: Mapped[int]


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    total_cents: int


@contextmanager
def get_session(request: Request) -> Iterator[Session]:
    try:
        with request.app.state.sessions() as session:
            yield session
    except (OperationalError, PoolTimeout) as problem:
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/orders/{order_id}")
def read_order(order_id: Annotated[int, Path(ge=1, lt=2**31)], request: Request) -> OrderOut:
    # A request that has a connection needs no other thread: it gives the connection back in this one, before it returns.
    with get_session(request) as session:
        order = session.get(Order, order_id)
        if order is None:
            raise HTTPException(404, "No such order")
        return OrderOut.model_validate(order)
