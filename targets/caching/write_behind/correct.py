"""Counts page views in Redis, and adds them to the database every few seconds, each batch once."""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

FLUSH_S = float(os.environ.get("FLUSH_S", "5"))
ADD = """INSERT INTO pages (page, views) SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (page) DO UPDATE SET views = pages.views + excluded.views"""
# The views so far become a batch with a name; what is counted from now on is the next one.  One slot of a cluster: {views}.
CUT = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
return redis.call('SADD', KEYS[3], KEYS[2])
"""
VIEWS, BATCHES = "{views}:now", "{views}:batches"
log = logging.getLogger(__name__)
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    RedisError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


async def flush(state: Any) -> None:
    await state.cut(keys=[VIEWS, f"{{views}}:batch:{uuid.uuid4().hex}", BATCHES])
    for batch in await state.redis.smembers(BATCHES):  # also those of a process that has died
        views = {page.decode(): int(count) for page, count in (await state.redis.hgetall(batch)).items()}
        async with state.database.acquire(timeout=1) as connection, connection.transaction():
            # The name of the batch is written with its views: who comes second finds it and adds nothing.
            first = "INSERT INTO batches (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name"
            if await connection.fetchval(first, batch.decode()) is not None:
                await connection.execute(ADD, list(views), list(views.values()))
        await state.redis.pipeline().delete(batch).srem(BATCHES, batch).execute()


async def keep_flushing(state: Any) -> None:
    while True:
        try:
            await flush(state)
        except AWAY as problem:
            log.warning("cannot save the views yet: %r", problem)
        await asyncio.sleep(FLUSH_S)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    waits = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=32, timeout=0.5, **waits
    )
    async with (
        Redis.from_pool(pool) as app.state.redis,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=0, max_size=5, timeout=2, command_timeout=1
        ) as app.state.database,
    ):
        app.state.cut = app.state.redis.register_script(CUT)
        flushing = asyncio.create_task(keep_flushing(app.state))
        yield
        flushing.cancel()


app = FastAPI(lifespan=lifespan)
Page = Annotated[str, Path(pattern="^[a-z0-9-]{1,50}$")]


class Views(BaseModel):
    page: str
    views: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/pages/{page}/views", status_code=204)
async def count_view(page: Page, request: Request) -> None:
    # Acknowledged, and in Redis, which a crash of this process does not concern.
    try:
        await request.app.state.redis.hincrby(VIEWS, page, 1)
    except RedisError as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/pages/{page}/views")
async def read_views(page: Page, request: Request) -> Views:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            views = await connection.fetchval("SELECT views FROM pages WHERE page = $1", page)
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Views(page=page, views=views or 0)
