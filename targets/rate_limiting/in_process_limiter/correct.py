"""Limits each client to 100 requests a minute with one log in Redis: all workers together grant 100."""

import math
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

LIMIT = 100  # requests
WINDOW_S = 60

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
    # Waits for a free connection; redis-py's default pool raises when all of them are taken.
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=32, timeout=5)
    async with Redis.from_pool(pool) as redis:
        app.state.sliding_window = redis.register_script(SLIDING_WINDOW)
        yield


app = FastAPI(lifespan=lifespan)


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def seconds_to_wait(client: str, request: Request) -> float:
    # One log for all processes: with four workers the client still gets one window of 100.
    wait_us = await request.app.state.sliding_window(keys=[f"limit:{client}"], args=[LIMIT, WINDOW_S, uuid.uuid4().hex])
    return int(wait_us) / 1e6


async def rate_limit(x_api_key: Annotated[str, Header(max_length=64)], request: Request) -> None:
    wait_s = await seconds_to_wait(x_api_key, request)
    if wait_s > 0:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
