"""Signs access tokens with a short life and renews them with a refresh token that rotates: a logout ends the renewing."""

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import jwt
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

REFRESH_LIFE_S = 14 * 86_400
GRACE_S = 10  # longer than a client waits before it sends a refresh again
# Redis holds the number of the refresh token that is valid; an older token that comes back was copied, and ends the session.
ROTATE = """
local valid, shown, life = tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[1]), tonumber(ARGV[2])
if shown == valid then
    redis.call('SET', KEYS[1], valid + 1, 'EX', life)
    return valid + 1
end
-- No copy: the answer was lost and this is the retry, or two tabs renewed at once.  Both get the same successor.
if shown == valid - 1 and life - redis.call('TTL', KEYS[1]) <= tonumber(ARGV[3]) then return valid end
redis.call('DEL', KEYS[1])
return 0
"""
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
scrypt = partial(hashlib.scrypt, salt=b"one for each user, from the table", n=2**14, r=8, p=5)  # OWASP: p=5 for this n
PASSWORDS = {"ada.lovelace": scrypt(b"correct horse")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.secret = os.environ["JWT_SECRET"]  # 32 bytes or more, the same in every worker
    app.state.life_s = int(os.environ.get("ACCESS_TOKEN_LIFE_S", "60"))
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], max_connections=32, timeout=0.5, socket_connect_timeout=0.5, socket_timeout=0.5,
        protocol=2,  # with RESP3 redis-py 8.1 uses a connection again that Redis has closed
        retry=Retry(NoBackoff(), 0),
    )  # fmt: skip
    async with Redis.from_pool(pool) as app.state.redis:
        app.state.rotate = app.state.redis.register_script(ROTATE)
        yield


async def on_redis_error(request: Request, error: RedisError) -> JSONResponse:
    return JSONResponse({"detail": "Cannot reach the sessions"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers={RedisError: on_redis_error})


class Login(BaseModel):
    name: str
    password: Annotated[SecretStr, Field(max_length=128)]


class Tokens(BaseModel):
    access_token: str
    refresh_token: str


class Claims(BaseModel):
    sub: str
    sid: str
    exp: int


def check_password(login: Login) -> str:
    if not secrets.compare_digest(scrypt(login.password.get_secret_value().encode()), PASSWORDS.get(login.name, b"")):
        raise HTTPException(401, "Wrong name or password")
    return login.name


def decode(token: str, request: Request, aud: str | None = None) -> dict[str, Any]:
    try:  # PyJWT refuses a token with an audience where none is asked for, and one without where one is
        return jwt.decode(token, request.app.state.secret, ["HS256"], {"require": ["sub", "sid", "exp"]}, audience=aud)
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"}) from None


async def current_claims(credentials: Credentials, request: Request) -> Claims:
    # Still only the signature and the expiry; what changed is that the expiry is near.
    return Claims.model_validate(decode(credentials.credentials, request))


def tokens_for(sub: str, sid: str, number: int, request: Request) -> Tokens:
    now, secret = int(time.time()), request.app.state.secret
    access = {"sub": sub, "sid": sid, "exp": now + request.app.state.life_s}
    renewal = {"sub": sub, "sid": sid, "exp": now + REFRESH_LIFE_S, "aud": "refresh", "number": number}
    return Tokens(access_token=jwt.encode(access, secret, "HS256"), refresh_token=jwt.encode(renewal, secret, "HS256"))


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    sid = secrets.token_urlsafe(16)
    await request.app.state.redis.set(f"session:{sid}", 1, ex=REFRESH_LIFE_S)
    return tokens_for(name, sid, 1, request)


@app.post("/refresh")
async def refresh(refresh_token: Annotated[str, Body(embed=True, max_length=1000)], request: Request) -> Tokens:
    # The signature says whose session it is: a token that somebody made up ends here and touches none.
    shown = decode(refresh_token, request, "refresh")
    key, args = f"session:{shown['sid']}", [shown["number"], REFRESH_LIFE_S, GRACE_S]
    if not (number := await request.app.state.rotate(keys=[key], args=args)):
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"})
    return tokens_for(shown["sub"], shown["sid"], number, request)


@app.post("/logout", status_code=204)
async def logout(claims: Annotated[Claims, Depends(current_claims)], request: Request) -> None:
    await request.app.state.redis.delete(f"session:{claims.sid}")


@app.get("/account")
async def read_account(claims: Annotated[Claims, Depends(current_claims)]) -> dict[str, str]:
    return {"name": claims.sub}
