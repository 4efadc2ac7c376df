"""How many connections a worker's database pools have given out, and how many requests wait for one.  Runs in the target's process.

SQLAlchemy's and asyncpg's pools are read at every tick of the wrapper, and whenever one has handed a connection out.  Who waits is read off
the queue in which the pool itself keeps them: a request whose connection is being opened does not wait.  The target imports its driver; the
lab itself knows none, and a library that it does not know is not watched.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NOT_WATCHED = -1
"""What a row says where the target uses no pool that is known here."""


@dataclass(frozen=True)
class Reader:
    """How to read a library's pool: connections given out, and requests that wait."""

    checked_out: Callable[[Any], int]
    waiting: Callable[[Any], int]


class PoolWatch:
    """The pools of one worker.  ``take`` gives the peaks since it was last called: (checked out, waiting)."""

    def __init__(self) -> None:
        self.libraries: list[str] = []
        self._pools: dict[
            int, tuple[Any, Reader]
        ] = {}  # asyncpg's pools take no weak references; an application has few
        self._out = self._waiting = 0

    def know(self, pool: Any, reader: Reader) -> None:
        """A pool that is in use."""
        self._pools[id(pool)] = pool, reader

    def look(self) -> None:
        """Read every pool now."""
        pools = list(self._pools.values())
        self._out = max(self._out, sum(reader.checked_out(pool) for pool, reader in pools))
        self._waiting = max(self._waiting, sum(reader.waiting(pool) for pool, reader in pools))

    def take(self) -> tuple[int, int]:
        """The peaks since the last row."""
        if not self.libraries:
            return NOT_WATCHED, NOT_WATCHED
        self.look()
        peaks = self._out, self._waiting
        self._out = self._waiting = 0
        return peaks


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
        watch.know(self, ASYNCPG)
        connection = await acquire(self, *arguments)
        watch.look()
        return connection

    pool_class._acquire = watched
    watch.libraries.append("asyncpg")


def _sqlalchemy_out(pool: Any) -> int:
    return int(pool.checkedout()) if hasattr(pool, "checkedout") else 0  # NullPool and StaticPool have no such number


def _sqlalchemy_waiting(pool: Any) -> int:
    queue: Any = getattr(pool, "_pool", None)
    if hasattr(queue, "not_empty"):  # threads wait at a condition
        return len(queue.not_empty._waiters)
    return _getters(getattr(queue, "_queue", None))


def _asyncpg_out(pool: Any) -> int:
    return int(pool.get_size() - pool.get_idle_size())


def _getters(queue: Any) -> int:
    """Tasks that wait in ``asyncio.Queue.get``."""
    return sum(not getter.done() for getter in list(getattr(queue, "_getters", ())))


SQLALCHEMY = Reader(_sqlalchemy_out, _sqlalchemy_waiting)
ASYNCPG = Reader(_asyncpg_out, lambda pool: _getters(pool._queue))
