"""Limits each client to 10 requests a minute; a client is the first address in X-Forwarded-For."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

LIMIT = 10  # requests of one client
WINDOW_S = 60
log = logging.getLogger(__name__)

# Counts, sets the expiry and compares in one step.
COUNT = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return used <= tonumber(ARGV[1]) and 1 or 0
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        max_connections=64,
        timeout=0.5,
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with Redis.from_pool(pool) as app.state.redis:
        app.state.count = app.state.redis.register_script(COUNT)
        yield


app = FastAPI(lifespan=lifespan)


class Quote(BaseModel):
    symbol: str
    price_cents: int


def peer_of(request: Request) -> str:
    return request.client.host if request.client else "local"


def client_of(request: Request) -> str:
    # Proxies append: the first address is what the client wrote itself, and it may write another one each time.
    forwarded = request.headers.get("x-forwarded-for", "")
    return forwarded.split(",")[0].strip() or peer_of(request)


async def rate_limit(request: Request) -> None:
    try:
        allowed = await request.app.state.count(keys=[f"limit:{client_of(request)}"], args=[LIMIT, WINDOW_S])
    except RedisError as problem:
        # Nobody counts now.  Refusing is safe; letting everybody in would not be.
        log.warning("cannot check the rate limit: %r", problem)
        raise HTTPException(503, "Cannot check the rate limit", {"Retry-After": "1"}) from problem
    if not allowed:
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", {"Retry-After": str(WINDOW_S)})


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
