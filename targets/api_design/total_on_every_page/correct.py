"""Lists the orders of a customer page by page, and counts up to a thousand of them."""

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
STATEMENT_S = 1.0
MOST = 1000  # beyond that the page says "more than 1,000"
AWAY = (
    OSError,  # refused or reset, and every time-out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,
)
PAGE = "SELECT id, amount_cents FROM orders WHERE customer_id = $1 AND id > $2 ORDER BY id LIMIT $3"
TOTAL = "SELECT count(*) FROM (SELECT FROM orders WHERE customer_id = $1 LIMIT $2) AS counted"

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
    total: int
    total_is_exact: bool


Number = Annotated[int, Query(ge=0, lt=2**31)]
PageSize = Annotated[int, Query(ge=1, le=100)]


@app.get("/orders")
async def list_orders(request: Request, customer_id: Number, after: Number = 0, page_size: PageSize = 20) -> OrderPage:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as database:
        rows = await database.fetch(PAGE, customer_id, after, page_size)
        # Stops when there is one more than anybody wants to read.
        total = await database.fetchval(TOTAL, customer_id, MOST + 1)
    items = [Order(id=row["id"], amount_cents=row["amount_cents"]) for row in rows]
    more = items[-1].id if len(items) == page_size else None
    return OrderPage(items=items, next=more, total=min(total, MOST), total_is_exact=total <= MOST)
