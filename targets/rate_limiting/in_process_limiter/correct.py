"""Limits each client to 100 requests a minute with one log in Redis: all workers together grant 100."""

import hashlib
import logging
import math
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

LIMIT = 100  # requests
WINDOW_S = 60
log = logging.getLogger(__name__)

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}

# Redis runs a script whole: nothing comes between looking and writing.  Its clock is the only one; times are in microseconds.
SLIDING_WINDOW = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local window_us = ARGV[2] * 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_us - window_us)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
    return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window_us - now_us
end
redis.call('ZADD', KEYS[1], now_us, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
return 0
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Every request waits for Redis, so it must fail fast, and a request that timed out must not be counted twice by a retry.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        max_connections=32,
        timeout=0.5,  # for a free connection; redis-py's default pool raises when all are taken
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with Redis.from_pool(pool) as redis:
        app.state.sliding_window = redis.register_script(SLIDING_WINDOW)
        yield


app = FastAPI(lifespan=lifespan)


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def client_of(key: Annotated[str, Depends(APIKeyHeader(name="X-API-Key"))]) -> str:
    # Who calls is looked up, not believed: a limit for each name that anybody may make up is no limit.
    client = CLIENTS.get(hashlib.sha256(key.encode()).hexdigest())
    if client is None:
        raise HTTPException(401, "Unknown API key", {"WWW-Authenticate": "APIKey"})
    return client


async def seconds_to_wait(client: str, request: Request) -> float:
    # One log for all processes: with four workers the client still gets one window of 100.
    args = [LIMIT, WINDOW_S, uuid.uuid4().hex]
    try:
        return int(await request.app.state.sliding_window(keys=[f"limit:{client}"], args=args)) / 1e6
    except RedisError as problem:
        # Nobody counts now.  Refusing is safe; `return 0.0` would let everybody in.
        log.warning("cannot check the rate limit: %r", problem)
        raise HTTPException(503, "Cannot check the rate limit", {"Retry-After": "1"}) from problem


async def rate_limit(client: Annotated[str, Depends(client_of)], request: Request) -> None:
    wait_s = await seconds_to_wait(client, request)
    if wait_s > 0:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
