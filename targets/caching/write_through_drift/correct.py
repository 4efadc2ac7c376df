"""Changes prices in the database and then in the cache, where only a higher version replaces what is there."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TTL_S = 60
NEWER = """
local kept = redis.call('HGET', KEYS[1], 'version')
if kept and tonumber(kept) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'cents', ARGV[2])
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
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
    waits = {"socket_connect_timeout": 1.5, "socket_timeout": 1.5, "retry": Retry(NoBackoff(), 0)}
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=32, timeout=0.5, **waits
    )
    async with (
        Redis.from_pool(pool) as app.state.redis,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=5, max_size=5, timeout=2, command_timeout=1
        ) as app.state.database,
    ):
        app.state.newer = app.state.redis.register_script(NEWER)
        yield


app = FastAPI(lifespan=lifespan)
Sku = Annotated[str, Path(pattern="^[A-Z0-9-]{1,20}$")]
UPDATE = "UPDATE prices SET cents = $2, version = version + 1 WHERE sku = $1 RETURNING version"


class NewPrice(BaseModel):
    cents: Annotated[int, Field(ge=0, lt=2**31)]


class Price(NewPrice):
    sku: str


@asynccontextmanager
async def database(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@contextmanager
def cache_may_be_away() -> Iterator[None]:
    try:
        yield
    except RedisError as problem:  # a cache that is away is a cache that is empty; whoever runs it wants to know
        log.warning("No cache: %r", problem)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def keep(sku: str, cents: int, version: int, request: Request) -> None:
    try:
        # The version comes from the row, so its order is that of the commits: an older value never replaces a newer one.
        await request.app.state.newer(keys=[f"price:{sku}"], args=[version, cents, TTL_S])
    except RedisError as problem:  # what is kept is old until it expires
        log.warning("cannot keep the price: %r", problem)


@app.put("/prices/{sku}")
async def change_price(sku: Sku, new: NewPrice, request: Request) -> Price:
    async with database(request) as connection:
        version = await connection.fetchval(UPDATE, sku, new.cents)
    if version is None:
        raise HTTPException(404, "No such product")
    await keep(sku, new.cents, version, request)
    return Price(sku=sku, cents=new.cents)


@app.get("/prices/{sku}")
async def read_price(sku: Sku, request: Request) -> Price:
    kept = None
    with cache_may_be_away():
        kept = await request.app.state.redis.hget(f"price:{sku}", "cents")
    if kept is None:
        async with database(request) as connection:
            row = await connection.fetchrow("SELECT cents, version FROM prices WHERE sku = $1", sku)
        if row is None:
            raise HTTPException(404, "No such product")
        kept = row["cents"]
        await keep(sku, kept, row["version"], request)
    return Price(sku=sku, cents=int(kept))
