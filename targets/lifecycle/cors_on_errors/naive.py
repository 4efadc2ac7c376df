"""Serves a shop's browser client from another origin; CORS is the first middleware that is added."""

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
# Added first is innermost: what the middleware below answers, and every unhandled error, goes out without CORS headers.
app.add_middleware(
    CORSMiddleware, allow_origins=["https://shop.example"], allow_headers=["Authorization"], allow_credentials=True
)


@app.middleware("http")
async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    token = request.headers.get("authorization", "")
    if request.url.path.startswith("/account") and not hmac.compare_digest(token.encode(), TOKEN.encode()):
        return JSONResponse({"detail": "Unknown token"}, 401, {"WWW-Authenticate": "Bearer"})
    return await call_next(request)


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
