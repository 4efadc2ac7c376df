"""Logs in with an OAuth 2.0 provider; the callback takes the code of the login that this browser has begun."""

import base64
import hashlib
import logging
import os
import secrets
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
State = Annotated[str, Query(pattern="^[A-Za-z0-9_-]{43}$")]
METHOD = "S256"


@app.get("/login")
async def login() -> RedirectResponse:
    # Two secrets for each login: the state ties the answer to this browser, the verifier ties the code to this login.
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    query = {"response_type": "code", "client_id": CLIENT, "redirect_uri": CALLBACK, "state": state}
    query |= {"code_challenge": challenge_of(verifier), "code_challenge_method": METHOD}
    answer = RedirectResponse(f"{AUTHORIZE}?{urlencode(query)}", 303)
    answer.set_cookie(f"__Host-login-{state}", verifier, max_age=600, secure=True, httponly=True, samesite="lax")
    return answer


@app.get("/callback")
async def callback(request: Request, code: Code, state: State) -> RedirectResponse:
    # Only a browser that has begun this login has its cookie, and only the code of this login fits the verifier in it.
    verifier = request.cookies.get(f"__Host-login-{state}")
    if not verifier:
        raise HTTPException(400, "This login was not begun here: begin again")
    customer = await customer_of(code, {"code_verifier": verifier}, request)
    answer = logged_in(customer, request)
    answer.delete_cookie(f"__Host-login-{state}", secure=True, httponly=True, samesite="lax")
    return answer


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
