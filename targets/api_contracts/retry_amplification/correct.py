"""Checks out an item through two layers that pass a failure on: only the caller tries again."""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel

# One layer retries, and that is the caller: here a failure is passed on at once, as 503.
CHECKOUT_TRIES = 1
STOCK_TRIES = 1
BACKOFF_S = 0.005
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        # The stock is a service of another team; here it is this application, asked without a network.
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://stock", timeout=1.5
        ) as app.state.stock,
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=1.0) as app.state.supplier,
    ):
        yield


app = FastAPI(lifespan=lifespan)
Sku = Annotated[str, Path(pattern="^[A-Z0-9-]{1,20}$")]


class Item(BaseModel):
    item: str
    price: int


class Supplied(BaseModel):
    requests: int


async def ask(client: httpx2.AsyncClient, url: str, tries: int) -> Any:
    for number in range(1, tries + 1):
        try:
            answer = await client.get(url)
            if answer.status_code < 500:
                return answer.raise_for_status().json()
            problem: Exception | str = f"status {answer.status_code}"
        except httpx2.TransportError as error:
            problem = error
        log.warning("try %d of %d: %s: %r", number, tries, url, problem)
        if number < tries:
            await asyncio.sleep(BACKOFF_S * 2**number * random.random())
    raise HTTPException(503, "Try again later", {"Retry-After": "1"})


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/checkout/{sku}")
async def check_out(sku: Sku, request: Request) -> Item:
    return Item.model_validate(await ask(request.app.state.stock, f"/stock/{sku}", CHECKOUT_TRIES))


@app.get("/stock/{sku}")
async def read_stock(sku: Sku, request: Request) -> Item:
    return Item.model_validate(await ask(request.app.state.supplier, f"/items/{sku}", STOCK_TRIES))


@app.get("/supplier")
async def count_supplied(request: Request) -> Supplied:
    return Supplied.model_validate((await request.app.state.supplier.get("/__stats")).json())
