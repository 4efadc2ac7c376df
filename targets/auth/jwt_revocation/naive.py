"""Trusts a signed token until it expires: a logout only makes the client forget its own copy."""

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

SALT = b"one for each user, from the table of users"
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def scrypt(password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=5)  # OWASP asks p=5 for this n


PASSWORDS = {"ada.lovelace": scrypt("correct horse")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.secret = os.environ["JWT_SECRET"]  # 32 bytes or more, the same in every worker
    app.state.life_s = int(os.environ.get("ACCESS_TOKEN_LIFE_S", "900"))
    yield


app = FastAPI(lifespan=lifespan)


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


async def current_claims(credentials: Credentials, request: Request) -> Claims:
    try:
        decoded = jwt.decode(
            credentials.credentials, request.app.state.secret, ["HS256"], {"require": ["sub", "jti", "exp"]}
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Log in", {"WWW-Authenticate": "Bearer"}) from None
    # Only the signature and the expiry are checked, and a logged-out token still has both.
    return Claims.model_validate(decoded)


@app.post("/login")
async def login(name: Annotated[str, Depends(check_password)], request: Request) -> Tokens:
    expires = int(time.time()) + request.app.state.life_s
    claims = Claims(sub=name, jti=secrets.token_urlsafe(16), exp=expires)
    return Tokens(access_token=jwt.encode(claims.model_dump(), request.app.state.secret, "HS256"))


@app.post("/logout", status_code=204)
async def logout(claims: Annotated[Claims, Depends(current_claims)]) -> None:
    pass  # the client deletes its copy of the token


@app.get("/account")
async def read_account(claims: Annotated[Claims, Depends(current_claims)]) -> dict[str, str]:
    return {"name": claims.sub}
