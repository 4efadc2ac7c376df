"""Renews access tokens with a refresh token that rotates: one request replaces it, every other one ends the session."""

import hashlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import asyncpg
import jwt
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field, SecretStr

ACCESS_LIFE_S = 60
log = logging.getLogger(__name__)
scrypt = partial(hashlib.scrypt, salt=b"one for each user, from the table", n=2**14, r=8, p=5)  # OWASP: p=5 for this n
PASSWORDS = {"ada": scrypt(b"correct horse")}
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.secret = os.environ["JWT_SECRET"]  # 32 bytes or more, the same in every worker
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=10, max_size=10, timeout=2, command_timeout=1) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    name: str
    password: Annotated[SecretStr, Field(max_length=128)]


class Tokens(BaseModel):
    access_token: str
    refresh_token: str


@asynccontextmanager
async def transaction(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection, connection.transaction():
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


def check_password(login: Login) -> str:
    if not secrets.compare_digest(scrypt(login.password.get_secret_value().encode()), PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def tokens_for(session_id: object, refresh_token: str, request: Request) -> Tokens:
    claims = {"sid": str(session_id), "exp": int(time.time()) + ACCESS_LIFE_S}
    return Tokens(access_token=jwt.encode(claims, request.app.state.secret, "HS256"), refresh_token=refresh_token)


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    token = secrets.token_urlsafe(32)
    async with transaction(request) as connection:
        session_id = await connection.fetchval("INSERT INTO sessions (name) VALUES ($1) RETURNING id", name)
        await connection.execute(
            "INSERT INTO refresh_tokens (digest, session_id) VALUES ($1, $2)", digest_of(token), session_id
        )
    return tokens_for(session_id, token, request)


@app.post("/refresh")
async def refresh(refresh_token: Annotated[str, Body(embed=True, max_length=200)], request: Request) -> Tokens:
    shown = digest_of(refresh_token)
    successor = secrets.token_urlsafe(32)
    async with transaction(request) as connection:
        # One of all who come with this token replaces it.  The others, tabs of the same user, count as thieves.
        session_id = await connection.fetchval(
            "UPDATE refresh_tokens SET replaced_at = now() FROM sessions "
            "WHERE digest = $1 AND replaced_at IS NULL AND id = session_id AND ended_at IS NULL RETURNING session_id",
            shown,
        )
        if session_id is not None:
            await connection.execute(
                "INSERT INTO refresh_tokens (digest, session_id) VALUES ($1, $2)", digest_of(successor), session_id
            )
            return tokens_for(session_id, successor, request)
        query = "UPDATE sessions SET ended_at = now() FROM refresh_tokens WHERE digest = $1 AND id = session_id"
        await connection.execute(query, shown)  # a token that was replaced comes back: somebody has a copy
    raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"})
