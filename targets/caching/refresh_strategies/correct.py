"""Caches reports, and serves the old one while a new one is built: by one task of all workers, at a time of its own."""

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

POOL_SIZE = 20
JITTER = 0.25  # of a report's age
STALE_TTL_S = 3600  # an old report is kept this long, for when no new one can be had
BUILD_TIMEOUT_S = 8.0
LEASE_S = 10.0  # of the lock: longer than a build may take: it has been given up by then
POLL_S = 0.02

# Deletes the lock only while it is ours: it may have expired and belong to another by now.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

log = logging.getLogger(__name__)
building: set[asyncio.Task[None]] = set()  # the event loop itself keeps only weak references to its tasks


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    redis_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=50, timeout=5)
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE) as app.state.database,
    ):
        yield
        await asyncio.gather(*building)


app = FastAPI(lifespan=lifespan)

ReportName = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]


class Report(BaseModel):
    name: str
    body: str


async def build_report(database: asyncpg.Pool, name: str) -> tuple[bytes, float]:
    row = await database.fetchrow("SELECT body, max_age_s FROM build_report($1)", name)
    if row is None:
        raise HTTPException(404, "No such report")
    return Report(name=name, body=row["body"]).model_dump_json().encode(), row["max_age_s"]


async def refresh(cache: Redis, database: asyncpg.Pool, name: str, token: str) -> None:
    key = f"report:{name}"
    try:
        if not await cache.exists(f"{key}:fresh"):  # another may have built between our look and our lock
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                report, max_age_s = await build_report(database, name)
            fresh_s = max_age_s * random.uniform(1 - JITTER, 1 + JITTER)
            async with cache.pipeline(transaction=True) as pipe:
                pipe.setex(key, STALE_TTL_S, report)
                pipe.set(f"{key}:fresh", 1, px=int(fresh_s * 1000))
                await pipe.execute()
    finally:
        await cache.eval(RELEASE, 1, f"{key}:lock", token)


async def refresh_later(cache: Redis, database: asyncpg.Pool, name: str, token: str) -> None:
    try:
        await refresh(cache, database, name, token)
    except Exception:
        log.exception("report %s: the old one stays", name)


async def cached_report(cache: Redis, database: asyncpg.Pool, name: str) -> bytes | str:
    key, token, deadline = f"report:{name}", secrets.token_hex(16), time.monotonic() + LEASE_S
    while time.monotonic() < deadline:
        report, fresh = await cache.mget(key, f"{key}:fresh")
        if report is not None and fresh is not None:
            return report
        if await cache.set(f"{key}:lock", token, nx=True, px=int(LEASE_S * 1000)):
            if report is None:
                await refresh(cache, database, name, token)
                continue
            task = asyncio.create_task(refresh_later(cache, database, name, token))
            building.add(task)
            task.add_done_callback(building.discard)
        # Nobody waits for a build as long as there is an old report; only where there has never been one.
        if report is not None:
            return report
        await asyncio.sleep(POLL_S)
    raise HTTPException(503, "The report is being built", headers={"Retry-After": "1"})


@app.get("/reports/{name}")
async def read_report(name: ReportName, request: Request) -> Report:
    report = await cached_report(request.app.state.cache, request.app.state.database, name)
    return Report.model_validate_json(report)
