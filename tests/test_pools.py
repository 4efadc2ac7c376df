"""The wrapper reads database pools: connections given out, and who waits for one, while they are used."""

import asyncio
import sys
import threading
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
from sqlalchemy.pool import QueuePool
from sqlalchemy.pool import base as pool_base

from analysis.frames import open_trial
from lab.pools import ASYNCPG, NOT_WATCHED, SQLALCHEMY, PoolWatch, watch_pools
from lab.record import SERVER_COLUMNS, TrialRecord
from lab.services.supervisor import Services
from lab.store import TrialFolder


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


def test_threads_that_wait_for_sqlalchemy_are_counted(watch: PoolWatch) -> None:
    engine = create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=1, connect_args={"check_same_thread": False}
    )
    held = [engine.connect() for _ in range(3)]
    assert watch.take() == (3, 0)
    threads = [threading.Thread(target=lambda: engine.connect().close()) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        watch.look()
        if watch._waiting == 4:
            break
        threading.Event().wait(0.01)
    assert watch.take() == (3, 4)
    for connection in held:
        connection.close()
    for thread in threads:
        thread.join(10)
    watch.take()
    assert watch.take() == (0, 0)
    engine.dispose()


@pytest.mark.services
def test_tasks_that_wait_for_asyncpg_are_counted(watch: PoolWatch, tmp_path: Path) -> None:
    async def use(url: str) -> tuple[tuple[int, int], tuple[int, int]]:
        async with asyncpg.create_pool(url, min_size=0, max_size=2) as pool:
            held = [await pool.acquire() for _ in range(2)]
            waiting: list[asyncio.Task[Any]] = [asyncio.create_task(pool.fetchval("SELECT 1")) for _ in range(3)]
            await asyncio.sleep(0.05)
            busy = watch.take()
            for connection in held:
                await pool.release(connection)
            await asyncio.gather(*waiting)
            watch.take()
            return busy, watch.take()

    with Services({"postgres"}, log_folder=tmp_path) as services:
        assert services.postgres is not None
        database = services.postgres.fresh_copy(None)
        assert asyncio.run(use(services.postgres.url(database))) == ((2, 3), (0, 0))


def test_a_pool_without_numbers_counts_as_none() -> None:
    assert SQLALCHEMY.checked_out(object()) == 0 and SQLALCHEMY.waiting(object()) == 0
    assert ASYNCPG.waiting is not SQLALCHEMY.waiting


def test_rows_of_format_1_have_no_pool_columns_and_read_as_empty(tmp_path: Path) -> None:
    record = TrialRecord("topic/gotcha", "one", 0, "naive", 5, "ok", format_version=1)
    old = [name for name in SERVER_COLUMNS if not name.startswith("pool_")]
    pq.write_table(pa.table({name: np.arange(3, dtype=np.int64) for name in old}), tmp_path / "server.parquet")
    folder = TrialFolder(tmp_path)
    folder.write(record)
    trial = open_trial(folder)
    assert len(trial.server("loop_lag_max_ns")) == 3
    assert len(trial.server("pool_waiting")) == 0
