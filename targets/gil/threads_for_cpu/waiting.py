"""Asks a supplier in threads, one for each part of the work: a blocking call releases the lock while it waits."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4
TIMEOUT = httpx2.Timeout(1.5, connect=0.5, pool=0.5)  # seconds; 1.5 for each read and each write


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The same threads, but each releases the lock while it waits for its socket, so they wait in parallel.
    with (
        httpx2.Client(base_url=os.environ["UPSTREAM_URL"], timeout=TIMEOUT) as app.state.supplier,
        ThreadPoolExecutor(MOST_PARTS) as app.state.workers,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class Primes(BaseModel):
    parts: int
    found: int


def ask_supplier(supplier: httpx2.Client, size: int) -> int:
    return int(supplier.get(f"/items/{size}").is_error)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/primes")
async def read_primes(
    request: Request,
    parts: Annotated[int, Query(ge=1, le=MOST_PARTS)] = 1,
    size: Annotated[int, Query(ge=1, le=100_000)] = 20_000,
) -> Primes:
    loop, state = asyncio.get_running_loop(), request.app.state
    asked = (loop.run_in_executor(state.workers, ask_supplier, state.supplier, size) for _ in range(parts))
    return Primes(parts=parts, found=sum(await asyncio.gather(*asked)))
