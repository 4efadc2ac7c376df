"""Caches reports until they expire; then every request that comes builds them again."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

POOL_SIZE = 20


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


@app.get("/reports/{name}")
async def read_report(name: ReportName, request: Request) -> Report:
    cache, database = request.app.state.cache, request.app.state.database
    report = await cache.get(f"report:{name}")
    if report is None:
        report, max_age_s = await build_report(database, name)
        # After the expiry nobody has a report until it is built, and what was stored together expires together.
        await cache.set(f"report:{name}", report, px=int(max_age_s * 1000))
    return Report.model_validate_json(report)
