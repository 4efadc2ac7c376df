"""Answers through five layers of middleware, each an ASGI application around the one below."""

import os
import uuid
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

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


class Adding:
    def __init__(self, app: ASGIApp, name: str, value: Callable[[], str]) -> None:
        self.app, self.name, self.value = app, name, value

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_header(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[self.name] = self.value()
            await send(message)

        # A call, in the same task and context: what is below sends its answer through send_with_header.
        await self.app(scope, receive, send_with_header)


for header, content in HEADERS[:LAYERS]:
    app.add_middleware(Adding, name=header, value=content)
