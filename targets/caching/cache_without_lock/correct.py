"""Caches a slow report for a second, with a lock in Redis: when it expires, one request of all workers loads it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date

import asyncpg
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

CACHE_TTL_S = 1
POOL_SIZE = 20
STALE_TTL_S = 3600  # an old report is kept this long, for when no new one can be had
RETRY_S = 1  # after a failed load nobody tries again for this long
ACQUIRE_S, QUERY_S = 0.3, 1.0
LOCK_TTL_S = 2.0  # longer than a load can take: wait for a connection, query, return the connection: 0.3 + 1.0 + 0.3 s
WAIT_S = 3.0  # more than LOCK_TTL_S and a usual load: enough to take over from a holder that died
POLL_S = 0.05
# The braces put the keys into one hash slot, so that MGET and the transaction work on Redis Cluster too.
REPORT_KEY = "report:{daily_sales}"
STATE_KEY = "report:{daily_sales}:state"  # "loaded" for CACHE_TTL_S or "failed" for RETRY_S; missing: a load is due
LOCK_KEY = "report:{daily_sales}:lock"
AWAY = (RedisError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)  # TimeoutError is an OSError

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=1, socket_timeout=0.5, socket_connect_timeout=0.5
    )  # fmt: skip
    app.state.refreshing = None
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=QUERY_S
        ) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class DaySales(BaseModel):
    sold_on: date
    orders: int
    total_cents: int


Report = TypeAdapter(list[DaySales])


async def load_report(database: asyncpg.Pool) -> bytes:
    async with database.acquire(timeout=ACQUIRE_S) as connection:  # its time-out also bounds the connection's return
        rows = await connection.fetch("SELECT sold_on, orders, total_cents FROM daily_sales ORDER BY sold_on")
    return Report.dump_json([DaySales(**row) for row in rows])


async def load_or_mark(cache: Redis, database: asyncpg.Pool) -> bytes:
    try:
        return await load_report(database)
    except Exception:
        log.warning("daily_sales: the load failed", exc_info=True)
        with suppress(RedisError):
            await cache.set(STATE_KEY, "failed", ex=RETRY_S)
        raise


def unavailable() -> HTTPException:
    return HTTPException(503, "The report cannot be loaded now", headers={"Retry-After": str(RETRY_S)})


async def look(cache: Redis) -> tuple[bytes | str | None, bytes | str | None]:
    """The last report, and the same again where it may be served at once: it is fresh, or a load has just failed."""
    report, state = await cache.mget(REPORT_KEY, STATE_KEY)
    if report is None and state == b"failed":
        raise unavailable()
    return report, report if state is not None else None


async def refresh(cache: Redis, database: asyncpg.Pool) -> bytes | str:
    report: bytes | str | None = None
    async with asyncio.timeout(WAIT_S):
        try:
            # One worker of all holds the lock and loads; the others wait for it, then find the report. The lock has a
            # unique token, so that a holder that was too slow does not release the lock of the next one.
            async with cache.lock(LOCK_KEY, timeout=LOCK_TTL_S, sleep=POLL_S, raise_on_release_error=False):
                _, report = await look(cache)  # another may have loaded between our look and our lock
                if report is None:
                    report = await load_or_mark(cache, database)
                    async with cache.pipeline(transaction=True) as pipe:
                        pipe.set(REPORT_KEY, report, ex=STALE_TTL_S)
                        pipe.set(STATE_KEY, "loaded", ex=CACHE_TTL_S)
                        await pipe.execute()
        except RedisError:
            log.warning("daily_sales: Redis is away", exc_info=True)
        # Without Redis there is no lock, but this is still the only load of this worker.
        return report if report is not None else await load_report(database)


async def cached_report(app: FastAPI) -> bytes | str:
    stale: bytes | str | None = None
    with suppress(RedisError):  # refresh() loads without Redis
        stale, report = await look(app.state.cache)
        if report is not None:
            return report
    # All requests of this worker wait for one task, so a worker loads once even without Redis.
    task: asyncio.Task[bytes | str] | None = app.state.refreshing
    if task is None or task.done():
        task = app.state.refreshing = asyncio.create_task(refresh(app.state.cache, app.state.database))
    try:
        return await asyncio.shield(task)  # a client that leaves does not stop the load that others wait for
    except AWAY:
        if stale is None:
            raise unavailable() from None
        return stale


@app.get("/reports/daily-sales")
async def read_daily_sales(request: Request) -> list[DaySales]:
    return Report.validate_json(await cached_report(request.app))
