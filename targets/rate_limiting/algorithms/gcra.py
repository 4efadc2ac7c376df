"""Limits each client to 20 requests in 3 s, evenly but for a burst of 5, by one timestamp."""

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
BURST = 5

# The time at which the client would be even: each request moves it on by a slot, and it may be four slots ahead of now.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local limit, window_us = tonumber(ARGV[1]), ARGV[2] * 1000000
local slot_us = window_us / limit
local even_us = math.max(tonumber(redis.call('GET', KEYS[1]) or now_us), now_us)
local early_us = even_us - (ARGV[3] - 1) * slot_us - now_us
if early_us > 0 then
    return math.ceil(early_us)
end
redis.call('SET', KEYS[1], string.format('%.0f', even_us + slot_us), 'PX', math.ceil((even_us + slot_us - now_us) / 1000))
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
    wait_us = int(await request.app.state.limiter(keys=[f"limit:{x_api_key}"], args=[LIMIT, WINDOW_S, BURST]))
    if wait_us > 0:
        headers = {"Retry-After": str(math.ceil(wait_us / 1e6))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
