"""Asks a slow supplier with a blocking client in a plain ``def``: forty requests at a time, then they queue."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

MAX_CONNECTIONS = 500
TIMEOUT_S = 30.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    with httpx2.Client(base_url=os.environ["UPSTREAM_URL"], limits=limits, timeout=TIMEOUT_S) as supplier:
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


@app.get("/availability/{sku}")
def read_availability(sku: int, supplier: Supplier) -> Availability:
    # Blocks one of the forty threads of this worker: the forty-first request waits for a whole turn.
    answer = supplier.get(f"/items/{sku}")
    return Availability(sku=sku, available=answer.is_success)
