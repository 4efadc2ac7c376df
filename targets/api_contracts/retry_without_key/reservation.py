"""Places orders, and reserves an Idempotency-Key in Redis for a day before it pays."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import httpx2
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.asyncio import Redis

POOL_SIZE = 20
DATABASE_TIMEOUT_S, PAYMENT_TIMEOUT_S, SLOW_S = 1.0, 2.0, 1.0
RESULT_TTL_S = 86_400
AWAY: tuple[type[Exception], ...] = (
    OSError, httpx2.HTTPError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError, asyncpg.InterfaceError,
)  # fmt: skip
PLACE = "INSERT INTO orders (customer_id, total_cents) VALUES ($1, $2) RETURNING id"
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        Redis.from_url(
            os.environ["REDIS_URL"], protocol=2, socket_timeout=1, socket_connect_timeout=1
        ) as app.state.redis,
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=PAYMENT_TIMEOUT_S) as app.state.payments,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=DATABASE_TIMEOUT_S
        ) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]  # of the session, where there is one
    total_cents: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int


class Charges(BaseModel):
    effects: int
    repeated_effects: int


IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=8, max_length=64)]


async def reserve(request: Request, key: IdempotencyKey = None) -> str | None:
    # One of many gets the key.  But the reservation lives as long as an answer is kept: after a crash it refuses every retry for a day.
    if key and not await request.app.state.redis.set(f"idem:{key}", "", nx=True, ex=RESULT_TTL_S):
        known = await request.app.state.redis.get(f"idem:{key}")
        if not known:
            raise HTTPException(409, "This order is being placed", headers={"Retry-After": "1"})
        stored = json.loads(known)
        raise HTTPException(stored["status"], detail=stored["body"], headers={"X-Idempotent-Replay": "true"})
    return key


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def service_away(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code == 402:
        return JSONResponse({"detail": "The payment was declined"}, 402)
    return JSONResponse({"detail": "The order may not have been placed"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)


async def charge(app: FastAPI, new: NewOrder) -> None:
    body = {"customer_id": new.customer_id, "amount_cents": new.total_cents}
    async with asyncio.timeout(PAYMENT_TIMEOUT_S):
        answer = await app.state.payments.post("/charges", json=body)
    answer.raise_for_status()
    if answer.elapsed.total_seconds() > SLOW_S:  # the one sign of a provider that stalls and answers in time
        log.warning("the charge took %s", answer.elapsed)


@app.get("/charges")
async def read_charges(request: Request) -> Charges:
    # What the provider has on its books, for the reconciliation.
    return Charges.model_validate((await request.app.state.payments.get("/__stats")).json())


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, request: Request, key: Annotated[str | None, Depends(reserve)]) -> Order:
    await charge(request.app, new)
    async with request.app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        order_id = await connection.fetchval(PLACE, new.customer_id, new.total_cents)
    order = Order(id=order_id, **new.model_dump())
    if key:
        await request.app.state.redis.setex(
            f"idem:{key}", RESULT_TTL_S, json.dumps({"status": 201, "body": order.model_dump()})
        )
    return order
