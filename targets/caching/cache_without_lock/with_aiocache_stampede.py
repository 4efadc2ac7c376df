"""Caches a slow report for a second with aiocache's @cached_stampede: when it expires, one request of one worker loads, and all of the others."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from urllib.parse import urlsplit

import asyncpg
from aiocache import Cache, cached_stampede
from aiocache.serializers import NullSerializer
from fastapi import FastAPI, Request
from pydantic import BaseModel, TypeAdapter

CACHE_TTL_S = 1
POOL_SIZE = 20
REDIS = urlsplit(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=5
    ) as app.state.database:
        yield
        await cached_report.cache.close()


app = FastAPI(lifespan=lifespan)


class DaySales(BaseModel):
    sold_on: date
    orders: int
    total_cents: int


Report = TypeAdapter(list[DaySales])


async def load_report(database: asyncpg.Pool) -> bytes:
    rows = await database.fetch("SELECT sold_on, orders, total_cents FROM daily_sales ORDER BY sold_on")
    return Report.dump_json([DaySales(**row) for row in rows])


# The lock is in Redis, but who waits for it waits for an asyncio.Event of the own worker: without one it goes on and loads.
@cached_stampede(  # type: ignore[untyped-decorator]
    ttl=CACHE_TTL_S, key="report:daily_sales", cache=Cache.REDIS, serializer=NullSerializer(),
    endpoint=REDIS.hostname, port=REDIS.port, password=REDIS.password, db=int(REDIS.path[1:] or 0),
)  # fmt: skip
async def cached_report(database: asyncpg.Pool) -> bytes:
    return await load_report(database)


@app.get("/reports/daily-sales")
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await cached_report(request.app.state.database))
