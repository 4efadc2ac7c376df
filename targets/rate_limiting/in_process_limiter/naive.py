"""Limits each client to 100 requests a minute with counters in the process: every worker grants its own 100."""

import math
import time
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

LIMIT = 100  # requests
WINDOW_S = 60

counts: dict[str, int] = {}
window_starts: dict[str, float] = {}

app = FastAPI()


class Quote(BaseModel):
    symbol: str
    price_cents: int


async def seconds_to_wait(client: str) -> float:
    now = time.monotonic()
    # One dict per process: with four workers the client gets four windows of 100.
    if now - window_starts.get(client, -math.inf) >= WINDOW_S:
        window_starts[client] = now
        counts[client] = 0
    if counts[client] >= LIMIT:
        return window_starts[client] + WINDOW_S - now
    counts[client] += 1
    return 0.0


async def rate_limit(x_api_key: Annotated[str, Header(max_length=64)]) -> None:
    wait_s = await seconds_to_wait(x_api_key)
    if wait_s > 0:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise HTTPException(429, f"Limit of {LIMIT} requests in {WINDOW_S} s reached", headers=headers)


@app.get("/quotes/{symbol}", dependencies=[Depends(rate_limit)])
async def read_quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, price_cents=1999)
