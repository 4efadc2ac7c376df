"""Leaves errors as they come: FastAPI, Starlette and the server each have a body of their own for them."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

MAX_LINES = 1000

PRODUCTS: dict[int, dict[str, Any]] = {
    1: {"name": "Green tea", "price_cents": 450, "bags": 20},
    2: {"name": "Gift card", "price_cents": 2500, "bags": 0},
    3: {"name": None, "price_cents": 300, "bags": 25},  # a row from before names were required
}

# No handlers: a refusal, a wrong input, a bug and a middleware each answer in another shape.
app = FastAPI()
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
app.mount("/v1", PlainTextResponse("This version is gone", 410))  # an application with its own error bodies


class Product(BaseModel):
    name: str
    price_cents: int


class Line(BaseModel):
    product_id: int
    quantity: Annotated[int, Field(ge=1, le=1000)]


class QuoteRequest(BaseModel):
    card_number: str
    lines: Annotated[list[Line], Field(min_length=1, max_length=MAX_LINES)]


class Quote(BaseModel):
    total_cents: int


def find_product(product_id: int) -> dict[str, Any]:
    if product_id not in PRODUCTS:
        raise HTTPException(404, f"No product {product_id}")
    return PRODUCTS[product_id]


@app.get("/products/{product_id}", response_model=Product)
async def read_product(product_id: int) -> dict[str, Any]:
    return find_product(product_id)


@app.get("/products/{product_id}/price-per-bag")
async def read_price_per_bag(product_id: int) -> int:
    product = find_product(product_id)
    return int(product["price_cents"] / product["bags"])


@app.post("/quotes", dependencies=[Depends(HTTPBearer())], max_body_size=65_536)
async def create_quote(wanted: QuoteRequest) -> Quote:
    total = sum(find_product(line.product_id)["price_cents"] * line.quantity for line in wanted.lines)
    return Quote(total_cents=total)
