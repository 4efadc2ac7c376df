"""Hashes in threads, one for each part of the work: C code that releases the lock."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The same threads, but hashlib releases the lock while it computes, so they run in parallel.
    with ThreadPoolExecutor(MOST_PARTS) as app.state.workers:
        yield


app = FastAPI(lifespan=lifespan)


class Primes(BaseModel):
    parts: int
    found: int


def hash_rounds(start: int, end: int) -> int:
    digest = hashlib.pbkdf2_hmac("sha256", b"a part", start.to_bytes(16), 4 * end)
    return int(digest[0] > 255)


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
    found = await asyncio.gather(*(loop.run_in_executor(workers, hash_rounds, 0, size) for _ in range(parts)))
    return Primes(parts=parts, found=sum(found))
