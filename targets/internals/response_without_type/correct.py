"""Lists products; the route says what it returns."""

from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel

app = FastAPI()


class Product(BaseModel):
    id: int
    name: str
    price_cents: int
    in_stock: bool
    tags: list[str]


PRODUCTS = [
    Product(id=i, name=f"Product {i}", price_cents=100 * i, in_stock=i % 3 > 0, tags=["garden", "tools"])
    for i in range(1, 201)
]
Limit = Annotated[int, Query(ge=1, le=200)]


# The return type is the response model: Pydantic writes the JSON at once, in Rust (FastAPI 0.130 and newer).
@app.get("/products")
async def list_products(limit: Limit = 20) -> list[Product]:
    return PRODUCTS[:limit]
