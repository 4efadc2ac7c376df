"""Caches reports and serves the old one while one task of all workers builds the new one (stale-while-revalidate)."""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

POOL_SIZE = 20
JITTER = 0.25  # of a report's age
STALE_TTL_S = 3600  # an old report is kept this long, for when no new one can be had
RETRY_S = 1  # after a failed build nobody tries again for this long
ACQUIRE_S, BUILD_S = 0.5, 1.2  # several times what a build usually takes
LEASE_S = 3.0  # longer than a build can take: wait for a connection, build, return the connection: 0.5 + 1.2 + 0.5 s
FIRST_WAIT_S = 2.5  # only for a report that has never been built
AWAY = (RedisError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)  # TimeoutError is an OSError

log = logging.getLogger(__name__)
building: dict[str, asyncio.Task[bytes | str]] = {}  # keeps the tasks alive: the event loop has only weak references


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    redis_pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=1, socket_timeout=0.5, socket_connect_timeout=0.5
    )  # fmt: skip
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE, command_timeout=BUILD_S
        ) as app.state.database,
    ):
        yield
        for task in building.values():
            task.cancel()  # it releases its lock, and another worker builds
        await asyncio.gather(*building.values(), return_exceptions=True)


app = FastAPI(lifespan=lifespan)

ReportName = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]


class Report(BaseModel):
    name: str
    body: str


async def build_report(database: asyncpg.Pool, name: str) -> tuple[bytes, float]:
    async with database.acquire(timeout=ACQUIRE_S) as connection:  # its time-out also bounds the connection's return
        row = await connection.fetchrow("SELECT body, max_age_s FROM build_report($1)", name)
    if row is None:
        raise HTTPException(404, "No such report")
    return Report(name=name, body=row["body"]).model_dump_json().encode(), row["max_age_s"]


async def build_or_mark(cache: Redis, database: asyncpg.Pool, name: str, key: str) -> tuple[bytes, int]:
    try:
        report, max_age_s = await build_report(database, name)
    except Exception as problem:
        state = "missing" if isinstance(problem, HTTPException) else "failed"
        with suppress(RedisError):
            await cache.set(f"{key}:state", state, ex=RETRY_S)
        raise
    return report, int(1000 * max_age_s * random.uniform(1 - JITTER, 1 + JITTER))


async def look(cache: Redis, key: str) -> tuple[bytes | str | None, bool]:
    """The report, if there is one, and whether a build is due: it is too old, and no build has failed just now."""
    report, state = await cache.mget(key, f"{key}:state")
    if report is None and state == b"missing":
        raise HTTPException(404, "No such report")
    if report is None and state == b"failed":
        raise HTTPException(503, "The report cannot be built now", headers={"Retry-After": str(RETRY_S)})
    return report, report is None or state is None


async def refresh(cache: Redis, database: asyncpg.Pool, name: str, key: str) -> bytes | str:
    report: bytes | str | None = None
    lock = cache.lock(f"{key}:lock", timeout=LEASE_S, sleep=0.05, raise_on_release_error=False)
    try:
        async with asyncio.timeout(2 * LEASE_S), lock:
            report, due = await look(cache, key)  # another may have built between our look and our lock
            if report is None or due:
                report, fresh_ms = await build_or_mark(cache, database, name, key)
                async with cache.pipeline(transaction=True) as pipe:
                    pipe.set(key, report, ex=STALE_TTL_S)
                    pipe.set(f"{key}:state", "fresh", px=fresh_ms)
                    await pipe.execute()
    except RedisError:
        log.warning("report %s: Redis is away", name, exc_info=True)
    return report if report is not None else (await build_report(database, name))[0]  # no lock, but one per worker


def refresh_once(app: FastAPI, name: str, key: str) -> asyncio.Task[bytes | str]:
    def finish(done: asyncio.Task[bytes | str]) -> None:
        del building[name]
        if not done.cancelled() and (problem := done.exception()) and not isinstance(problem, HTTPException):
            log.warning("report %s was not built, the old one stays", name, exc_info=problem)

    if name not in building:
        building[name] = asyncio.create_task(refresh(app.state.cache, app.state.database, name, key))
        building[name].add_done_callback(finish)
    return building[name]


@app.get("/reports/{name}")
async def read_report(name: ReportName, request: Request) -> Report:
    key = f"report:{{{name}}}"  # the braces put all keys of a report into one hash slot of a Redis Cluster
    try:
        report, due = await look(request.app.state.cache, key)
    except RedisError:
        report, due = None, True
    if due:
        task = refresh_once(request.app, name, key)
    # Nobody waits for a build while there is an old report; only if there has never been one.
    if report is None:
        try:
            report = await asyncio.wait_for(asyncio.shield(task), FIRST_WAIT_S)
        except AWAY:
            raise HTTPException(503, "The report cannot be built now", headers={"Retry-After": str(RETRY_S)}) from None
    return Report.model_validate_json(report)
