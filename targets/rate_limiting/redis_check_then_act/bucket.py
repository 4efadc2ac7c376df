"""Limits each client with a token bucket in Redis: reads it, refills and takes in Python, writes it back."""

import hashlib
import logging
import os
import time
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

LIMIT = 10  # requests
WINDOW_S = 3
log = logging.getLogger(__name__)

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Every request waits for Redis, so it must fail fast, and a request that timed out must not be counted twice by a retry.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        max_connections=64,
        decode_responses=True,
        timeout=0.5,  # for a free connection; redis-py's default pool raises when all are taken
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with Redis.from_pool(pool) as app.state.redis:
        yield


app = FastAPI(lifespan=lifespan)


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def client_of(key: Annotated[str, Depends(APIKeyHeader(name="X-API-Key"))]) -> str:
    client = CLIENTS.get(hashlib.sha256(key.encode()).hexdigest())
    if client is None:
        raise HTTPException(401, "Unknown API key", {"WWW-Authenticate": "APIKey"})
    return client


async def admitted(client: str, request: Request) -> bool:
    redis: Redis = request.app.state.redis
    now = time.time()
    tokens, filled_at = map(float, (await redis.get(f"bucket:{client}") or f"{LIMIT} {now}").split())
    tokens = min(LIMIT, tokens + (now - filled_at) * LIMIT / WINDOW_S)
    # Until this request has written, the others read the same bucket, and each takes the same token.
    if tokens < 1:
        return False
    await redis.set(f"bucket:{client}", f"{tokens - 1} {now}", ex=WINDOW_S)
    return True


async def rate_limit(client: Annotated[str, Depends(client_of)], request: Request) -> None:
    try:
        allowed = await admitted(client, request)
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
