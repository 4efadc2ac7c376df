"""Rows of measurements, one a request, append-only and compact: 96 bytes each, written once at the end."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.model import SAMPLE_COLUMNS

COLUMNS = len(SAMPLE_COLUMNS)
NAME_COLUMN = SAMPLE_COLUMNS.index("name_id")
PLANNED_COLUMN = SAMPLE_COLUMNS.index("planned_ns")
SENT_COLUMN = SAMPLE_COLUMNS.index("sent_ns")
DONE_COLUMN = SAMPLE_COLUMNS.index("done_ns")
OUTCOME_COLUMN = SAMPLE_COLUMNS.index("outcome")

# A user that puts ids into its request names would otherwise make the table as large as the samples.
MAX_NAMES = 4096
OTHER_NAME = "(other)"

# Progress lines must not disturb the load: they look at no more than this many of the newest rows (sorting them takes 50 us).
PROGRESS_ROWS = 500


class Names:
    """The table of request names: a name in, its index out."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def id_of(self, name: str) -> int:
        """The index of a name, a new one if need be; after ``MAX_NAMES`` names every new one is ``(other)``."""
        known = self._ids.get(name)
        if known is not None:
            return known
        if len(self._ids) >= MAX_NAMES and name != OTHER_NAME:
            return self.id_of(OTHER_NAME)
        return self._ids.setdefault(name, len(self._ids))

    @property
    def all(self) -> tuple[str, ...]:
        """The names in the order of their indices."""
        return tuple(self._ids)


class Recorder:
    """Collects rows in the order of ``SAMPLE_COLUMNS``, and what the user class counts."""

    def __init__(self) -> None:
        self._values = array("q")
        self.names = Names()
        self.counts: dict[str, float] = {}
        self.maxima: dict[str, float] = {}
        self.add: Callable[[Sequence[int]], None] = self._values.extend
        """Append one row: a tuple of ``COLUMNS`` integers.  It is the array's own method, for speed: nothing is checked here."""

    def __len__(self) -> int:
        return len(self._values) // COLUMNS

    def count(self, name: str, n: float = 1) -> None:
        """Add to a count; counts of several processes add up."""
        self.counts[name] = self.counts.get(name, 0) + n

    def observe_max(self, name: str, value: float) -> None:
        """Keep the largest value seen; of several processes the largest counts."""
        self.maxima[name] = max(value, self.maxima.get(name, value))

    def forget_counts(self) -> None:
        """Begin counting afresh: a count goes back to 0 and stays known, of maxima nothing is left."""
        self.counts = dict.fromkeys(self.counts, 0.0)
        self.maxima.clear()

    @property
    def observed(self) -> dict[str, float]:
        """Counts and maxima under their names."""
        return {**self.counts, **self.maxima}

    def matrix(self) -> npt.NDArray[np.int64]:
        """All rows, as a copy: N x ``COLUMNS``.  Raises ValueError if somebody appended half a row."""
        return np.array(self._values, dtype=np.int64).reshape(-1, COLUMNS)

    def since(self, row: int) -> tuple[int, float, int]:
        """Of the rows from ``row`` on: how many, the p99 of done - planned in seconds over the newest of them, and errors among those."""
        new = len(self) - row
        newest = min(new, PROGRESS_ROWS)
        if newest <= 0:
            return 0, 0.0, 0
        values = self._values[-newest * COLUMNS :]
        latencies = sorted(
            values[at + DONE_COLUMN] - values[at + PLANNED_COLUMN] for at in range(0, len(values), COLUMNS)
        )
        errors = sum(1 for outcome in values[OUTCOME_COLUMN::COLUMNS] if outcome)
        return new, latencies[min(newest - 1, int(newest * 0.99))] / 1e9, errors


def save(path: Path, matrix: npt.NDArray[np.int64]) -> None:
    """Write the rows as .npy."""
    with path.open("wb") as file:
        np.save(file, matrix, allow_pickle=False)


def merge(
    parts: Sequence[tuple[npt.NDArray[np.int64], Sequence[str]]],
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Rows of several processes as one matrix in the order of the planned instants, under one table of names.

    Exact: every row of every part is in it once, unchanged but for its ``name_id``.
    """
    names: dict[str, int] = {}
    matrices = []
    for matrix, part_names in parts:
        new_ids = np.array([names.setdefault(name, len(names)) for name in part_names], dtype=np.int64)
        renamed = matrix.copy()
        if len(renamed):
            renamed[:, NAME_COLUMN] = new_ids[matrix[:, NAME_COLUMN]]
        matrices.append(renamed)
    if not matrices:
        return np.empty((0, COLUMNS), dtype=np.int64), ()
    merged = np.concatenate(matrices)
    return merged[np.argsort(merged[:, PLANNED_COLUMN], kind="stable")], tuple(names)


def merge_observed(parts: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, float]:
    """Counts of several processes added, their maxima compared."""
    total = Recorder()
    for counts, maxima in parts:
        for name, n in counts.items():
            total.count(name, n)
        for name, value in maxima.items():
            total.observe_max(name, value)
    return total.observed
