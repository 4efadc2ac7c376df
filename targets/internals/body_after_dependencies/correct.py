"""Takes reports; who asks is a dependency, the quota and its count are called by the route, after the body has been validated."""

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

DAY_S = 86_400
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


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    waits = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=32, timeout=0.5, **waits
    )
    url = os.environ["DATABASE_URL"]
    async with (
        Redis.from_pool(pool) as app.state.redis,
        asyncpg.create_pool(url, min_size=5, max_size=5, timeout=2, command_timeout=1) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewReport(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=200)]
    rows: Annotated[int, Field(ge=1, le=1_000_000)]


class Report(NewReport):
    id: int


@asynccontextmanager
async def services(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            yield connection
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def current_user(bearer: Bearer, request: Request) -> int:
    digest = hashlib.sha256(bearer.credentials.encode()).hexdigest()
    async with services(request) as connection:
        user_id: int | None = await connection.fetchval("SELECT id FROM users WHERE token_digest = $1", digest)
    if user_id is None:
        raise HTTPException(401, "Unknown token", {"WWW-Authenticate": "Bearer"})
    return user_id


UserId = Annotated[int, Depends(current_user)]


async def quota_of(user_id: int, request: Request) -> int:
    query = "SELECT p.reports_per_day FROM users u JOIN plans p ON p.name = u.plan WHERE u.id = $1"
    async with services(request) as connection:
        quota: int = await connection.fetchval(query, user_id)
    return quota


async def spend_quota(user_id: int, quota: int, request: Request) -> None:
    async with services(request):
        count = (
            request.app.state.redis.pipeline().incr(f"reports:{user_id}").expire(f"reports:{user_id}", DAY_S, nx=True)
        )
        used, _ = await count.execute()
    if used > quota:
        raise HTTPException(429, "No reports left for today")


@app.post("/reports", status_code=201)
async def create_report(new: NewReport, user_id: UserId, request: Request) -> Report:
    # The body is valid when this runs: only now are the quota looked up and a report counted.
    await spend_quota(user_id, await quota_of(user_id, request), request)
    query = "INSERT INTO reports (user_id, title, rows) VALUES ($1, $2, $3) RETURNING id"
    async with services(request) as connection:
        report_id = await connection.fetchval(query, user_id, new.title, new.rows)
    return Report(id=report_id, **new.model_dump())
