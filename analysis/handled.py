"""What the workers say that they handled: the wrapper's own counters, which know nothing of the generator's rows."""

from dataclasses import dataclass

import numpy as np

from analysis.frames import Ints, Trial
from lab.target.inside.rows import GOES_ON, TICK_COLUMNS, UNWRITTEN


@dataclass(frozen=True)
class Handled:
    """Requests of the load that all workers together began, those that they finished, and requests of the lab itself (``own``)."""

    requests: int
    answered: int
    own: int


def handled(trial: Trial) -> Handled | None:
    """The sum over the workers of their last totals; None where the wrapper was off or older than these counters (format 2), or where
    a worker could not write its rows.

    A worker that was killed tells nothing of its last tenth of a second: where ``unfinished`` names one the sums are lower bounds.
    """
    pids = trial.server("pid")
    columns = [trial.server(name) for name in ("requests", "answered", "own")]
    if not len(pids) or not all(len(column) for column in columns) or unwritten(trial):
        return None
    return Handled(*(sum(int(column[pids == pid].max()) for pid in np.unique(pids)) for column in columns))


def is_tiled(trial: Trial) -> bool:
    """Whether the rows have a start each (format 3)."""
    return bool(trial.server("start_ns").any())


def by_worker(trial: Trial) -> dict[int, Ints]:
    """The positions of each worker's rows, in order of time."""
    pids, ends = trial.server("pid"), trial.server("t_ns")
    order = np.argsort(ends, kind="stable")
    return {int(pid): order[pids[order] == pid] for pid in np.unique(pids)}


def spans_ns(trial: Trial) -> Ints:
    """The spans between ticks, one line a row; 0 where a row had fewer."""
    spans: Ints = trial.cached("spans", lambda: np.stack([trial.server(name) for name in TICK_COLUMNS], axis=1))
    return spans


def unwritten(trial: Trial) -> tuple[int, ...]:
    """Workers that could not write all their rows."""
    if not is_tiled(trial):
        return ()
    return tuple(int(pid) for pid in np.unique(trial.server("pid")[trial.server("ending") == UNWRITTEN]))


def unfinished(trial: Trial) -> tuple[int, ...]:
    """Workers whose rows end before the load does, though nobody shut them down: they were killed."""
    ends, endings = trial.server("t_ns"), trial.server("ending")
    last = {pid: rows[-1] for pid, rows in by_worker(trial).items()} if is_tiled(trial) else {}
    return tuple(pid for pid, at in last.items() if ends[at] < trial.record.load_ended_ns and endings[at] == GOES_ON)


def rows_tile(trial: Trial) -> str:
    """What hole there is in what the workers recorded, from the first to the last row of each; empty where there is none.

    Rows of format 2 have no start, and nothing can be said of them; neither where the wrapper was off.
    """
    return trial.cached("rows_tile", lambda: _hole(trial))


def _hole(trial: Trial) -> str:
    if not is_tiled(trial):
        return ""
    if lost := unwritten(trial):
        return f"worker {lost[0]} could not write what it saw; server.log says why"
    starts, ends = trial.server("start_ns"), trial.server("t_ns")
    for pid, rows in by_worker(trial).items():
        gaps = starts[rows[1:]] - ends[rows[:-1]]
        if gaps.any():
            at = int(np.flatnonzero(gaps)[0])
            return f"the rows of worker {pid} have a hole of {gaps[at] / 1e9:.3f} s"
    if (spans_ns(trial).sum(axis=1) != ends - starts).any():
        return "the spans between ticks do not fill their row"
    return ""
