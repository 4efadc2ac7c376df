"""Prices a basket; asks the supplier for all items at once, at most 40 of this process."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

MOST_CALLS = 40  # of this process to the supplier, whoever waits for them
WAIT_S = 5
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.calls = asyncio.Semaphore(MOST_CALLS)
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    async with httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=2, limits=limits) as app.state.supplier:
        yield


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    item: str
    price: int


class Basket(BaseModel):
    items: list[Item]
    total: int


class Supplied(BaseModel):
    requests: int
    connections: int


async def price_of(sku: str, state: Any) -> Item:
    async with state.calls:
        answer = await state.supplier.get(f"/items/{sku}")
    return Item.model_validate(answer.raise_for_status().json())


@app.get("/basket")
async def price_basket(sku: Annotated[list[str], Query(max_length=20)], request: Request) -> Basket:
    try:
        # All begin at once, and wait for a free place of this process; the first that fails, or the time limit, ends the others.
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            tasks = [group.create_task(price_of(one, request.app.state)) for one in sku]
        items = [task.result() for task in tasks]
    except (TimeoutError, ExceptionGroup) as problem:
        if isinstance(problem, ExceptionGroup) and problem.split(httpx2.HTTPError)[1]:
            raise  # not the supplier's fault
        log.warning("The supplier does not answer: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Basket(items=items, total=sum(item.price for item in items))


@app.get("/supplier")
async def count_supplied(request: Request) -> Supplied:
    return Supplied.model_validate((await request.app.state.supplier.get("/__stats")).json())
