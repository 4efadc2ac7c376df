"""Caches a slow report for a second with fastapi-cache2 as its README shows it: when it expires, every request in flight loads it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg
from fastapi import FastAPI, Request
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import BlockingConnectionPool, Redis

CACHE_TTL_S = 1
POOL_SIZE = 20


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=5)
    async with (
        Redis.from_pool(redis_pool) as redis,
        asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=5) as app.state.database,
    ):
        FastAPICache.init(RedisBackend(redis), prefix="report")
        yield


app = FastAPI(lifespan=lifespan)


class DaySales(BaseModel):
    sold_on: date
    orders: int
    total_cents: int


Report = TypeAdapter(list[DaySales])


async def load_report(database: asyncpg.Pool) -> bytes:
    rows = await database.fetch("SELECT sold_on, orders, total_cents FROM daily_sales ORDER BY sold_on")
    return Report.dump_json([DaySales(**row) for row in rows])


# The decorator hides the return annotation from FastAPI, so the model is named here. It has no lock.
@app.get("/reports/daily-sales", response_model=list[DaySales])
@cache(expire=CACHE_TTL_S)
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await load_report(request.app.state.database))
