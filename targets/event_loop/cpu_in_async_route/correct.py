"""Checks passwords in threads, as many at once as there are cores: PBKDF2 releases the GIL."""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

ITERATIONS = 100_000
SALT = bytes.fromhex("8f2d6c1b9a7e4d30b5c6a7f8091a2b3c")
STORED = bytes.fromhex("c883047fd370d3851f7a24dddc8c4a203529ffca1a6b654ef7a0f6c0c8156c93")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.cores = CapacityLimiter(os.cpu_count() or 1)
    yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    password: Annotated[str, Field(min_length=1, max_length=128)]


def check(password: str) -> bool:
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, ITERATIONS), STORED)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/sessions", status_code=204)
async def log_in(login: Login, request: Request) -> None:
    # Computes in a thread while the event loop serves the others; the limiter keeps logins from taking all the threads.
    if not await to_thread.run_sync(check, login.password, limiter=request.app.state.cores):
        raise HTTPException(401, "Wrong password")
