"""Keeps the session in Redis under the hash of a random token, and deletes it at the logout."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SALT = b"one for each user, from the table of users"
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def scrypt(password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=5)  # OWASP asks p=5 for this n


PASSWORDS = {"ada.lovelace": scrypt("correct horse")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
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


class Session(BaseModel):
    key: str
    name: str


def check_password(login: Login) -> str:
    # Hashes for a name that does not exist, too: otherwise the time tells which names do.
    if not secrets.compare_digest(scrypt(login.password.get_secret_value()), PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


def key_of(token: str) -> str:
    return "session:" + hashlib.sha256(token.encode()).hexdigest()  # a copy of Redis logs nobody in


async def current_session(credentials: Credentials, request: Request) -> Session:
    key = key_of(credentials.credentials)
    name = await request.app.state.redis.get(key)  # an error becomes a 503
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
