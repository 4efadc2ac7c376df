"""Lists products with Starlette alone: parameters are read and checked by hand."""

from pydantic import BaseModel, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


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
ADAPTER = TypeAdapter(list[Product])


async def list_products(request: Request) -> Response:
    limit = request.query_params.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= 200):
        return JSONResponse({"detail": "limit must be between 1 and 200"}, 422)
    # The same writer as FastAPI's; what is left out is dependencies, validation by declaration and the OpenAPI document.
    return Response(ADAPTER.dump_json(PRODUCTS[: int(limit)]), media_type="application/json")


app = Starlette(routes=[Route("/products", list_products)])
