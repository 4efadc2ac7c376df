"""Limits each client to 20 requests in 3 s on average: a bucket of 20 tokens that fills evenly."""

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

# The bucket is full at first and fills while it is emptied: a whole bucket and a whole window's refill are admitted.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local limit, window_us = tonumber(ARGV[1]), ARGV[2] * 1000000
local tokens = tonumber(redis.call('HGET', KEYS[1], 'tokens') or limit)
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or now_us)
tokens = math.min(limit, tokens + (now_us - since) * limit / window_us)
local admitted = tokens >= 1
if admitted then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'since', string.format('%.0f', now_us))
redis.call('PEXPIRE', KEYS[1], window_us / 1000)
return admitted and 0 or math.ceil((1 - tokens) * window_us / limit)
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
