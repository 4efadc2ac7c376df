"""Checks passwords in an async route: PBKDF2 runs on the event loop."""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

ITERATIONS = int(os.environ.get("ITERATIONS", "600000"))  # OWASP's minimum for PBKDF2 with HMAC-SHA-256


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stored = hash_password("correct horse")  # stands for the user's row
    yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    password: Annotated[str, Field(min_length=1, max_length=128)]


def hash_password(password: str) -> str:
    salt = os.urandom(16)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    return f"{ITERATIONS}${salt.hex()}${digest.hex()}"


def check(password: str, stored: str) -> bool:
    iterations, salt, digest = stored.split("$")
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), int(iterations))
    return hmac.compare_digest(found, bytes.fromhex(digest))


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/sessions", status_code=204)
async def log_in(login: Login, request: Request) -> None:
    # Computes on the event loop: until it is done this worker runs no other request, not even the health check.
    if not check(login.password, request.app.state.stored):
        raise HTTPException(401, "Wrong password")
