"""The thin wrapper around a target, the same for every variant: what only the server's own process can see.

Every worker appends a row of ``SERVER_COLUMNS`` (int64, native order) to ``$LAB_OBSERVE_DIR/<pid>.rows`` each 100 ms, so that
a killed worker loses at most its last tenth of a second, and names itself in the ``x-lab-pid`` response header.
It runs in the target's environment, which may be another Python with other libraries: standard library and anyio only, and of the lab
only what keeps to the same.
"""

import array
import asyncio
import gc
import importlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import anyio.to_thread

from .pools import PoolWatch, watch_pools
from .rowfile import RowFile
from .rows import GOES_ON, NOT_WATCHED, ROW_NS, SHUT_DOWN, TICK_NS, TICKS

Message = MutableMapping[str, Any]
Scope = Message
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TICK_S = TICK_NS / 1e9
OWN = b"x-lab-own"


class Borrowers(set[Any]):
    """Stands for the set in which AnyIO's limiter keeps who borrows a thread, and remembers the most that it held.

    The set sees every borrower, whichever of the limiter's methods lends, in every version of AnyIO since 1.
    """

    def __init__(self, held: Iterable[Any] = ()) -> None:
        super().__init__(held)
        self._peak = len(self)

    def add(self, borrower: Any) -> None:
        """Lend a thread."""
        super().add(borrower)
        self._peak = max(self._peak, len(self))

    def take(self) -> int:
        """The peak since this was last called."""
        peak, self._peak = self._peak, len(self)
        return peak


def watch_threads(limiter: Any) -> Borrowers | None:
    """Watch who borrows from ``limiter``; None where it does not keep them in a set."""
    held = getattr(limiter, "_borrowers", None)
    if not isinstance(held, set):
        return None
    limiter._borrowers = borrowers = Borrowers(held)
    return borrowers


class Tally:
    """Requests of one kind: how many began and ended so far, and the most that were open at once."""

    __slots__ = ("_peak", "begun", "ended")

    def __init__(self) -> None:
        self.begun = self.ended = self._peak = 0

    def begin(self) -> None:
        """Count a request that begins."""
        self.begun += 1
        self._peak = max(self._peak, self.begun - self.ended)

    def take(self) -> int:
        """The peak since this was last called."""
        peak, self._peak = self._peak, self.begun - self.ended
        return peak


class Sampler:
    """Watches one worker: its loop with a timer of 5 ms, its requests, its threads, its pools.  Made in the worker itself, on its loop."""

    def __init__(self, folder: Path, pools: PoolWatch, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.load, self.own = Tally(), Tally()
        self._pid = os.getpid()
        self.header = (b"x-lab-pid", str(self._pid).encode())
        self._pools = pools
        self._clock = clock
        self._file = RowFile(folder / f"{self._pid}.rows")
        self._spans: list[int] = []
        self._gc_ns = self._gc_started = 0
        self._done = False
        self._loop = asyncio.get_running_loop()
        self._borrowers = watch_threads(anyio.to_thread.current_default_thread_limiter())
        gc.callbacks.append(self._on_gc)
        self._start_ns = self._ticked_ns = clock()
        self._write(GOES_ON)  # an empty row: the worker has come up
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        if self._done:
            return
        self._advance()
        self._loop.call_later(TICK_S, self._tick)
        if self._ticked_ns - self._start_ns >= ROW_NS or len(self._spans) == TICKS:
            self._write(GOES_ON)

    def _advance(self) -> None:
        now = self._clock()
        self._spans.append(now - self._ticked_ns)
        self._ticked_ns = now

    def _write(self, ending: int) -> None:
        spans, self._spans = self._spans, []
        lag = max(max(spans, default=0) - TICK_NS, 0)
        threads = NOT_WATCHED if self._borrowers is None else self._borrowers.take()
        row = (self._start_ns, self._ticked_ns, self._pid, ending, self.load.begun, self.load.ended, self.own.begun, self.load.take(),
               lag, threads, self._gc_ns, time.process_time_ns(), *self._pools.take(), *spans, *[0] * (TICKS - len(spans)))  # fmt: skip
        self._file.append(array.array("q", row).tobytes())
        self._start_ns = self._ticked_ns

    def finish(self) -> None:
        """Write the last row: the server shuts this worker down."""
        self._advance()
        self._write(SHUT_DOWN)
        self.abandon()

    def abandon(self) -> None:
        """Watch no longer.  In a forked child this leaves the parent's rows to the parent."""
        self._done = True
        self._file.close()
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = time.monotonic_ns()
        else:
            self._gc_ns += time.monotonic_ns() - self._gc_started


def _is_own(scope: Scope) -> bool:
    """Whether the lab itself sent the request, besides the load."""
    for name, _ in scope.get("headers", ()):  # noqa: SIM110 - a generator costs more than all the comparisons
        if name == OWN:
            return True
    return False


class Observed:
    """An ASGI app that counts and stamps the requests of the app inside."""

    def __init__(self, app: App, folder: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._app = app
        self._folder = folder
        self._clock = clock
        self._pools = PoolWatch()
        watch_pools(self._pools)
        self._sampler: Sampler | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _start(self) -> Sampler:
        # Here and not at import: a server that loads the app before it forks would make every worker bear its parent's pid.
        self._sampler = Sampler(self._folder, self._pools, self._clock)
        return self._sampler

    def _forget(self) -> None:
        if self._sampler is not None:
            self._sampler.abandon()
            self._sampler = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the pid header is added to the response's start."""
        sampler = self._sampler or self._start()
        if scope["type"] != "http":
            await self._app(scope, receive, _ending(sampler, send) if scope["type"] == "lifespan" else send)
            return
        header = sampler.header
        tally = sampler.own if _is_own(scope) else sampler.load
        tally.begin()
        open_ = True

        async def stamped(message: Message) -> None:
            nonlocal open_
            if message["type"] == "http.response.start":
                # A new message: an app may send the same one for each request.
                message = {**message, "headers": [*message.get("headers", ()), header]}
            elif open_ and message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before it is sent: the client's next request must not meet this one.  What the app does afterwards (a
                # background task) is no longer this request.
                open_ = False
                tally.ended += 1
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        finally:
            if open_:
                tally.ended += 1


def _ending(sampler: Sampler, send: Send) -> Send:
    """Sends the messages of the lifespan; before the last one the worker's rows are finished, for the server may end at once."""

    async def ending(message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            sampler.finish()
        await send(message)

    return ending


def load_app(target: str) -> App:
    """Import ``module:attribute``, under the observers that the environment names.  Raises what the import raises: the server's log shows it."""
    names = [name for name in os.environ.get("LAB_OBSERVERS", "").split(",") if name]
    observers = [importlib.import_module(f".observers.{name}", __package__) for name in names]
    for observer in observers:
        observer.prepare()
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in (attribute or "app").split("."):
        found = getattr(found, name)
    app: App = found() if os.environ.get("LAB_TARGET_FACTORY") else found
    for observer in observers:
        app = observer.wrap(app)
    return app


if "LAB_TARGET" in os.environ:
    app: App = Observed(load_app(os.environ["LAB_TARGET"]), Path(os.environ["LAB_OBSERVE_DIR"]))
