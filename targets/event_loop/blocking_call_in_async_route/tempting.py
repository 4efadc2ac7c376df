"""Asks a slow supplier with a blocking client in a plain ``def``: forty requests at a time, then they queue."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

MAX_CONNECTIONS = 100  # also the most that one worker asks of the supplier at once
TIMEOUT = httpx2.Timeout(1.5, connect=0.5, pool=0.5)  # seconds; 1.5 for each read and each write

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    with httpx2.Client(base_url=os.environ["UPSTREAM_URL"], limits=limits, timeout=TIMEOUT) as supplier:
        app.state.supplier = supplier
        yield


app = FastAPI(lifespan=lifespan)


class Availability(BaseModel):
    sku: int
    available: bool


async def get_supplier(request: Request) -> httpx2.Client:
    supplier: httpx2.Client = request.app.state.supplier
    return supplier


Supplier = Annotated[httpx2.Client, Depends(get_supplier)]


def away(problem: object) -> HTTPException:
    logger.warning("supplier: %r", problem)
    return HTTPException(503, "The supplier does not answer", headers={"Retry-After": "1"})


@app.get("/availability/{sku}")
def read_availability(sku: int, supplier: Supplier) -> Availability:
    try:
        # Blocks one of the forty threads of this worker: the forty-first request waits until a thread is free.
        answer = supplier.get(f"/items/{sku}")
    except httpx2.RequestError as problem:
        raise away(problem) from problem
    if not answer.is_success and answer.status_code != 404:
        raise away(answer)
    return Availability(sku=sku, available=answer.is_success)
