"""Checks passwords in a pool of processes."""

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

ITERATIONS = 100_000
SALT = bytes.fromhex("8f2d6c1b9a7e4d30b5c6a7f8091a2b3c")
STORED = bytes.fromhex("c883047fd370d3851f7a24dddc8c4a203529ffca1a6b654ef7a0f6c0c8156c93")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Spawned, not forked: a fork would copy the event loop's sockets and locks.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as app.state.processes:
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
    # For code that holds the GIL this is the way; for PBKDF2, which does not, a thread does the same for less.
    if not await asyncio.get_running_loop().run_in_executor(request.app.state.processes, check, login.password):
        raise HTTPException(401, "Wrong password")
