"""Caches a slow report for a second, with a lock in Redis: when it expires, one request of all workers loads it."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import BlockingConnectionPool, Redis

CACHE_TTL_S = 1
POOL_SIZE = 20
STALE_TTL_S = 3600  # an old report is kept this long, for when no new one can be had
LOCK_TTL_S = 2.0  # eight times a load; how long the others wait for a holder that died
WAIT_S = 3.0  # more than LOCK_TTL_S and a load
POLL_S = 0.05
REPORT_KEY = "report:daily_sales"
FRESH_KEY = "report:daily_sales:fresh"
LOCK_KEY = "report:daily_sales:lock"

# Deletes the lock only while it is ours: it may have expired and belong to another by now.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    redis_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=50, timeout=5)
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE) as app.state.database,
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


async def refresh(cache: Redis, database: asyncpg.Pool) -> bytes:
    report = await load_report(database)
    async with cache.pipeline(transaction=True) as pipe:
        pipe.setex(REPORT_KEY, STALE_TTL_S, report)
        pipe.setex(FRESH_KEY, CACHE_TTL_S, "1")
        await pipe.execute()
    return report


async def cached_report(cache: Redis, database: asyncpg.Pool) -> bytes | str:
    token, deadline = "", 0.0
    while True:
        report, fresh = await cache.mget(REPORT_KEY, FRESH_KEY)
        if report is not None and fresh is not None:
            return report
        if not token:
            token, deadline = secrets.token_hex(16), time.monotonic() + WAIT_S
        # One request of all workers gets the lock and loads; the others look again until it has.
        if await cache.set(LOCK_KEY, token, nx=True, px=int(LOCK_TTL_S * 1000)):
            try:
                # Another may have loaded between our look and our lock.
                if await cache.get(FRESH_KEY) is None:
                    return await refresh(cache, database)
            finally:
                await cache.eval(RELEASE, 1, LOCK_KEY, token)
        elif time.monotonic() >= deadline:
            if report is None:
                raise HTTPException(503, "The report is being prepared", headers={"Retry-After": "1"})
            return report
        else:
            await asyncio.sleep(POLL_S)


@app.get("/reports/daily-sales")
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await cached_report(request.app.state.cache, request.app.state.database))
