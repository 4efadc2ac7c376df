"""Checks passwords in a few threads: PBKDF2 releases the GIL, so the event loop goes on."""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

ITERATIONS = int(os.environ.get("ITERATIONS", "600000"))  # OWASP's minimum for PBKDF2 with HMAC-SHA-256
# The container's cores divided by its workers.  A setting, because os.cpu_count() counts the host's cores, once for each worker.
CHECKS_AT_ONCE = int(os.environ.get("CHECKS_AT_ONCE", "2"))
MAX_WAITING = 8 * CHECKS_AT_ONCE  # logins that wait for a thread; whoever comes then is told to come back


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stored = hash_password("correct horse")  # stands for the user's row
    app.state.checks, app.state.pending = CapacityLimiter(CHECKS_AT_ONCE), 0
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
    state = request.app.state
    if state.pending >= CHECKS_AT_ONCE + MAX_WAITING:
        raise HTTPException(503, "Too many logins at once", headers={"Retry-After": "2"})
    state.pending += 1
    try:
        # Computes in a thread while the event loop serves the others; the limiter is why logins never take all 40 threads.
        right = await to_thread.run_sync(check, login.password, state.stored, limiter=state.checks)
    finally:
        state.pending -= 1
    if not right:
        raise HTTPException(401, "Wrong password")
