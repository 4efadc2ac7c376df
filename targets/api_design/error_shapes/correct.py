"""Answers every error that FastAPI, Starlette or a middleware writes as one RFC 9457 problem, without the values that were sent."""

from collections.abc import Mapping
from http.client import responses as phrases
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_LINES = 1000
MAX_ERRORS = 20
PROBLEM = "application/problem+json"
OF_THE_BODY = (b"content-type", b"content-length")
PRODUCTS: dict[int, dict[str, Any]] = {
    1: {"name": "Green tea", "price_cents": 450, "bags": 20},
    2: {"name": "Gift card", "price_cents": 2500, "bags": 0},
    3: {"name": None, "price_cents": 300, "bags": 25},  # a row from before names were required
}


class Problem(BaseModel):
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, *errors: dict[str, str]) -> Response:
    body = Problem(title=phrases.get(status, "Error"), status=status, detail=detail, errors=list(errors))
    return JSONResponse(body.model_dump(), status, headers, media_type=PROBLEM)


async def on_refusal(request: Request, error: AnyHTTPException) -> Response:
    if error.status_code < 400 or not isinstance(error.detail, str):  # a 304 has no body, and a dict is the route's own
        return await http_exception_handler(request, error)
    return problem(error.status_code, error.detail, error.headers)


async def on_wrong_input(request: Request, error: RequestValidationError) -> Response:
    # Where and why, for the first few.  Not `input`, `ctx` and `msg`, which may repeat what was sent, secrets too.
    errors = [{"at": "/".join(map(str, one["loc"]))[:100], "code": one["type"]} for one in error.errors()[:MAX_ERRORS]]
    return problem(422, f"Wrong input in {len(error.errors())} places", None, *errors)


async def on_bug(request: Request, error: Exception) -> Response:
    return problem(500, "The error has been logged")


class RefusalsAsProblems:
    """Turns what other middleware and the body limit refuse, as text, into problems; what a route answers passes unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400:
                # No route was asked ("router" is missing), or the limit on its body answered instead; and in plain text.
                refused = "router" not in scope or message["status"] == 413
                if replaced := refused and (b"content-type", b"text/plain; charset=utf-8") in message["headers"]:
                    answer = problem(message["status"], "The request was refused")
                    answer.raw_headers += [h for h in message["headers"] if h[0] not in OF_THE_BODY]
                    await answer(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_problem if scope["type"] == "http" else send)


documented = {"description": "A problem", "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
# One shape for a refusal (Starlette's class, which the router raises too), a wrong input, a bug and a middleware.
app = FastAPI(
    responses={"default": documented},
    exception_handlers={AnyHTTPException: on_refusal, RequestValidationError: on_wrong_input, Exception: on_bug},
)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
app.add_middleware(RefusalsAsProblems)  # last, so it is the outermost
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
