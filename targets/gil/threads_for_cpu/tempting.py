"""Counts primes in threads, one for each part of the work, with a tenth of the switch interval."""

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4
SWITCH_INTERVAL_S = 0.0005


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The event loop gets the lock back sooner, but it is still one lock: two threads take turns, only shorter ones.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with ThreadPoolExecutor(MOST_PARTS) as app.state.workers:
        yield


app = FastAPI(lifespan=lifespan)


class Primes(BaseModel):
    parts: int
    found: int


def count_primes(start: int, end: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(start, 2), end))


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/primes")
async def read_primes(
    request: Request,
    parts: Annotated[int, Query(ge=1, le=MOST_PARTS)] = 1,
    size: Annotated[int, Query(ge=1, le=100_000)] = 20_000,
) -> Primes:
    loop, workers = asyncio.get_running_loop(), request.app.state.workers
    found = await asyncio.gather(*(loop.run_in_executor(workers, count_primes, 0, size) for _ in range(parts)))
    return Primes(parts=parts, found=sum(found))
