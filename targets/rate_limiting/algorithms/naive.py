"""Limits each client to 20 requests in 3 s with a fixed window: a counter that starts again with each window of the clock."""

import hashlib
import logging
import math
import os
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

LIMIT = 20  # requests
WINDOW_S = 3
log = logging.getLogger(__name__)

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}

# One counter for each window of the clock: a client that comes at the end of one and at the beginning of the next gets both.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local limit, window_us = tonumber(ARGV[1]), ARGV[2] * 1000000
local index = math.floor(now_us / window_us)
if tonumber(redis.call('HGET', KEYS[1], 'index')) ~= index then
    redis.call('HSET', KEYS[1], 'index', index, 'count', 0)
    redis.call('PEXPIRE', KEYS[1], window_us / 1000)
end
if tonumber(redis.call('HGET', KEYS[1], 'count')) >= limit then
    return (index + 1) * window_us - now_us
end
redis.call('HINCRBY', KEYS[1], 'count', 1)
return 0
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Every request waits for Redis, so it must fail fast, and a request that timed out must not be counted twice by a retry.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        max_connections=32,
        timeout=0.5,  # for a free connection
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with Redis.from_pool(pool) as redis:
        app.state.limiter = redis.register_script(SCRIPT)
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


async def rate_limit(client: Annotated[str, Depends(client_of)], request: Request) -> None:
    try:
        # The script returns 0, or the microseconds to wait; Redis runs it whole and its clock is the only one.
        wait_us = int(await request.app.state.limiter(keys=[f"limit:{client}"], args=[LIMIT, WINDOW_S]))
    except RedisError as problem:  # nobody counts now: refusing is safe
        log.warning("cannot check the rate limit: %r", problem)
        raise HTTPException(503, "Cannot check the rate limit", {"Retry-After": "1"}) from problem
    if wait_us > 0:
        headers = {"Retry-After": str(math.ceil(wait_us / 1e6))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
