"""Trials as columns: read lazily, one column at a time, so that ten million samples never stand in memory together.

Argument names carry the level of the data: a ``trial`` is one folder, a ``plan`` one gotcha, a ``run`` everything.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.model import OUTCOMES, SAMPLE_COLUMNS, Condition, RunPlan
from lab.words.errors import StoreError
from lab.words.record import SERVER_COLUMNS, Environment, TrialRecord

Ints = NDArray[Any]
T = TypeVar("T")

OK, HTTP_ERROR, TIMEOUT, RESET, REFUSED, CENSORED, BAD_FRAMING = range(len(OUTCOMES))
SAMPLES_FILE = "samples.parquet"
SERVER_FILE = "server.parquet"


class Trial:
    """One trial's record and its columns.  ``column`` gives one of ``SAMPLE_COLUMNS``, ``server`` one of ``SERVER_COLUMNS``.

    A trial without samples (it failed, or the wrapper was off) has empty columns.  ``cached`` keeps what several metrics share
    until ``drop`` is called.
    """

    def __init__(
        self, record: TrialRecord, samples: Callable[[str], Ints], server: Callable[[str], Ints], name: str = ""
    ) -> None:
        self.record = record
        self.name = name or f"{record.condition}/{record.pair}-{record.variant}"
        self._samples = samples
        self._server = server
        self._cache: dict[Any, Any] = {}

    def column(self, name: str) -> Ints:
        """One column of the samples, in the integer type that it is stored in."""
        return self.cached(("sample", name), lambda: self._samples(name))

    def server(self, name: str) -> Ints:
        """One column of the wrapper's rows; empty where the wrapper recorded nothing."""
        return self.cached(("server", name), lambda: self._server(name))

    def cached(self, key: Any, make: Callable[[], T]) -> T:
        """``make()``, once."""
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    def drop(self) -> None:
        """Forget the columns: the next trial needs the memory."""
        self._cache.clear()


class FolderLike(Protocol):
    """What is needed of ``lab.store.TrialFolder``."""

    @property
    def path(self) -> Path:
        """The trial's folder."""
        ...

    @property
    def record(self) -> TrialRecord:
        """What the trial left behind."""
        ...


class RunLike(Protocol):
    """What is needed of ``lab.store.RunFolder``.  ``trials`` may also give ``Trial`` values that are in memory already."""

    @property
    def plan(self) -> RunPlan:
        """What was registered before the load."""
        ...

    @property
    def environment(self) -> Environment:
        """The machine and its software."""
        ...

    def trials(self, gotcha: str) -> "Sequence[FolderLike | Trial]":
        """The finished trials of a gotcha."""
        ...


def _reader(path: Path, known: tuple[str, ...]) -> Callable[[str], Ints]:
    def read(name: str) -> Ints:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if name not in known:
            raise KeyError(name)
        if not path.is_file():
            return np.empty(0, dtype=np.int64)
        try:
            if name not in pq.read_schema(path).names:  # written by an older lab
                return np.empty(0, dtype=np.int64)
            table = pq.read_table(path, columns=[name], memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{path}: column {name} cannot be read: {error}", "The file is damaged: delete the trial and run again."
            ) from error
        # No copy where the column is one chunk: a decoded column of 10 million int64 is 80 MB.
        values: Ints = table.column(0).to_numpy()
        return values

    return read


def open_trial(folder: "FolderLike | Trial") -> Trial:
    """A trial on disk, its columns still unread.  Raises StoreError where its record is damaged."""
    if isinstance(folder, Trial):
        return folder
    return Trial(
        folder.record, _reader(folder.path / SAMPLES_FILE, SAMPLE_COLUMNS),
        _reader(folder.path / SERVER_FILE, SERVER_COLUMNS), str(folder.path.name),
    )  # fmt: skip


def memory_trial(record: TrialRecord, samples: Mapping[str, Ints], server: Mapping[str, Ints] | None = None) -> Trial:
    """A trial whose columns are at hand (tests, simulations).  Columns left out are zeros (``level`` -1)."""
    rows = len(next(iter(samples.values()))) if samples else 0
    rows_server = len(next(iter(server.values()))) if server else 0

    def sample_column(name: str) -> Ints:
        return samples[name] if name in samples else np.full(rows, -1 if name == "level" else 0, dtype=np.int64)

    def server_column(name: str) -> Ints:
        return server[name] if server and name in server else np.zeros(rows_server, dtype=np.int64)

    return Trial(record, sample_column, server_column)


def samples_frame(trial: Trial, columns: Sequence[str] = SAMPLE_COLUMNS) -> pd.DataFrame:
    """The samples as a table, one row a request; only the ``columns`` asked for are read."""
    return pd.DataFrame({name: trial.column(name) for name in columns})


def server_frame(trial: Trial, columns: Sequence[str] = SERVER_COLUMNS) -> pd.DataFrame:
    """The wrapper's rows as a table, one row per worker and 100 ms."""
    return pd.DataFrame({name: trial.server(name) for name in columns})


# ---------------------------------------------------------------- the measured window


def is_timed(condition: Condition) -> bool:
    """Whether the load ends by the clock; a burst, a journey and a fixed number of requests end when they are done."""
    return condition.load.by_clock


def load_s(condition: Condition) -> float:
    """How long a timed load sends after its warm-up."""
    return condition.load.lasts_s(condition.duration_s)


def warmup_s(trial: Trial, condition: Condition) -> float:
    """How long the warm-up really took: it is prolonged until the target is steady.  An older record has only what was asked for."""
    seen = trial.record.generator
    return condition.warmup_s if seen is None or seen.warmup_s is None else seen.warmup_s


def window_ns(trial: Trial, condition: Condition) -> tuple[int, int]:
    """Start and end of what rates and times are taken from, CLOCK_MONOTONIC ns.

    A timed load: from the end of the warm-up to the end of the arrivals (the drain is not part of it).  Any other load: from the
    first planned request to the last answer.
    """
    record = trial.record
    if is_timed(condition):
        start = record.load_started_ns + round(warmup_s(trial, condition) * 1e9)
        # The generator may call the load ended before or after the drain; arrivals end here in either case.
        return start, max(min(record.load_ended_ns, start + round(load_s(condition) * 1e9)), start)
    planned, done = trial.column("planned_ns"), trial.column("done_ns")
    if len(planned) == 0:
        return record.load_started_ns, record.load_ended_ns
    return int(planned.min()), max(int(done.max()), int(planned.min()))


def in_window(trial: Trial, condition: Condition) -> NDArray[np.bool_]:
    """Which requests were planned inside the window."""

    def make() -> NDArray[np.bool_]:
        planned = trial.column("planned_ns")
        if not is_timed(condition):
            return np.ones(len(planned), dtype=np.bool_)
        start, end = window_ns(trial, condition)
        return (planned >= start) & (planned < end)

    return trial.cached("in_window", make)
