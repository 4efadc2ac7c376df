"""Caches a slow report for a second, without a lock: when it expires, every request in flight loads it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg
from fastapi import FastAPI, Request
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import BlockingConnectionPool, Redis

CACHE_TTL_S = 1
POOL_SIZE = 20
REPORT_KEY = "report:daily_sales"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=5)
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=5) as app.state.database,
    ):
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


async def cached_report(cache: Redis, database: asyncpg.Pool) -> bytes | str:
    report = await cache.get(REPORT_KEY)
    if report is None:
        # Every request that finds nothing loads: one query for each request that arrives during the first load.
        report = await load_report(database)
        await cache.set(REPORT_KEY, report, ex=CACHE_TTL_S)
    return report


@app.get("/reports/daily-sales")
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await cached_report(request.app.state.cache, request.app.state.database))
