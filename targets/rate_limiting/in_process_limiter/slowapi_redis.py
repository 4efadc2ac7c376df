"""Limits each client to 100 requests a minute with slowapi and its counters in Redis: all workers together grant 100."""

import hashlib
import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded

LIMIT = 100  # requests
WINDOW_S = 60

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}


def client_in(request: Request) -> str:
    return str(request.state.client)


# One set of counters for all processes.  The client is synchronous: while Redis does not answer, this worker serves nobody.
limiter = Limiter(key_func=client_in, storage_uri=os.environ.get("REDIS_URL", "redis://localhost"))


async def on_limit(request: Request, error: RateLimitExceeded) -> JSONResponse:
    detail = f"Limit of {LIMIT} requests in {WINDOW_S} s reached"
    return JSONResponse({"detail": detail}, 429, {"Retry-After": str(WINDOW_S)})


app = FastAPI(exception_handlers={RateLimitExceeded: on_limit})


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def client_of(key: Annotated[str, Depends(APIKeyHeader(name="X-API-Key"))], request: Request) -> None:
    # Who calls is looked up, not believed: a limit for each name that anybody may make up is no limit.
    client = CLIENTS.get(hashlib.sha256(key.encode()).hexdigest())
    if client is None:
        raise HTTPException(401, "Unknown API key", {"WWW-Authenticate": "APIKey"})
    request.state.client = client


@app.get("/quotes/{symbol}", dependencies=[Depends(client_of)])
@limiter.limit(f"{LIMIT} per {WINDOW_S} seconds")
async def read_quote(symbol: str, request: Request) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
