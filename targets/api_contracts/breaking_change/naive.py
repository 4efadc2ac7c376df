"""A shop whose second release changed its answers and requests in place."""

from enum import StrEnum
from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel, Field

# The shop after its second release: prices got a currency, orders may be backordered and need a warehouse.
app = FastAPI()
Id = Annotated[int, Path(ge=1, lt=2**31)]


class State(StrEnum):
    PAID = "paid"
    SENT = "sent"
    BACKORDERED = "backordered"


class Money(BaseModel):
    amount: Annotated[str, Field(pattern=r"^[0-9]{1,7}\.[0-9]{2}$")]
    currency: str = "EUR"


class Product(BaseModel):
    id: int
    title: str
    price: Money
    weight_g: int | None = None


class NewOrder(BaseModel):
    product_id: Annotated[int, Field(ge=1, lt=2**31)]
    warehouse: Annotated[str, Field(pattern="^[a-z]{3,20}$")]


class Order(BaseModel):
    id: int
    product_id: int
    state: State


def product_of(product_id: int) -> Product:
    return Product(id=product_id, title=f"Product {product_id}", price=Money(amount=f"{product_id}.50"), weight_g=100)


def order_of(order_id: int) -> Order:
    return Order(id=order_id, product_id=7, state=list(State)[order_id % 3])


def place(order: NewOrder) -> Order:
    return Order(id=1, product_id=order.product_id, state=State.PAID)


# The addresses are those of the first release, and what they say has changed under its clients.
@app.get("/products/{product_id}")
async def read_product(product_id: Id) -> Product:
    return product_of(product_id)


@app.get("/orders/{order_id}")
async def read_order(order_id: Id) -> Order:
    return order_of(order_id)


@app.post("/orders", status_code=201)
async def place_order(order: NewOrder) -> Order:
    return place(order)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
