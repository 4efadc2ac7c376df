"""How many connections a worker's database pools have given out, and how many requests wait for one.  Runs in the target's process.

SQLAlchemy's and asyncpg's pools are read whenever one has handed a connection out, and whenever a request begins to wait.  Who waits is
read off the line in which the pool itself keeps them: a request whose connection is being opened does not wait.  The target imports its
driver; the lab itself knows none, and a library that it does not know is not watched.
"""

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .rows import NOT_WATCHED


class Line(deque[Any]):
    """Stands for the deque in which a queue keeps who waits for an item, and tells when somebody joins."""

    def __init__(self, held: Iterable[Any], joined: Callable[[], None]) -> None:
        super().__init__(held)
        self._joined = joined

    def append(self, one: Any) -> None:
        """Somebody begins to wait."""
        super().append(one)
        self._joined()


@dataclass(frozen=True)
class Reader:
    """How to read a library's pool: connections given out, and where it keeps who waits (an object and the name of its deque)."""

    checked_out: Callable[[Any], int]
    line: Callable[[Any], tuple[Any, str] | None]


@dataclass(frozen=True)
class Known:
    """A pool in use."""

    pool: Callable[[], Any]
    """The pool, None once the target has dropped it: a watch must not keep it alive."""
    reader: Reader
    line: deque[Any]


class PoolWatch:
    """The pools of one worker.  ``take`` gives the peaks since it was last called: (checked out, waiting)."""

    def __init__(self) -> None:
        self.libraries: list[str] = []
        self._pools: dict[int, Known] = {}
        self._lock = threading.Lock()  # pools are used in threads; nothing else is locked while it is held
        self._meeting = threading.RLock()
        self._out = self._waiting = 0

    def know(self, pool: Any, reader: Reader) -> None:
        """A pool that is in use."""
        known = self._pools.get(id(pool))
        if known is not None and known.pool() is pool:
            return
        with (
            self._meeting
        ):  # two threads may meet it first: the line that is watched must be the one that the pool uses
            known = self._pools.get(id(pool))
            if known is None or known.pool() is not pool:
                self._meet(pool, reader)

    def _meet(self, pool: Any, reader: Reader) -> None:
        key = id(pool)
        try:
            alive: Callable[[], Any] = weakref.ref(pool, lambda _: self._pools.pop(key, None))
        except TypeError:  # asyncpg's pools take no weak references; an application has few
            alive = lambda: pool  # noqa: E731
        place = reader.line(pool)
        line: deque[Any] = deque()
        if place is not None:
            line = Line(getattr(*place), self._joined)
            setattr(*place, line)
        self._pools[key] = Known(alive, reader, line)

    def look(self) -> None:
        """Read every pool now."""
        self._note(*self._levels())

    def take(self) -> tuple[int, int]:
        """The peaks since the last row."""
        if not self.libraries:
            return NOT_WATCHED, NOT_WATCHED
        out, waiting = self._levels()
        with self._lock:
            peaks = max(self._out, out), max(self._waiting, waiting)
            self._out, self._waiting = out, waiting
        return peaks

    def _levels(self) -> tuple[int, int]:
        pools = list(self._pools.values())
        alive = [(known, pool) for known in pools if (pool := known.pool()) is not None]
        return sum(known.reader.checked_out(pool) for known, pool in alive), sum(len(known.line) for known, _ in alive)

    def _joined(self) -> None:
        """Only the lines are read: whoever joins one may hold its pool's lock, and another pool's would be taken in any order."""
        self._note(0, sum(len(known.line) for known in list(self._pools.values())))

    def _note(self, out: int, waiting: int) -> None:
        with self._lock:
            self._out, self._waiting = max(self._out, out), max(self._waiting, waiting)


def watch_pools(watch: PoolWatch) -> None:
    """Watch the pools of the libraries that the target has imported.  To be called after its import and before its first request."""
    if base := sys.modules.get("sqlalchemy.pool.base"):
        _watch_sqlalchemy(base.Pool, watch)
    if pool := sys.modules.get("asyncpg.pool"):
        _watch_asyncpg(pool.Pool, watch)


def _watch_sqlalchemy(pool_class: Any, watch: PoolWatch) -> None:
    connect = pool_class.connect

    def watched(self: Any) -> Any:
        watch.know(self, SQLALCHEMY)
        connection = connect(self)
        watch.look()
        return connection

    pool_class.connect = watched
    watch.libraries.append("sqlalchemy")


def _watch_asyncpg(pool_class: Any, watch: PoolWatch) -> None:
    acquire = pool_class._acquire

    async def watched(self: Any, *arguments: Any) -> Any:
        if self._queue is not None:  # else the pool was never opened, and says so
            watch.know(self, ASYNCPG)
        connection = await acquire(self, *arguments)
        watch.look()
        return connection

    pool_class._acquire = watched
    watch.libraries.append("asyncpg")


def _sqlalchemy_out(pool: Any) -> int:
    return int(pool.checkedout()) if hasattr(pool, "checkedout") else 0  # NullPool and StaticPool have no such number


def _sqlalchemy_line(pool: Any) -> tuple[Any, str] | None:
    queue: Any = getattr(pool, "_pool", None)
    if hasattr(queue, "not_empty"):  # threads wait at a condition
        return queue.not_empty, "_waiters"
    return _getters(getattr(queue, "_queue", None))


def _asyncpg_out(pool: Any) -> int:
    return int(pool.get_size() - pool.get_idle_size())


def _getters(queue: Any) -> tuple[Any, str] | None:
    """Tasks that wait in ``asyncio.Queue.get``."""
    return (queue, "_getters") if hasattr(queue, "_getters") else None


SQLALCHEMY = Reader(_sqlalchemy_out, _sqlalchemy_line)
ASYNCPG = Reader(_asyncpg_out, lambda pool: _getters(pool._queue))
