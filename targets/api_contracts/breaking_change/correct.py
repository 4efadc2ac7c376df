"""A shop whose second release has addresses of its own; the first release's answer as before."""

from enum import StrEnum
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Response
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


# The addresses of the first release keep its contract, each answered from today's model: see below.  What is new is under /v2.
new = APIRouter(prefix="/v2")


@new.get("/products/{product_id}")
async def read_product(product_id: Id) -> Product:
    return product_of(product_id)


@new.get("/orders/{order_id}")
async def read_order(order_id: Id) -> Order:
    return order_of(order_id)


@new.post("/orders", status_code=201)
async def place_order(order: NewOrder) -> Order:
    return place(order)


class FirstProduct(BaseModel):
    id: int
    name: str
    price_cents: int


class FirstNewOrder(BaseModel):
    product_id: Annotated[int, Field(ge=1, lt=2**31)]


class FirstOrder(BaseModel):
    id: int
    product_id: int
    state: Literal["paid", "sent"]


def deprecated(response: Response) -> None:
    # RFC 9745 and RFC 8594: since when there is a successor, and until when this one answers.
    response.headers["Deprecation"] = "@1796083200"
    response.headers["Sunset"] = "Wed, 01 Dec 2027 00:00:00 GMT"
    response.headers["Link"] = '</v2>; rel="successor-version"'


def as_before(order: Order) -> FirstOrder:
    # The first release knows no backorder: a client of it only asks whether the parcel is on its way.
    return FirstOrder(id=order.id, product_id=order.product_id, state="sent" if order.state == State.SENT else "paid")


first = APIRouter(dependencies=[Depends(deprecated)], deprecated=True)


@first.get("/products/{product_id}")
async def read_first_product(product_id: Id) -> FirstProduct:
    product = product_of(product_id)
    return FirstProduct(id=product.id, name=product.title, price_cents=int(product.price.amount.replace(".", "")))


@first.get("/orders/{order_id}")
async def read_first_order(order_id: Id) -> FirstOrder:
    return as_before(order_of(order_id))


@first.post("/orders", status_code=201)
async def place_first_order(order: FirstNewOrder) -> FirstOrder:
    return as_before(place(NewOrder(product_id=order.product_id, warehouse="main")))


app.include_router(new)
app.include_router(first)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
