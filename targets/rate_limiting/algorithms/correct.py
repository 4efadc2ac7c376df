"""Limits each client to 20 requests in any 3 s, by a log of the admitted ones."""

import math
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

LIMIT = 20  # requests
WINDOW_S = 3

# The time of every admitted request: what lies within the last window is counted, whenever that is.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local limit, window_us = tonumber(ARGV[1]), ARGV[2] * 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_us - window_us)
if redis.call('ZCARD', KEYS[1]) >= limit then
    return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window_us - now_us
end
redis.call('ZADD', KEYS[1], now_us, ARGV[3])
redis.call('PEXPIRE', KEYS[1], window_us / 1000)
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
    wait_us = int(
        await request.app.state.limiter(keys=[f"limit:{x_api_key}"], args=[LIMIT, WINDOW_S, uuid.uuid4().hex])
    )
    if wait_us > 0:
        headers = {"Retry-After": str(math.ceil(wait_us / 1e6))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
