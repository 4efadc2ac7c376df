"""Caches products in a dictionary in each worker."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field

# One dictionary for each worker: each fills its own, forgets only what it changed itself, and nothing ever leaves.
cache: dict[int, bytes] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], command_timeout=5) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)

ProductId = Annotated[int, Path(ge=1, lt=2**31)]


class Price(BaseModel):
    price_cents: Annotated[int, Field(ge=0, lt=2**31)]


class Product(Price):
    id: int
    description: str


async def load_product(request: Request, product_id: int) -> bytes:
    row = await request.app.state.database.fetchrow(
        "SELECT id, price_cents, description FROM products WHERE id = $1", product_id
    )
    if row is None:
        raise HTTPException(404, "No such product")
    return Product(**row).model_dump_json().encode()


@app.get("/products/{product_id}")
async def read_product(product_id: ProductId, request: Request) -> Product:
    if product_id not in cache:
        cache[product_id] = await load_product(request, product_id)
    return Product.model_validate_json(cache[product_id])


@app.put("/products/{product_id}/price", status_code=204)
async def set_price(product_id: ProductId, price: Price, request: Request) -> None:
    done = await request.app.state.database.execute(
        "UPDATE products SET price_cents = $2 WHERE id = $1", product_id, price.price_cents
    )
    if done == "UPDATE 0":
        raise HTTPException(404, "No such product")
    cache.pop(product_id, None)
