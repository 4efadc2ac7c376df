"""The thin wrapper around a target, the same for every variant: what only the server's own process can see.

Every worker appends one row of ``SERVER_COLUMNS`` (int64, native order) to ``$LAB_OBSERVE_DIR/<pid>.rows`` each 100 ms, so that
a killed worker loses at most its last tenth of a second, and names itself in the ``x-lab-pid`` response header.
It runs in the target's environment, which may be another Python with other libraries: standard library and anyio only, and of the lab
only what keeps to the same.
"""

import array
import asyncio
import gc
import importlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio.to_thread

from lab.pools import PoolWatch, watch_pools

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TICK_S = 0.005
TICKS_PER_ROW = 20


class Sampler:
    """Watches one worker's loop with a timer of 5 ms; a late timer is a loop that was busy with something else."""

    def __init__(self, folder: Path, pools: PoolWatch) -> None:
        self.requests = 0
        self.in_flight = 0
        self._pools = pools
        self._pid = os.getpid()
        self._file = (folder / f"{self._pid}.rows").open("ab", buffering=0)
        self._gc_ns = 0
        self._gc_started = 0
        self._lag_ns = 0
        self._borrowed = 0
        self._ticks = 0

    def start(self) -> None:
        """Start the timer on the running loop.  Called once per worker."""
        self._loop = asyncio.get_running_loop()
        self._limiter = anyio.to_thread.current_default_thread_limiter()
        gc.callbacks.append(self._on_gc)
        self._write()
        self._arm()

    def _arm(self) -> None:
        self._due_ns = time.monotonic_ns() + int(TICK_S * 1e9)
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._lag_ns = max(self._lag_ns, time.monotonic_ns() - self._due_ns)
        self._borrowed = max(self._borrowed, int(self._limiter.borrowed_tokens))
        self._pools.look()
        self._ticks += 1
        if self._ticks >= TICKS_PER_ROW or self._lag_ns > TICKS_PER_ROW * TICK_S * 1e9:
            self._write()
        self._arm()

    def _write(self) -> None:
        row = (time.monotonic_ns(), self._pid, self.requests, self.in_flight, self._lag_ns, self._borrowed,
               self._gc_ns, time.process_time_ns(), *self._pools.take())  # fmt: skip
        try:
            self._file.write(array.array("q", row).tobytes())
        except OSError as error:  # a full disk must not change what the target answers
            print(f"lab.asgi: cannot record this worker: {error}", file=sys.stderr)  # noqa: T201
        self._lag_ns = self._borrowed = self._ticks = 0

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = time.monotonic_ns()
        else:
            self._gc_ns += time.monotonic_ns() - self._gc_started


class Observed:
    """An ASGI app that counts and stamps the requests of the app inside."""

    def __init__(self, app: App, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._pools = PoolWatch()
        watch_pools(self._pools)
        self._sampler: Sampler | None = None
        self._header = (b"x-lab-pid", str(os.getpid()).encode())

    def _start(self) -> Sampler:
        self._sampler = Sampler(self._folder, self._pools)
        self._sampler.start()
        return self._sampler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the pid header is added to the response's start."""
        sampler = self._sampler or self._start()
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def stamped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        sampler.requests += 1
        sampler.in_flight += 1
        try:
            await self._app(scope, receive, stamped)
        finally:
            sampler.in_flight -= 1


def load_app(target: str) -> App:
    """Import ``module:attribute``.  Raises what the import raises: the server's log shows it."""
    module, _, attribute = target.partition(":")
    if "LAB_COUNT_MATCHES" in os.environ:
        from lab.matches import Counted, count_paths

        count_paths()
        return Counted(getattr(importlib.import_module(module), attribute or "app"))
    app: App = getattr(importlib.import_module(module), attribute or "app")
    return app


if "LAB_TARGET" in os.environ:
    app: App = Observed(load_app(os.environ["LAB_TARGET"]), Path(os.environ["LAB_OBSERVE_DIR"]))
