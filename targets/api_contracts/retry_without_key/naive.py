"""Places orders, one for each POST that arrives."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

POOL_SIZE = 20


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]
    total_cents: Annotated[int, Field(ge=1, lt=2**31)]


class Order(NewOrder):
    id: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, request: Request) -> Order:
    # A client that gets no answer cannot know that this happened, and sends the order again: here that is another order.
    async with request.app.state.database.acquire() as connection:
        order_id = await connection.fetchval("SELECT place_order($1, $2)", new.customer_id, new.total_cents)
    return Order(id=order_id, **new.model_dump())
