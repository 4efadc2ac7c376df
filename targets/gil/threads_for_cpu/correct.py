"""Counts primes in processes, one for each part of the work; the pool is replaced when one of them is killed."""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4  # also the size of the pool, in each worker: workers x this should not exceed the container's cores
REPLACE_EVERY_S = 1.0  # at most: children that die at their start must not make this worker spawn without end

logger = logging.getLogger(__name__)


def end_with_parent() -> None:
    """Runs in each child: without it, children outlive a worker that is killed (python/cpython issue 111873)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker ends its children itself

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Processes:
    """A process pool that recovers: ProcessPoolExecutor refuses all work once a child was killed."""

    def __init__(self) -> None:
        self.pool = self.start()
        list(self.pool.map(abs, range(MOST_PARTS)))  # started before the first request asks

    def start(self) -> ProcessPoolExecutor:
        self.started = time.monotonic()
        # Each process has its own interpreter and lock.  Spawned, not forked: a fork copies the loop's sockets and locks.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(MOST_PARTS, mp_context=context, initializer=end_with_parent)

    async def count(self, start: int, end: int) -> int:
        pool = self.pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, count_primes, start, end)
        except BrokenProcessPool as problem:
            # Everything in the pool fails at the same time; the first one to come here replaces it.
            if self.pool is pool and time.monotonic() - self.started >= REPLACE_EVERY_S:
                logger.warning("a process was killed, the pool is replaced: %s", problem)
                pool.shutdown(wait=False)
                self.pool = self.start()
            raise HTTPException(503, "Try again", headers={"Retry-After": "1"}) from problem


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.workers = Processes()
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
    workers: Processes = request.app.state.workers
    found = await asyncio.gather(*(workers.count(0, size) for _ in range(parts)))
    return Primes(parts=parts, found=sum(found))
