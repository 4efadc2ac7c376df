"""Serves a shop's browser client from another origin; CORS is added last, the token check raises, a handler catches Exception."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

TOKEN = "Bearer token-of-ada"
log = logging.getLogger(__name__)
app = FastAPI()


@app.middleware("http")
async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    token = request.headers.get("authorization", "")
    if request.url.path.startswith("/account") and not hmac.compare_digest(token.encode(), TOKEN.encode()):
        # Only what runs inside the router's exception handling becomes an answer: raised here it is an unhandled error, a 500.
        raise HTTPException(401, "Unknown token", {"WWW-Authenticate": "Bearer"})
    return await call_next(request)


app.add_middleware(
    CORSMiddleware, allow_origins=["https://shop.example"], allow_headers=["Authorization"], allow_credentials=True
)


# Runs in the outermost layer of all, outside CORSMiddleware: its answer has no CORS headers.
@app.exception_handler(Exception)
async def answer_500(request: Request, problem: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Internal Server Error"}, 500)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/account")
async def read_account() -> dict[str, str]:
    return {"name": "Ada"}


@app.get("/orders/{order_id}")
async def read_order(order_id: Annotated[int, Path(ge=1)]) -> dict[str, int]:
    if order_id > 100:
        raise HTTPException(404, "No such order")
    return {"id": order_id}


@app.get("/orders/{order_id}/price-per-item")
async def price_per_item(order_id: Annotated[int, Path(ge=1)], items: int = 1) -> dict[str, int]:
    return {"cents": 1999 // items}  # a bug that nobody has found yet: items=0
