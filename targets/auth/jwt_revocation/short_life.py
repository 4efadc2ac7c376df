"""Trusts a signed token for a short life and renews it with a refresh token that works once; logging out ends the renewing."""

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SALT = b"one for each user, from the table of users"
PASSWORDS = {"ada": hashlib.scrypt(b"correct horse", salt=SALT, n=2**14, r=8, p=1)}
REFRESH_LIFE_S = 14 * 86_400
# One refresh token is valid for a session; an older one that comes back was copied, and ends the session.
ROTATE = """
local current = redis.call('GET', KEYS[1])
if current == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
redis.call('DEL', KEYS[1])
return false
"""
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.secret = os.environ["JWT_SECRET"]  # 32 bytes or more, the same in every worker
    app.state.life_s = int(os.environ.get("ACCESS_TOKEN_LIFE_S", "60"))
    # A look-up in the way of every request must fail fast: redis-py's defaults are five seconds and ten retries.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], max_connections=32, timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), 1)
    )
    async with Redis.from_pool(pool) as app.state.redis:
        app.state.rotate = app.state.redis.register_script(ROTATE)
        yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    name: str
    password: SecretStr


class Tokens(BaseModel):
    access_token: str
    refresh_token: str


class Refresh(BaseModel):
    refresh_token: Annotated[str, Field(max_length=200)]


class Claims(BaseModel):
    sub: str
    sid: str
    exp: int


def check_password(login: Login) -> str:
    given = hashlib.scrypt(login.password.get_secret_value().encode(), salt=SALT, n=2**14, r=8, p=1)
    if not secrets.compare_digest(given, PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


async def current_claims(credentials: Credentials, request: Request) -> Claims:
    try:
        decoded = jwt.decode(
            credentials.credentials, request.app.state.secret, ["HS256"], {"require": ["sub", "sid", "exp"]}
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"}) from None
    # Still all that is asked; what changed is for how long.
    return Claims.model_validate(decoded)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def tokens_for(name: str, sid: str, refresh_token: str, request: Request) -> Tokens:
    claims = Claims(sub=name, sid=sid, exp=int(time.time()) + request.app.state.life_s)
    return Tokens(
        access_token=jwt.encode(claims.model_dump(), request.app.state.secret, "HS256"), refresh_token=refresh_token
    )


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    sid, refresh_token = secrets.token_urlsafe(16), f"{name}.{secrets.token_urlsafe(32)}"
    await request.app.state.redis.set(f"refresh:{sid}", digest(refresh_token), ex=REFRESH_LIFE_S)
    return tokens_for(name, sid, f"{sid}.{refresh_token}", request)


@app.post("/refresh")
async def refresh(old: Refresh, request: Request) -> Tokens:
    sid, _, secret = old.refresh_token.partition(".")
    name = secret.partition(".")[0]
    fresh = f"{name}.{secrets.token_urlsafe(32)}"
    if not await request.app.state.rotate(
        keys=[f"refresh:{sid}"], args=[digest(secret), digest(fresh), REFRESH_LIFE_S]
    ):
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"})
    return tokens_for(name, sid, f"{sid}.{fresh}", request)


@app.post("/logout", status_code=204)
async def logout(claims: Annotated[Claims, Depends(current_claims)], request: Request) -> None:
    await request.app.state.redis.delete(f"refresh:{claims.sid}")


@app.get("/account")
async def read_account(claims: Annotated[Claims, Depends(current_claims)]) -> dict[str, str]:
    return {"name": claims.sub}
