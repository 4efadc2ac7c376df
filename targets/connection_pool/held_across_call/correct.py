"""Ships orders: asks a carrier for the price between two statements, and holds no connection meanwhile."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import httpx2
from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

POOL_SIZE = 5
ACQUIRE_S = 1.0  # for a free connection
STATEMENT_S = 1.0
CARRIER_S = httpx2.Timeout(1.5, connect=0.5)
AWAY = (
    OSError,  # refused or reset, and every time-out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,
)
READ = "SELECT shipping_cents FROM orders WHERE id = $1"
# The condition is what makes it safe that the order was read some time ago: the second of two writers changes nothing.
WRITE = "UPDATE orders SET shipping_cents = $2 WHERE id = $1 AND shipping_cents IS NULL RETURNING id"

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url, limits = os.environ["DATABASE_URL"], httpx2.Limits(max_connections=100, max_keepalive_connections=100)
    app.state.pool = asyncpg.create_pool(
        url, min_size=0, max_size=POOL_SIZE, timeout=ACQUIRE_S, command_timeout=STATEMENT_S
    )
    app.state.carrier = httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], limits=limits, timeout=CARRIER_S)
    async with app.state.pool, app.state.carrier:
        yield


async def answer_503(request: Request, problem: Exception) -> JSONResponse:
    logger.warning("cannot ship: %r", problem)
    return JSONResponse({"detail": "Try again later"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys((*AWAY, httpx2.HTTPError), answer_503))
OrderId = Annotated[int, Path(ge=1, lt=2**31)]


class Shipment(BaseModel):
    order_id: int
    shipping_cents: int


async def require_unshipped(database: Any, order_id: int) -> None:
    order = await database.fetchrow(READ, order_id)
    if order is None:
        raise HTTPException(404, "No such order")
    if order["shipping_cents"] is not None:
        raise HTTPException(409, "The order is shipped already")


async def book(request: Request, order_id: int) -> int:
    # The key makes a second try, after a crash or an error, the same booking.
    answer = await request.app.state.carrier.post(
        f"/parcels/{order_id}", headers={"Idempotency-Key": f"order-{order_id}"}
    )
    answer.raise_for_status()
    return int(answer.json()["price"])


async def record(database: Any, order_id: int, cents: int) -> Shipment:
    if await database.fetchval(WRITE, order_id, cents) is None:
        raise HTTPException(409, "The order is shipped already")
    return Shipment(order_id=order_id, shipping_cents=cents)


@app.post("/orders/{order_id}/shipment")
async def ship(order_id: OrderId, request: Request) -> Shipment:
    pool = request.app.state.pool
    async with pool.acquire(timeout=ACQUIRE_S) as database:
        await require_unshipped(database, order_id)
    # The connection is back in the pool while the carrier is asked.  The order may change: the second statement looks again.
    cents = await book(request, order_id)
    async with pool.acquire(timeout=ACQUIRE_S) as database:
        return await record(database, order_id, cents)


@app.get("/orders/{order_id}/shipment")
async def read_shipment(order_id: OrderId, request: Request) -> Shipment:
    async with request.app.state.pool.acquire(timeout=ACQUIRE_S) as database:
        cents = await database.fetchval(READ, order_id)
    if cents is None:
        raise HTTPException(404, "Not shipped")
    return Shipment(order_id=order_id, shipping_cents=cents)
