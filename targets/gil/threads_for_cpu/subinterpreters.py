"""Counts primes in subinterpreters of this process, one for each part of the work (Python 3.13 and newer)."""

import asyncio
import importlib
import inspect
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel

MOST_PARTS = 4


def count_primes(start: int, end: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(start, 2), end))


class Interpreters:
    """What InterpreterPoolExecutor does from Python 3.14 on, with the interface that 3.13 has."""

    def __init__(self) -> None:
        self.module: Any = importlib.import_module("_interpreters")
        self.free: SimpleQueue[int] = SimpleQueue()
        for _ in range(MOST_PARTS):
            interpreter = self.module.create()
            # It gets the function's source: importing this file would import pydantic, which no subinterpreter can load.
            self.module.exec(interpreter, f"import os\n{inspect.getsource(count_primes)}")
            self.free.put(interpreter)

    def count(self, start: int, end: int) -> int:
        interpreter, (reader, writer) = self.free.get(), os.pipe()
        try:
            work = "os.write(writer, str(count_primes(start, end)).encode())"
            failed = self.module.exec(interpreter, work, {"writer": writer, "start": start, "end": end})
            if failed is not None:
                raise RuntimeError(failed.formatted)
            return int(os.read(reader, 32))
        finally:
            os.close(reader)
            os.close(writer)
            self.free.put(interpreter)

    def close(self) -> None:
        while not self.free.empty():
            self.module.destroy(self.free.get())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Each of these threads enters an interpreter with its own lock, so they compute in parallel.
    app.state.interpreters = Interpreters()
    with ThreadPoolExecutor(MOST_PARTS) as app.state.workers:
        yield
    app.state.interpreters.close()


app = FastAPI(lifespan=lifespan)


class Primes(BaseModel):
    parts: int
    found: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/primes")
async def read_primes(
    request: Request,
    parts: Annotated[int, Query(ge=1, le=MOST_PARTS)] = 1,
    size: Annotated[int, Query(ge=1, le=100_000)] = 20_000,
) -> Primes:
    loop, state = asyncio.get_running_loop(), request.app.state
    count = state.interpreters.count
    found = await asyncio.gather(*(loop.run_in_executor(state.workers, count, 0, size) for _ in range(parts)))
    return Primes(parts=parts, found=sum(found))
