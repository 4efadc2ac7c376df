"""Gives the exceptions that FastAPI exports one shape: what the router and the middleware refuse does not pass here."""

from collections.abc import Mapping
from http.client import responses as phrases
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

MAX_LINES = 1000
PROBLEM = "application/problem+json"

PRODUCTS: dict[int, dict[str, Any]] = {
    1: {"name": "Green tea", "price_cents": 450, "bags": 20},
    2: {"name": "Gift card", "price_cents": 2500, "bags": 0},
    3: {"name": None, "price_cents": 300, "bags": 25},  # a row from before names were required
}

app = FastAPI()
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
app.mount("/v1", PlainTextResponse("This version is gone", 410))  # an application with its own error bodies


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    body = {"title": phrases.get(status, "Error"), "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type=PROBLEM)


# This is FastAPI's HTTPException.  The 404 and 405 of the router are its parent, Starlette's, and are not caught here.
@app.exception_handler(HTTPException)
async def on_refusal(request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, str(error.detail), error.headers)


@app.exception_handler(RequestValidationError)
async def on_wrong_input(request: Request, error: RequestValidationError) -> JSONResponse:
    errors = [{"at": "/".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
    return problem(422, "Wrong input", errors=errors)


@app.exception_handler(Exception)
async def on_bug(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "The error has been logged")


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
