"""Prices a basket; asks the supplier for one item after the other."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
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
    answer = await state.supplier.get(f"/items/{sku}")
    return Item.model_validate(answer.raise_for_status().json())


@app.get("/basket")
async def price_basket(sku: Annotated[list[str], Query(max_length=20)], request: Request) -> Basket:
    try:
        # Each call begins when the one before has ended: ten calls take ten times as long as one.
        items = [await price_of(one, request.app.state) for one in sku]
    except httpx2.HTTPError as problem:
        log.warning("The supplier does not answer: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Basket(items=items, total=sum(item.price for item in items))


@app.get("/supplier")
async def count_supplied(request: Request) -> Supplied:
    return Supplied.model_validate((await request.app.state.supplier.get("/__stats")).json())
