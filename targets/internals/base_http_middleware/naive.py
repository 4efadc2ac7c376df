"""Answers through five layers of middleware, each a function with @app.middleware("http")."""

import os
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field

LAYERS = int(os.environ.get("LAYERS", "5"))
customer: ContextVar[str] = ContextVar("customer", default="nobody")
app = FastAPI()


class Item(BaseModel):
    sku: Annotated[str, Field(pattern="^[A-Z0-9-]{1,20}$")]


class Basket(BaseModel):
    customer: str
    items: int


Name = Annotated[str, Query(pattern="^[a-z]{1,20}$")]


async def current_customer(name: Name = "ada") -> str:
    customer.set(name)
    return name


Customer = Annotated[str, Depends(current_customer)]


@app.get("/basket")
async def read_basket(name: Customer) -> Basket:
    return Basket(customer=name, items=3)


@app.post("/basket")
async def add_item(item: Item, name: Customer) -> Basket:
    return Basket(customer=name, items=4)


# From the innermost to the outermost: a header that each of them adds.
HEADERS: list[tuple[str, Callable[[], str]]] = [
    ("x-customer", customer.get), ("x-request-id", lambda: uuid.uuid4().hex), ("cache-control", lambda: "no-store"),
    ("x-content-type-options", lambda: "nosniff"), ("referrer-policy", lambda: "no-referrer"),
]  # fmt: skip


def adding(name: str, value: Callable[[], str]) -> Any:
    async def dispatch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        # What is below runs in another task: a stream carries its answer here, and what it sets in its context stays there.
        response = await call_next(request)
        response.headers[name] = value()
        return response

    return dispatch


for header, content in HEADERS[:LAYERS]:
    app.middleware("http")(adding(header, content))
