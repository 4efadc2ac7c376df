"""Places orders, each Idempotency-Key once: the key is a row with a lease, and the charge carries a key as well."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import asyncpg
import httpx2
from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

POOL_SIZE = 20
DATABASE_TIMEOUT_S, PAYMENT_TIMEOUT_S, SLOW_S = 1.0, 2.0, 1.0
LEASE_S = 3.5  # more than a payment and what follows it: the key of a worker that died is free again after that
AWAY: tuple[type[Exception], ...] = (
    OSError, httpx2.HTTPError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError, asyncpg.InterfaceError,
)  # fmt: skip
PLACE = "INSERT INTO orders (customer_id, total_cents) VALUES ($1, $2) RETURNING id"
CLAIM = """INSERT INTO idempotency_keys AS known (customer_id, key, request, locked_until)
    VALUES ($1, $2, $3, now() + $4 * interval '1 s')
    ON CONFLICT (customer_id, key) DO UPDATE SET locked_until = excluded.locked_until
    WHERE known.response IS NULL AND known.request = excluded.request AND known.locked_until <= now() RETURNING locked_until"""
KNOWN = "SELECT request, response FROM idempotency_keys WHERE customer_id = $1 AND key = $2"
FREE = "UPDATE idempotency_keys SET locked_until = now() WHERE customer_id = $1 AND key = $2 AND locked_until = $3"
REMEMBER = """UPDATE idempotency_keys SET response = $4
    WHERE customer_id = $1 AND key = $2 AND locked_until = $3 RETURNING true"""
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
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


IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", pattern=r"^[!-~]{8,64}$")]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def service_away(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code == 402:
        return JSONResponse({"detail": "The payment was declined"}, 402)
    return JSONResponse({"detail": "The order may not have been placed"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)


async def charge(app: FastAPI, new: NewOrder, key: str) -> None:
    body = {"customer_id": new.customer_id, "amount_cents": new.total_cents}
    async with asyncio.timeout(PAYMENT_TIMEOUT_S):
        answer = await app.state.payments.post("/charges", json=body, headers={"Idempotency-Key": key})
    answer.raise_for_status()
    if answer.elapsed.total_seconds() > SLOW_S:  # the one sign of a provider that stalls and answers in time
        log.warning("the charge took %s", answer.elapsed)


@app.get("/charges")
async def read_charges(request: Request) -> Charges:
    # What the provider has on its books, for the reconciliation.
    return Charges.model_validate((await request.app.state.payments.get("/__stats")).json())


def replay(known: asyncpg.Record | None, body: str) -> Response:
    if known is not None and known["request"] != body:
        raise HTTPException(422, "This Idempotency-Key was used for another order")
    if known is None or known["response"] is None:
        raise HTTPException(409, "This order is being placed", headers={"Retry-After": "1"})
    return Response(known["response"], 201, {"Idempotent-Replay": "true"}, "application/json")


async def place(app: FastAPI, new: NewOrder, key: str, lease: datetime) -> Response:
    async with app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection, connection.transaction():
        order_id = await connection.fetchval(PLACE, new.customer_id, new.total_cents)
        answer = Order(id=order_id, **new.model_dump()).model_dump_json().encode()
        # Order and answer are one transaction; it is undone where the lease has ended and somebody else has the key.
        if not await connection.fetchval(REMEMBER, new.customer_id, key, lease, answer):
            raise HTTPException(409, "This order is being placed", headers={"Retry-After": "1"})
    return Response(answer, 201, media_type="application/json")


@app.post("/orders", status_code=201, response_model=Order)
async def create_order(new: NewOrder, request: Request, key: IdempotencyKey) -> Response:
    database, body = request.app.state.database, new.model_dump_json()
    # The unique key decides who places the order; everybody else is answered at once, and no connection waits for the payment.
    async with database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        lease = await connection.fetchval(CLAIM, new.customer_id, key, body, LEASE_S)
        if lease is None:
            return replay(await connection.fetchrow(KNOWN, new.customer_id, key), body)
    try:
        # After a crash this is done again, with the same key: the provider charges once.
        await charge(request.app, new, f"order-{new.customer_id}-{key}")
    except (httpx2.HTTPError, OSError):
        async with database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
            await connection.execute(FREE, new.customer_id, key, lease)
        raise
    return await place(request.app, new, key, lease)
