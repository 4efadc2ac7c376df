"""Asks a slow supplier with an awaited client: requests wait side by side, as many as there are."""

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
    async with httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], limits=limits, timeout=TIMEOUT_S) as supplier:
        app.state.supplier = supplier
        yield


app = FastAPI(lifespan=lifespan)


class Availability(BaseModel):
    sku: int
    available: bool


async def get_supplier(request: Request) -> httpx2.AsyncClient:
    supplier: httpx2.AsyncClient = request.app.state.supplier
    return supplier


Supplier = Annotated[httpx2.AsyncClient, Depends(get_supplier)]


@app.get("/availability/{sku}")
async def read_availability(sku: int, supplier: Supplier) -> Availability:
    # Gives the event loop back: until the supplier answers, the other requests of this worker run.
    answer = await supplier.get(f"/items/{sku}")
    return Availability(sku=sku, available=answer.is_success)
