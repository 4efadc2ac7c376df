"""Serves a shop's browser client from another origin; CORS is added last, and errors are caught inside it."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "Bearer token-of-ada"
log = logging.getLogger(__name__)
app = FastAPI()


@app.middleware("http")
async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    token = request.headers.get("authorization", "")
    if request.url.path.startswith("/account") and not hmac.compare_digest(token.encode(), TOKEN.encode()):
        return JSONResponse({"detail": "Unknown token"}, 401, {"WWW-Authenticate": "Bearer"})
    return await call_next(request)


class CatchErrors:
    """Answers 500 for what nobody has handled, where CORSMiddleware can still see it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http" or started:  # too late for another answer: the server closes the connection
                raise
            log.exception("Unhandled error: %s %s", scope["method"], scope["path"])
            await JSONResponse({"detail": "Internal Server Error"}, 500)(scope, receive, send)


app.add_middleware(CatchErrors)
# Added last is outermost: every answer of what was added before, a 401 and a 500 among them, passes through it.
app.add_middleware(
    CORSMiddleware, allow_origins=["https://shop.example"], allow_headers=["Authorization"], allow_credentials=True
)


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
