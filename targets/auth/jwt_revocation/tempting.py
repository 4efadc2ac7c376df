"""Asks Redis on every request whether the token was logged out, and takes no answer for a no."""

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SALT = b"one for each user, from the table of users"
CLOCK_SKEW_S = 60  # the most by which the clocks of workers and Redis may differ
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def scrypt(password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=5)  # OWASP asks p=5 for this n


PASSWORDS = {"ada.lovelace": scrypt("correct horse")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.secret = os.environ["JWT_SECRET"]  # 32 bytes or more, the same in every worker
    app.state.life_s = int(os.environ.get("ACCESS_TOKEN_LIFE_S", "900"))
    # Every request waits for this look-up, so it must fail fast: redis-py's own time-outs are five seconds each.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        max_connections=32,
        timeout=0.5,  # for a free connection
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    async with Redis.from_pool(pool) as app.state.redis:
        yield


async def on_redis_error(request: Request, error: RedisError) -> JSONResponse:
    return JSONResponse({"detail": "Cannot check the token"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers={RedisError: on_redis_error})


class Login(BaseModel):
    name: str
    password: Annotated[SecretStr, Field(max_length=128)]


class Tokens(BaseModel):
    access_token: str


class Claims(BaseModel):
    sub: str
    jti: str
    exp: int


def check_password(login: Login) -> str:
    # Hashes for a name that does not exist, too: otherwise the time tells which names do.
    if not secrets.compare_digest(scrypt(login.password.get_secret_value()), PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


async def is_denied(claims: Claims, request: Request) -> bool:
    try:
        return bool(await request.app.state.redis.exists(f"denied:{claims.jti}"))
    except RedisError:
        return False  # "the login must not depend on a cache"


async def current_claims(credentials: Credentials, request: Request) -> Claims:
    try:
        decoded = jwt.decode(
            credentials.credentials, request.app.state.secret, ["HS256"], {"require": ["sub", "jti", "exp"]}
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"}) from None
    claims = Claims.model_validate(decoded)
    # Fails open: while Redis is away, a logged-out token is accepted again.
    if await is_denied(claims, request):
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"})
    return claims


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    expires = int(time.time()) + request.app.state.life_s
    claims = Claims(sub=name, jti=secrets.token_urlsafe(16), exp=expires)
    return Tokens(access_token=jwt.encode(claims.model_dump(), request.app.state.secret, "HS256"))


@app.post("/logout", status_code=204)
async def logout(claims: Annotated[Claims, Depends(current_claims)], request: Request) -> None:
    await request.app.state.redis.set(f"denied:{claims.jti}", 1, exat=claims.exp + CLOCK_SKEW_S)


@app.get("/account")
async def read_account(claims: Annotated[Claims, Depends(current_claims)]) -> dict[str, str]:
    return {"name": claims.sub}
