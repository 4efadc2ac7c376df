"""Caches prices in Redis under a lease: a write revokes it, so an earlier reader cannot put the old price back."""

import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

CACHE_TTL_S = 60
ACQUIRE_S, QUERY_S = 0.5, 1.2
LEASE_TTL_S = 10  # much longer than a load or a write can take: connection, query, its cancellation: 0.5 + 1.2 + 0.5 s
AWAY = (
    RedisError, OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)  # fmt: skip

# Marks a write as under way, for LEASE_TTL_S by the clock of Redis, and revokes the lease of those who load already.
BEGIN = """
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
    redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
    redis.call('EXPIRE', KEYS[3], ARGV[2] + 1)
    return redis.call('DEL', KEYS[1], KEYS[2])
"""
# Fills the key only while the lease that was taken before the load is still there, and no write is under way.
FILL = """
    local now = redis.call('TIME')[1]
    if redis.call('GET', KEYS[2]) == ARGV[1] and redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0 then
        redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[2])
    end
    return 1
"""

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=1, socket_timeout=0.5, socket_connect_timeout=0.5,
        decode_responses=True,
    )  # fmt: skip
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], command_timeout=QUERY_S) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


async def service_away(request: Request, problem: Exception) -> JSONResponse:
    log.warning("%s %s: %r", request.method, request.url.path, problem)
    return JSONResponse({"detail": "Try again later"}, 503, headers={"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)

ProductId = Annotated[int, Path(ge=1, lt=2**31)]


class Price(BaseModel):
    price_cents: Annotated[int, Field(ge=0, lt=2**31)]


async def load_price(request: Request, product_id: int) -> int:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as connection:
        price: int | None = await connection.fetchval(
            "SELECT price_cents FROM prices WHERE product_id = $1", product_id
        )
    if price is None:
        raise HTTPException(404, "No such product")
    return price


@app.get("/prices/{product_id}")
async def read_price(product_id: ProductId, request: Request) -> Price:
    # The braces put all three keys into one hash slot, so that the scripts work on Redis Cluster too.
    cache, key = request.app.state.cache, f"price:{{{product_id}}}"
    mine = secrets.token_hex(8)
    try:
        cached = await cache.get(key)
        if cached is not None:
            return Price(price_cents=int(cached))
        # Readers that miss together share the lease of the first: each may fill the cache unless somebody writes.
        token = await cache.set(f"{key}:lease", mine, nx=True, get=True, ex=LEASE_TTL_S) or mine
    except RedisError as problem:
        log.warning("the cache is away: %r", problem)
        token = None  # Redis is away: read the database and fill nothing
    price = await load_price(request, product_id)
    if token is not None:
        # A write that happened during the load has revoked the lease: then nothing is put back.
        with suppress(RedisError):
            await cache.eval(FILL, 3, key, f"{key}:lease", f"{key}:writers", token, CACHE_TTL_S, price)
    return Price(price_cents=price)


@app.put("/prices/{product_id}", status_code=204)
async def set_price(product_id: ProductId, new: Price, request: Request) -> None:
    cache, key = request.app.state.cache, f"price:{{{product_id}}}"
    mine = secrets.token_hex(8)
    # Before the write: if this worker dies after its commit, or Redis does, the old price is gone and stays away.
    await cache.eval(BEGIN, 3, key, f"{key}:lease", f"{key}:writers", mine, LEASE_TTL_S)
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as connection:
        done = await connection.execute(
            "UPDATE price_rows SET price_cents = $2 WHERE product_id = $1", product_id, new.price_cents
        )
    # After the commit: what readers load from now on is the new price, so they may fill the cache again.
    with suppress(RedisError):  # otherwise the mark expires by itself
        async with cache.pipeline(transaction=True) as pipe:
            await pipe.zrem(f"{key}:writers", mine).delete(key, f"{key}:lease").execute()
    if done == "UPDATE 0":
        raise HTTPException(404, "No such product")
