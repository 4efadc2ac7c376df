"""Keeps the session in Redis and gives the client its random name: logging out deletes it, and nothing is signed."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, SecretStr
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SALT = b"one for each user, from the table of users"
PASSWORDS = {"ada": hashlib.scrypt(b"correct horse", salt=SALT, n=2**14, r=8, p=1)}
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.life_s = int(os.environ.get("ACCESS_TOKEN_LIFE_S", "900"))
    # A look-up in the way of every request must fail fast: redis-py's defaults are five seconds and ten retries.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], max_connections=32, timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), 1)
    )
    async with Redis.from_pool(pool) as app.state.redis:
        yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    name: str
    password: SecretStr


class Tokens(BaseModel):
    access_token: str


class Session(BaseModel):
    key: str
    name: str


def check_password(login: Login) -> str:
    given = hashlib.scrypt(login.password.get_secret_value().encode(), salt=SALT, n=2**14, r=8, p=1)
    if not secrets.compare_digest(given, PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


def key_of(token: str) -> str:
    return "session:" + hashlib.sha256(token.encode()).hexdigest()  # whoever reads Redis cannot log in


async def current_session(credentials: Credentials, request: Request) -> Session:
    key = key_of(credentials.credentials)
    try:
        name = await request.app.state.redis.get(key)
    except RedisError:
        raise HTTPException(503, "Cannot check the token", {"Retry-After": "1"}) from None
    if name is None:
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"})
    return Session(key=key, name=name.decode())


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    token = secrets.token_urlsafe(32)
    await request.app.state.redis.set(key_of(token), name, ex=request.app.state.life_s)
    return Tokens(access_token=token)


@app.post("/logout", status_code=204)
async def logout(session: Annotated[Session, Depends(current_session)], request: Request) -> None:
    await request.app.state.redis.delete(session.key)


@app.get("/account")
async def read_account(session: Annotated[Session, Depends(current_session)]) -> dict[str, str]:
    return {"name": session.name}
