"""Caches reports until they expire; each request may rebuild them a little earlier, at random (XFetch)."""

import math
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

POOL_SIZE = 20
BETA = 1.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=5)
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)

ReportName = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]


class Report(BaseModel):
    name: str
    body: str


class Cached(BaseModel):
    report: Report
    build_s: float


async def build_report(database: asyncpg.Pool, name: str) -> tuple[Report, float]:
    row = await database.fetchrow("SELECT body, max_age_s FROM build_report($1)", name)
    if row is None:
        raise HTTPException(404, "No such report")
    return Report(name=name, body=row["body"]), row["max_age_s"]


def is_due(build_s: float, left_s: float) -> bool:
    # The nearer the expiry and the longer a build takes, the likelier; it does not know who builds already.
    return -BETA * build_s * math.log(1.0 - random.random()) >= left_s


@app.get("/reports/{name}")
async def read_report(name: ReportName, request: Request) -> Report:
    cache, database, key = request.app.state.cache, request.app.state.database, f"report:{name}"
    async with cache.pipeline(transaction=False) as pipe:
        found, left_ms = await pipe.get(key).pttl(key).execute()
    if found is not None:
        cached = Cached.model_validate_json(found)
        if not is_due(cached.build_s, left_ms / 1000):
            return cached.report
    begin = time.monotonic()
    report, max_age_s = await build_report(database, name)
    stored = Cached(report=report, build_s=time.monotonic() - begin)
    await cache.set(key, stored.model_dump_json(), px=int(max_age_s * 1000))
    return report
