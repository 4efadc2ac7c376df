"""Checks passwords in a pool of processes that is replaced when one of them is killed."""

import asyncio
import hashlib
import hmac
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

ITERATIONS = int(os.environ.get("ITERATIONS", "600000"))  # OWASP's minimum for PBKDF2 with HMAC-SHA-256
# The container's cores divided by its workers.  A setting, because os.cpu_count() counts the host's cores, once for each worker.
CHECKS_AT_ONCE = int(os.environ.get("CHECKS_AT_ONCE", "2"))
MAX_WAITING = 8 * CHECKS_AT_ONCE  # logins that wait for a process; whoever comes then is told to come back
REPLACE_EVERY_S = 1.0  # at most: children that die at their start must not make this worker spawn without end

logger = logging.getLogger(__name__)


def end_with_parent() -> None:
    """Runs in each child: without it, children outlive a worker that is killed (python/cpython issue 111873)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker ends its children itself

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Processes:
    """A process pool that recovers: ProcessPoolExecutor refuses all work once a child was killed."""

    def __init__(self) -> None:
        self.pending = 0
        self.pool = self.start()
        list(self.pool.map(abs, range(CHECKS_AT_ONCE)))  # started before the first login asks

    def start(self) -> ProcessPoolExecutor:
        self.started = time.monotonic()
        # Spawned, not forked: a fork would copy the event loop's sockets and locks.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(CHECKS_AT_ONCE, mp_context=context, initializer=end_with_parent)

    async def run_check(self, password: str, stored: str) -> bool:
        if self.pending >= CHECKS_AT_ONCE + MAX_WAITING:
            raise HTTPException(503, "Too many logins at once", headers={"Retry-After": "2"})
        pool = self.pool
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, check, password, stored)
        except BrokenProcessPool as problem:
            # Everything in the pool fails at the same time; the first one to come here replaces it.
            if self.pool is pool and time.monotonic() - self.started >= REPLACE_EVERY_S:
                logger.warning("a process was killed, the pool is replaced: %s", problem)
                pool.shutdown(wait=False)
                self.pool = self.start()
            raise HTTPException(503, "Try again", headers={"Retry-After": "1"}) from problem
        finally:
            self.pending -= 1


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stored = hash_password("correct horse")  # stands for the user's row
    app.state.processes = Processes()
    yield
    app.state.processes.pool.shutdown()


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
    # For code that holds the GIL this is the way; PBKDF2 releases it, and a thread does the same for less.
    if not await request.app.state.processes.run_check(login.password, request.app.state.stored):
        raise HTTPException(401, "Wrong password")
