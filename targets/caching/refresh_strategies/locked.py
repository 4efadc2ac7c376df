"""Caches reports until they expire; then one request builds, with a lock of 0.25 s, and the others wait."""

import asyncio
import os
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
LOCK_TTL_S = 0.25  # two and a half times what a build took when this was written
POLL_S = 0.02
WAIT_S = 5.0

# Deletes the lock only while it is ours: it may have expired and belong to another by now.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


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


async def build_report(database: asyncpg.Pool, name: str) -> tuple[bytes, float]:
    row = await database.fetchrow("SELECT body, max_age_s FROM build_report($1)", name)
    if row is None:
        raise HTTPException(404, "No such report")
    return Report(name=name, body=row["body"]).model_dump_json().encode(), row["max_age_s"]


async def cached_report(cache: Redis, database: asyncpg.Pool, name: str) -> bytes | str:
    token, deadline = secrets.token_hex(16), time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        report = await cache.get(f"report:{name}")
        if report is not None:
            return report
        # One builder, but only while the lock lives: during a longer build it expires, and the next one builds too.
        if await cache.set(f"report:{name}:lock", token, nx=True, px=int(LOCK_TTL_S * 1000)):
            try:
                report = await cache.get(f"report:{name}")
                if report is None:
                    report, max_age_s = await build_report(database, name)
                    await cache.set(f"report:{name}", report, px=int(max_age_s * 1000))
                return report
            finally:
                await cache.eval(RELEASE, 1, f"report:{name}:lock", token)
        await asyncio.sleep(POLL_S)
    raise HTTPException(503, "The report is being built", headers={"Retry-After": "1"})


@app.get("/reports/{name}")
async def read_report(name: ReportName, request: Request) -> Report:
    report = await cached_report(request.app.state.cache, request.app.state.database, name)
    return Report.model_validate_json(report)
