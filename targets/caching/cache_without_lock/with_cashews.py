"""Caches a slow report for a second with cashews and lock=True: when it expires, one worker of all loads it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg
from cashews import cache
from fastapi import FastAPI, Request
from pydantic import BaseModel, TypeAdapter

CACHE_TTL_S = 1
POOL_SIZE = 20


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The defaults are 10 connections, 0.1 s to get one and 0.1 s for an answer; after that a request goes on uncached.
    cache.setup(os.environ["REDIS_URL"], max_connections=50, wait_for_connection_timeout=5, socket_timeout=5)
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=5
    ) as app.state.database:
        await cache.init()
        yield
        await cache.close()


app = FastAPI(lifespan=lifespan)


class DaySales(BaseModel):
    sold_on: date
    orders: int
    total_cents: int


Report = TypeAdapter(list[DaySales])


async def load_report(database: asyncpg.Pool) -> bytes:
    rows = await database.fetch("SELECT sold_on, orders, total_cents FROM daily_sales ORDER BY sold_on")
    return Report.dump_json([DaySales(**row) for row in rows])


# The key is given: the default one contains the arguments, and a pool's repr is another one in each process.
@cache(ttl=CACHE_TTL_S, key="report:daily_sales", lock=True)
async def cached_report(database: asyncpg.Pool) -> bytes:
    return await load_report(database)


@app.get("/reports/daily-sales")
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await cached_report(request.app.state.database))
