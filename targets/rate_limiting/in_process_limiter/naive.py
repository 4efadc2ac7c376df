"""Limits each client to 100 requests a minute with a log in the process: every worker grants its own 100."""

import hashlib
import math
import time
from collections import defaultdict, deque
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

LIMIT = 100  # requests
WINDOW_S = 60

# The table of API keys, by their digests.
CLIENTS = {hashlib.sha256(f"key-of-{name}".encode()).hexdigest(): name for name in ("acme", "probe")}

logs: defaultdict[str, deque[float]] = defaultdict(deque)

app = FastAPI()


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def client_of(key: Annotated[str, Depends(APIKeyHeader(name="X-API-Key"))]) -> str:
    # Who calls is looked up, not believed: a limit for each name that anybody may make up is no limit.
    client = CLIENTS.get(hashlib.sha256(key.encode()).hexdigest())
    if client is None:
        raise HTTPException(401, "Unknown API key", {"WWW-Authenticate": "APIKey"})
    return client


async def seconds_to_wait(client: str) -> float:
    # One log for each process: with four workers the client gets four windows of 100.
    now, log = time.monotonic(), logs[client]
    while log and log[0] <= now - WINDOW_S:
        log.popleft()
    if len(log) >= LIMIT:
        return log[0] + WINDOW_S - now
    log.append(now)
    return 0.0


async def rate_limit(client: Annotated[str, Depends(client_of)]) -> None:
    wait_s = await seconds_to_wait(client)
    if wait_s > 0:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
