"""Lists orders, at most a hundred at a time."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

ACQUIRE_S = 0.5  # for a free connection
STATEMENT_S = 2.0
AWAY = (
    OSError,  # refused or reset, and every time-out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,
)
PAGE = "SELECT id, amount_cents FROM orders WHERE id > $1 ORDER BY id LIMIT $2"
logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=0, max_size=10, timeout=ACQUIRE_S, command_timeout=STATEMENT_S
    ) as app.state.database:
        yield


async def answer_503(request: Request, problem: Exception) -> JSONResponse:
    logger.warning("database: %r", problem)
    return JSONResponse({"detail": "The database does not answer"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(AWAY, answer_503))


class Order(BaseModel):
    id: int
    amount_cents: int


class OrderPage(BaseModel):
    items: list[Order]
    next: int | None


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


# What a page may be stands in the signature: FastAPI answers 422 before anything is read, and the documentation shows it.
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[int, Query(ge=0, lt=2**63)]


@app.get("/orders")
async def list_orders(request: Request, after: After = 0, limit: Limit = 20) -> OrderPage:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as database:
        rows = await database.fetch(PAGE, after, limit)
    items = [Order(**row) for row in rows]
    return OrderPage(items=items, next=items[-1].id if len(items) == limit else None)
