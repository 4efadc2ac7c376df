"""Limits each client to about 20 requests in 3 s, by two counters and the share of the last window that still counts."""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

LIMIT = 20  # requests
WINDOW_S = 3

# Assumes that the last window's requests were spread evenly over it: they need not have been.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local limit, window_us = tonumber(ARGV[1]), ARGV[2] * 1000000
local index, passed = math.floor(now_us / window_us), (now_us % window_us) / window_us
local seen = tonumber(redis.call('HGET', KEYS[1], 'index') or -1)
if seen ~= index then
    local last = seen == index - 1 and redis.call('HGET', KEYS[1], 'count') or 0
    redis.call('HSET', KEYS[1], 'index', index, 'count', 0, 'last', last)
    redis.call('PEXPIRE', KEYS[1], 2 * window_us / 1000)
end
local count, last = tonumber(redis.call('HGET', KEYS[1], 'count')), tonumber(redis.call('HGET', KEYS[1], 'last'))
if last * (1 - passed) + count + 1 > limit then
    return window_us / limit
end
redis.call('HINCRBY', KEYS[1], 'count', 1)
return 0
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=32, timeout=5)
    async with Redis.from_pool(pool) as redis:
        app.state.limiter = redis.register_script(SCRIPT)
        yield


app = FastAPI(lifespan=lifespan)


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def rate_limit(x_api_key: Annotated[str, Header(pattern=r"^[\w-]{1,64}$")], request: Request) -> None:
    # The script returns 0, or the microseconds to wait; Redis runs it whole and its clock is the only one.
    wait_us = int(await request.app.state.limiter(keys=[f"limit:{x_api_key}"], args=[LIMIT, WINDOW_S]))
    if wait_us > 0:
        headers = {"Retry-After": str(math.ceil(wait_us / 1e6))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
