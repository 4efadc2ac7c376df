"""Changes prices in the database and deletes them from the cache; the next reader loads them."""

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
        await request.app.state.redis.set(f"price:{sku}", cents, ex=TTL_S)
    except RedisError as problem:  # what is kept is old until it expires
        log.warning("cannot keep the price: %r", problem)


@app.put("/prices/{sku}")
async def change_price(sku: Sku, new: NewPrice, request: Request) -> Price:
    async with database(request) as connection:
        version = await connection.fetchval(UPDATE, sku, new.cents)
    if version is None:
        raise HTTPException(404, "No such product")
    try:
        # Two deletions have no order that could be wrong.
        await request.app.state.redis.delete(f"price:{sku}")
    except RedisError as problem:
        log.warning("cannot delete the price: %r", problem)
    return Price(sku=sku, cents=new.cents)


@app.get("/prices/{sku}")
async def read_price(sku: Sku, request: Request) -> Price:
    kept = None
    with cache_may_be_away():
        kept = await request.app.state.redis.get(f"price:{sku}")
    if kept is None:
        async with database(request) as connection:
            row = await connection.fetchrow("SELECT cents, version FROM prices WHERE sku = $1", sku)
        if row is None:
            raise HTTPException(404, "No such product")
        kept = row["cents"]
        await keep(sku, kept, row["version"], request)
    return Price(sku=sku, cents=int(kept))
