"""Places orders, each Idempotency-Key once: key, order and answer are one transaction."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel, Field

POOL_SIZE = 20
RESERVE = "INSERT INTO idempotency_keys (customer_id, key, fingerprint) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true"
REMEMBERED = "SELECT fingerprint, response FROM idempotency_keys WHERE customer_id = $1 AND key = $2"
REMEMBER = "UPDATE idempotency_keys SET response = $3 WHERE customer_id = $1 AND key = $2"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]
    total_cents: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int


IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=64)]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def place_once(connection: asyncpg.Connection, new: NewOrder, key: str, fingerprint: str) -> tuple[bytes, bool]:
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        # The unique key decides: a second request waits here until the first one commits (then it replays) or dies (then it is the first).
        if await connection.fetchval(RESERVE, new.customer_id, key, fingerprint):
            order_id = await connection.fetchval("SELECT place_order($1, $2)", new.customer_id, new.total_cents)
            answer = Order(id=order_id, **new.model_dump()).model_dump_json().encode()
            await connection.execute(REMEMBER, new.customer_id, key, answer)
            return answer, False
        known = await connection.fetchrow(REMEMBERED, new.customer_id, key)
        if known is None:  # deleted as too old, just now
            raise HTTPException(409, "This Idempotency-Key has expired", headers={"Retry-After": "1"})
        if known["fingerprint"] != fingerprint:
            raise HTTPException(422, "This Idempotency-Key was used for another order")
        return known["response"], True


@app.post("/orders", status_code=201, response_model=Order)
async def create_order(new: NewOrder, request: Request, key: IdempotencyKey) -> Response:
    fingerprint = hashlib.sha256(await request.body()).hexdigest()
    try:
        async with request.app.state.database.acquire() as connection:
            answer, replayed = await place_once(connection, new, key, fingerprint)
    except asyncpg.LockNotAvailableError:
        raise HTTPException(409, "This order is being placed", headers={"Retry-After": "1"}) from None
    headers = {"Idempotent-Replay": "true"} if replayed else {}
    return Response(answer, 201, headers, "application/json")
