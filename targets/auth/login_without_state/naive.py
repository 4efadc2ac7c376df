"""Logs in with an OAuth 2.0 provider; the callback takes every code that the provider has issued."""

import base64
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import httpx2
import jwt
from fastapi import Cookie, FastAPI, HTTPException, Query, Request
from fastapi.responses import RedirectResponse

CLIENT, CALLBACK = "shop", "https://shop.example.com/callback"
AUTHORIZE = "https://login.example.com/authorize"
PROVIDER_KEY = os.environ.get("PROVIDER_KEY", "")
log = logging.getLogger(__name__)
provider = FastAPI()


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@provider.post("/token")
async def token(request: Request) -> dict[str, str]:
    # The provider is another company's; here it is an application of its own, asked without a network (RFC 6749, RFC 7636).
    form = dict(parse_qsl((await request.body()).decode()))
    try:
        code = jwt.decode(form["code"], PROVIDER_KEY, algorithms=["HS256"], options={"require": ["exp"]})
        verifier = form.get("code_verifier")
        proven = challenge_of(verifier) if verifier else None
        if form["redirect_uri"] != code["redirect_uri"] or proven != code.get("code_challenge"):
            raise jwt.InvalidTokenError("another client or another login")
    except (jwt.InvalidTokenError, KeyError):
        raise HTTPException(400, "invalid_grant") from None
    return {"sub": code["sub"]}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.key = os.environ["SESSION_KEY"]  # 32 bytes or more
    transport = httpx2.ASGITransport(provider)
    async with httpx2.AsyncClient(transport=transport, base_url="http://provider", timeout=2) as app.state.provider:
        yield


app = FastAPI(lifespan=lifespan)
Code = Annotated[str, Query(max_length=2000)]


@app.get("/login")
async def login() -> RedirectResponse:
    query = {"response_type": "code", "client_id": CLIENT, "redirect_uri": CALLBACK}
    return RedirectResponse(f"{AUTHORIZE}?{urlencode(query)}", 303)


@app.get("/callback")
async def callback(request: Request, code: Code) -> RedirectResponse:
    # A code of the provider: whoever it was issued for, and whoever brings it.
    customer = await customer_of(code, {}, request)
    return logged_in(customer, request)


async def customer_of(code: str, more: dict[str, str], request: Request) -> str:
    form = urlencode(
        {"grant_type": "authorization_code", "code": code, "client_id": CLIENT, "redirect_uri": CALLBACK, **more}
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = await request.app.state.provider.post("/token", content=form, headers=headers)
    except httpx2.HTTPError as problem:
        log.warning("the provider is away: %r", problem)
        raise HTTPException(503, "The login service is away", {"Retry-After": "1"}) from None
    if answer.status_code == 400:
        raise HTTPException(400, "This login is not valid: begin again")
    if answer.status_code != 200:
        log.warning("the provider answered %d", answer.status_code)
        raise HTTPException(503, "The login service is away", {"Retry-After": "1"})
    return str(answer.json()["sub"])


def logged_in(customer: str, request: Request) -> RedirectResponse:
    session = jwt.encode({"sub": customer, "exp": int(time.time()) + 3600}, request.app.state.key, algorithm="HS256")
    answer = RedirectResponse("/me", 303)
    answer.set_cookie("__Host-session", session, secure=True, httponly=True, samesite="lax")
    return answer


@app.get("/me")
async def me(request: Request, session: Annotated[str, Cookie(alias="__Host-session")] = "") -> dict[str, str]:
    try:
        claims: dict[str, Any] = jwt.decode(
            session, request.app.state.key, algorithms=["HS256"], options={"require": ["exp", "sub"]}
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Not logged in") from None
    return {"customer": claims["sub"]}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
