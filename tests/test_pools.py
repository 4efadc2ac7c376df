"""The wrapper reads database pools: connections given out, and who waits for one, while they are used."""

import asyncio
import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.pool import base as pool_base
from sqlalchemy.util import greenlet_spawn

from analysis.frames import open_trial
from lab.services.supervisor import Services
from lab.store import TrialFolder
from lab.target.inside.pools import SQLALCHEMY, PoolWatch, Reader, watch_pools
from lab.target.inside.rows import NOT_WATCHED
from lab.words.record import SERVER_COLUMNS, TrialRecord


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWatch]:
    """A watch that is taken off again."""
    monkeypatch.setattr(pool_base.Pool, "connect", pool_base.Pool.connect)
    monkeypatch.setattr(asyncpg.pool.Pool, "_acquire", asyncpg.pool.Pool._acquire)  # type: ignore[attr-defined]
    watch = PoolWatch()
    watch_pools(watch)
    yield watch


def test_without_a_known_library_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, ModuleType] = {}
    monkeypatch.setattr(sys, "modules", modules)
    watch = PoolWatch()
    watch_pools(watch)
    assert watch.take() == (NOT_WATCHED, NOT_WATCHED)


def memory_engine(**options: Any) -> Any:
    return create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False}, **options)


def wait_until_in_line(watch: PoolWatch, count: int) -> None:
    """Until ``count`` requests wait; read off the pool's own line, not off the watch's peaks."""
    line = next(iter(watch._pools.values())).line
    for _ in range(1000):
        if len(line) == count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{len(line)} of {count} wait")


def test_threads_that_wait_for_sqlalchemy_are_counted_when_they_join_the_line(watch: PoolWatch) -> None:
    """Nobody looks meanwhile: the peaks were taken when connections were handed out and when each began to wait."""
    engine = memory_engine(pool_size=2, max_overflow=1)
    held = [engine.connect() for _ in range(3)]
    threads = [threading.Thread(target=lambda: engine.connect().close()) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until_in_line(watch, 4)
    for connection in held:
        connection.close()
    for thread in threads:
        thread.join(10)
    assert watch.take() == (3, 4)
    assert watch.take() == (0, 0)
    engine.dispose()


def test_what_lasts_over_several_rows_is_in_each_of_them(watch: PoolWatch) -> None:
    engine = memory_engine(pool_size=1, max_overflow=0)
    held = engine.connect()
    thread = threading.Thread(target=lambda: engine.connect().close())
    thread.start()
    wait_until_in_line(watch, 1)
    assert [watch.take() for _ in range(3)] == [(1, 1)] * 3
    held.close()
    thread.join(10)
    assert watch.take() == (1, 1)  # the row in which it ended
    assert watch.take() == (0, 0)


def test_who_gives_up_waiting_no_longer_waits(watch: PoolWatch) -> None:
    engine = memory_engine(pool_size=1, max_overflow=0, pool_timeout=0.01)
    held = engine.connect()
    with pytest.raises(PoolTimeout):
        engine.connect()
    assert watch.take() == (1, 1)
    assert watch.take() == (1, 0)
    held.close()


def test_two_pools_of_a_worker_are_added_up(watch: PoolWatch) -> None:
    engines = [memory_engine(pool_size=2, max_overflow=0) for _ in range(2)]
    held = [engine.connect() for engine in engines for _ in range(2)]
    assert watch.take() == (4, 0)
    for connection in held:
        connection.close()


def test_a_pool_that_the_target_drops_is_not_kept_alive(watch: PoolWatch) -> None:
    """An engine for each request is a mistake of the target; the lab must not turn it into a leak."""
    engine = memory_engine()
    gone = weakref.ref(engine.pool)
    engine.connect().close()
    assert len(watch._pools) == 1
    engine.dispose()
    del engine
    gc.collect()
    assert gone() is None
    assert watch._pools == {}


def test_tasks_that_wait_for_an_async_engine_are_counted(watch: PoolWatch) -> None:
    """The async engine's queue holds futures; a queue of connections that are plain objects shows it without a database."""

    async def use() -> list[tuple[int, int]]:
        pool = AsyncAdaptedQueuePool(FakeConnection, pool_size=2, max_overflow=0, timeout=5)  # type: ignore[arg-type]
        held = [await greenlet_spawn(pool.connect) for _ in range(2)]
        waiting = [asyncio.create_task(greenlet_spawn(lambda: pool.connect().close())) for _ in range(3)]
        while sum(len(known.line) for known in watch._pools.values()) < 3:
            await asyncio.sleep(0)
        for connection in held:
            await greenlet_spawn(connection.close)
        await asyncio.gather(*waiting)
        return [watch.take(), watch.take()]

    assert asyncio.run(use()) == [(2, 3), (0, 0)]


class FakeConnection:
    """What a pool needs of a driver's connection."""

    def rollback(self) -> None:
        """Nothing to undo."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.services
def test_tasks_that_wait_for_asyncpg_are_counted(watch: PoolWatch, tmp_path: Path) -> None:
    async def use(url: str) -> tuple[tuple[int, int], tuple[int, int]]:
        async with asyncpg.create_pool(url, min_size=0, max_size=2) as pool:
            held = [await pool.acquire() for _ in range(2)]
            waiting: list[asyncio.Task[Any]] = [asyncio.create_task(pool.fetchval("SELECT 1")) for _ in range(3)]
            while sum(len(known.line) for known in watch._pools.values()) < 3:
                await asyncio.sleep(0.001)
            for connection in held:
                await pool.release(connection)
            await asyncio.gather(*waiting)
            return watch.take(), watch.take()

    with Services({"postgres"}, log_folder=tmp_path) as services:
        assert services.postgres is not None
        database = services.postgres.fresh_copy(None)
        assert asyncio.run(use(services.postgres.url(database))) == ((2, 3), (0, 0))


class Meeting:
    """A pool that two threads use for the first time: the second comes while the first puts its line in place."""

    waiters: Any
    second: Any

    def __init__(self, second: Any) -> None:
        self.__dict__.update(waiters=deque(), second=second)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        if not self.second.ident:
            self.second.start()
            self.second.join(0.5)


def test_two_threads_that_meet_a_pool_first_leave_one_line() -> None:
    watch, reader = PoolWatch(), Reader(lambda pool: 0, lambda pool: (pool, "waiters"))
    watch.libraries.append("a library")
    pool: Any = None
    second = threading.Thread(target=lambda: watch.know(pool, reader))
    pool = Meeting(second)
    watch.know(pool, reader)
    second.join()
    pool.waiters.append("somebody")
    assert watch.take() == (0, 1)
    assert watch.take() == (0, 1), "still waiting in the next row"


def test_a_pool_without_numbers_counts_as_none() -> None:
    assert SQLALCHEMY.checked_out(object()) == 0 and SQLALCHEMY.line(object()) is None


def test_rows_of_format_1_have_no_pool_columns_and_read_as_empty(tmp_path: Path) -> None:
    record = TrialRecord("topic/gotcha", "one", 0, "naive", 5, "ok", format_version=1)
    old = [name for name in SERVER_COLUMNS if not name.startswith("pool_")]
    pq.write_table(pa.table({name: np.arange(3, dtype=np.int64) for name in old}), tmp_path / "server.parquet")
    folder = TrialFolder(tmp_path)
    folder.write(record)
    trial = open_trial(folder)
    assert len(trial.server("loop_lag_max_ns")) == 3
    assert len(trial.server("pool_waiting")) == 0
