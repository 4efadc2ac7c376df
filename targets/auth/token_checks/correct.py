"""Shows the basket of the customer in the token; the token must be an access token of our issuer for this service."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel

AUDIENCE = "https://api.example.com/baskets"
ISSUER = "https://login.example.com"
REQUIRED = ["exp", "iat", "iss", "aud", "sub"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.key = os.environ["JWT_KEY"]  # 32 bytes or more
    yield


app = FastAPI(lifespan=lifespan)


class Basket(BaseModel):
    customer: str
    items: int


Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def customer_of(bearer: Bearer, request: Request) -> str:
    key = request.app.state.key
    try:
        # Signed, of our issuer, for this service, with an end, and an access token: each of these is asked for by name.
        token = jwt.decode_complete(
            bearer.credentials,
            key,
            algorithms=["HS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": REQUIRED},
        )
        if str(token["header"].get("typ")).lower() not in ("at+jwt", "application/at+jwt"):
            raise jwt.InvalidTokenError("not an access token")
        return str(token["payload"]["sub"])
    except (jwt.InvalidTokenError, RecursionError):
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/basket")
async def read_basket(customer: Annotated[str, Depends(customer_of)]) -> Basket:
    return Basket(customer=customer, items=3)
