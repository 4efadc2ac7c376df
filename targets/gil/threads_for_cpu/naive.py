"""Counts primes in threads, one for each part of the work."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4


class Threads:
    def __init__(self) -> None:
        # Threads of one interpreter share one lock: two of them take turns, and the event loop is a third that waits for its turn.
        self.pool = ThreadPoolExecutor(MOST_PARTS)

    async def count(self, start: int, end: int) -> int:
        return await asyncio.get_running_loop().run_in_executor(self.pool, count_primes, start, end)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.workers = Threads()
    yield
    app.state.workers.pool.shutdown()


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
    workers: Threads = request.app.state.workers
    found = await asyncio.gather(*(workers.count(0, size) for _ in range(parts)))
    return Primes(parts=parts, found=sum(found))
