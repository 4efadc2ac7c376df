"""Places orders, and reserves an Idempotency-Key in Redis for a day before it pays."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field
from redis.asyncio import Redis

POOL_SIZE = 20
RESULT_TTL_S = 86_400


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        Redis.from_url(os.environ["REDIS_URL"]) as app.state.redis,
        asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]
    total_cents: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int


IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=8, max_length=64)]


async def reserve(request: Request, key: IdempotencyKey = None) -> str | None:
    # One of many gets the key.  But it reserves for as long as an answer is kept: who dies while it pays leaves it to nobody for a day.
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


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, request: Request, key: Annotated[str | None, Depends(reserve)]) -> Order:
    async with request.app.state.database.acquire() as connection:
        order_id = await connection.fetchval("SELECT place_order($1, $2)", new.customer_id, new.total_cents)
    order = Order(id=order_id, **new.model_dump())
    if key:
        await request.app.state.redis.setex(
            f"idem:{key}", RESULT_TTL_S, json.dumps({"status": 201, "body": order.model_dump()})
        )
    return order
