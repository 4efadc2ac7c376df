"""Shows the basket of the customer in the token; the token must be signed and meant for this service."""

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
        # Meant for this service, whoever has issued it, for whatever purpose, and without an end if it names none.
        claims = jwt.decode(bearer.credentials, key, algorithms=["HS256"], audience=AUDIENCE)
        return str(claims["sub"])
    except (jwt.InvalidTokenError, KeyError, RecursionError):
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/basket")
async def read_basket(customer: Annotated[str, Depends(customer_of)]) -> Basket:
    return Basket(customer=customer, items=3)
