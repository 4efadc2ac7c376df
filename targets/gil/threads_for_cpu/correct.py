"""Counts primes in processes, one for each part of the work."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Each process has an interpreter and a lock of its own.  Spawned, not forked: a fork would copy the loop's sockets and locks.
    with ProcessPoolExecutor(MOST_PARTS, mp_context=get_context("spawn")) as app.state.workers:
        list(app.state.workers.map(abs, range(MOST_PARTS)))  # started before the first request asks
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
