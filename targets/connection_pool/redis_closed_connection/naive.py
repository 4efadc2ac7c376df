"""Reads counters from Redis over a pool as redis-py 8 makes it."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # It speaks RESP3, and then a connection that Redis has closed is not looked at before it is used.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        max_connections=32,
        timeout=0.5,  # for a free connection
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
    )
    async with Redis.from_pool(pool) as app.state.redis:
        yield


app = FastAPI(lifespan=lifespan)


class Visits(BaseModel):
    page: str
    visits: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/pages/{page}")
async def read_visits(page: Annotated[str, Path(pattern="^[a-z0-9-]{1,50}$")], request: Request) -> Visits:
    try:
        visits = await request.app.state.redis.get(f"visits:{page}")
    except RedisError as problem:
        log.warning("Redis is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Visits(page=page, visits=int(visits or 0))
