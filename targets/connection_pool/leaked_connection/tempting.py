"""Serves orders; gives the connection back on each way out that somebody has thought of."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel

POOL_SIZE = 10
ACQUIRE_S = 0.5
log = logging.getLogger(__name__)
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE, timeout=2, command_timeout=1
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    id: int
    total_cents: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/orders/{order_id}")
async def read_order(order_id: Annotated[int, Path(ge=1, lt=2**31)], request: Request) -> Order:
    try:
        connection = await request.app.state.database.acquire(timeout=ACQUIRE_S)
        total = await connection.fetchval("SELECT total_cents FROM orders WHERE id = $1", order_id)
        if total is None:
            await request.app.state.database.release(connection)
            raise HTTPException(404, "No such order")
        # Not reached when the statement fails or runs into its time-out: one more connection is gone for each.
        await request.app.state.database.release(connection)
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Order(id=order_id, total_cents=total)
