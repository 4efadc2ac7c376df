"""Overload: offered more than the target can do, the backlog grows for as long as the test lasts.

Then a latency only measures the length of the test; what can be said is the capacity, when a limit was breached, and how long
the recovery took.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.frames import OK, Trial, in_window, window_ns
from analysis.metrics.base import Context, Metric, measured_ok, never, outcome_is, refuse
from lab.model import Condition

BACKLOG_SIGMAS = 3.0
"""Final backlog above 3 sqrt(rate T): three standard deviations of a Poisson count of the arrivals (docs/method.md, overload)."""
GROWTH_SIGMAS = 1.5
"""Growth over the second half above 1.5 sqrt(rate T / 2).  A backlog that grows steadily to 3 sqrt(rate T) grows by 2.1 of these in
its second half; one that only filled up at the start (a target that is slow but keeps up) grows by none."""
GRID = 200
BIN_S = 0.1
LIMIT_S = 1.0


@dataclass(frozen=True)
class Backlog:
    """The backlog of one trial: instants (ns), requests arrived and not yet done, and whether that is an overload."""

    times_ns: NDArray[np.float64]
    waiting: NDArray[np.float64]
    overloaded: bool
    final: float
    threshold: float


def _second_half_growth(times: NDArray[np.float64], waiting: NDArray[np.float64]) -> float:
    """What the backlog grows by over the second half, by a straight line: an end point alone would be noise."""
    half = len(times) // 2
    x, y = times[half:] - times[half], waiting[half:]
    spread = float(((x - x.mean()) ** 2).sum())
    return float(((x - x.mean()) * (y - y.mean())).sum()) / spread * float(x[-1]) if spread else 0.0


def _stretch(trial: Trial, start: float, end: float) -> Backlog:
    """The backlog between two instants, and whether it grew beyond noise."""
    planned = trial.cached("planned_sorted", lambda: np.sort(trial.column("planned_ns")))
    done = trial.column("done_ns")
    finished = trial.cached("done_sorted", lambda: np.sort(done[done > 0]))
    times = np.linspace(start, end, GRID)
    arrived = np.searchsorted(planned, times, side="right").astype(np.float64)
    waiting = arrived - np.searchsorted(finished, times, side="right")
    offered = max(float(arrived[-1] - arrived[0]), 1.0)
    threshold = BACKLOG_SIGMAS * math.sqrt(offered)
    slope_up = waiting[-1] > waiting[0]
    grew = _second_half_growth(times, waiting) > GROWTH_SIGMAS * math.sqrt(offered / 2)
    return Backlog(times, waiting, bool(slope_up and grew and waiting[-1] > threshold), float(waiting[-1]), threshold)


def _stages(trial: Trial, condition: Condition) -> list[tuple[float, float]]:
    """The stretches of constant rate inside the window."""
    start, end = window_ns(trial, condition)
    stages = condition.load.stages_over(condition.duration_s)
    if len(stages) <= 1:
        return [(start, end)] * len(stages)
    edges = [start]
    for stage in stages:
        edges.append(min(edges[-1] + round(stage.duration_s * 1e9), end))
    return [(a, b) for a, b in pairwise(edges) if b > a]


def backlogs(trial: Trial, condition: Condition) -> list[Backlog]:
    """The backlog of every stretch of constant rate; empty for a load that is not open or has no samples."""
    if not len(trial.column("planned_ns")):
        return []
    return trial.cached("backlogs", lambda: [_stretch(trial, *stretch) for stretch in _stages(trial, condition)])


def ran_short(trial: Trial) -> int:
    """Requests that waited because the generator could open no further connection: their backlog is ours, not the target's."""
    seen = trial.record.generator
    return seen.connections_short if seen is not None else 0


def is_overloaded(trial: Trial, condition: Condition) -> bool:
    """Whether the backlog of any stretch of an open load grew beyond noise, and at the target (gate G2 fails where it is ours)."""
    return not ran_short(trial) and any(one.overloaded for one in backlogs(trial, condition))


def _need_connections(trial: Trial) -> None:
    if short := ran_short(trial):
        raise refuse(
            f"the generator ran out of connections: {short} requests waited for one", "Raise the limit on open files."
        )


def capacity(context: Context) -> float:
    """Successful answers per second while the target was overloaded, second half of that stretch.

    Refused where it kept up: then its capacity is only known to be above the offered rate.
    """
    _need_connections(context.trial)
    over = [one for one in backlogs(context.trial, context.condition) if one.overloaded]
    if not over:
        raise refuse("the target kept up: its capacity is above the offered rate", "Offer more.")
    done = context.trial.column("done_ns")[outcome_is(context.trial, OK)]
    rates = []
    for one in over:
        start, end = one.times_ns[len(one.times_ns) // 2], one.times_ns[-1]
        rates.append(np.count_nonzero((done >= start) & (done <= end)) / ((end - start) / 1e9))
    return float(max(rates))


def _limit(context: Context) -> float:
    try:
        return float(context.arg) if context.arg else LIMIT_S
    except ValueError:
        raise refuse(f"{context.arg!r} is not a number of seconds", "Write recovery_s[0.5].", "unknown") from None


def _above_limit(context: Context) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Bins of 0.1 s by planned instant (seconds from the window's start) and whether the median latency is above the limit."""
    if not context.condition.load.is_open:
        raise refuse("only an open load can be overloaded", "Use an open or a staged load.")
    _need_connections(context.trial)
    trial, limit = context.trial, _limit(context)
    start, _ = window_ns(trial, context.condition)
    unknown = never(trial) & in_window(trial, context.condition)
    mask = measured_ok(context) | unknown
    if not mask.any():
        raise refuse("no request in the window", "Look at the load's log.", "missing")
    planned = (trial.column("planned_ns")[mask] - start) / 1e9
    slow = (trial.column("done_ns")[mask] - trial.column("planned_ns")[mask] > limit * 1e9) | unknown[mask]
    bins = (planned / BIN_S).astype(np.int64)
    total = np.bincount(bins)
    share = np.bincount(bins, weights=slow) / np.maximum(total, 1)
    seen = np.flatnonzero(total)
    return (seen * BIN_S).astype(np.float64), share[seen] > 0.5


def time_to_breach(context: Context) -> float:
    """From the start of the window to the first 0.1 s in which the median latency is above the limit (in brackets, 1 s)."""
    times, above = _above_limit(context)
    if not above.any():
        raise refuse(f"the median latency never exceeded {_limit(context):g} s", "Offer more, or lower the limit.")
    return float(times[above][0])


def recovery(context: Context) -> float:
    """From the end of the busiest stage (the last of equal ones) until the median latency of each 0.1 s stays within the limit.

    +inf if it never does.
    """
    stages = context.condition.load.stages_over(context.condition.duration_s)
    if len(stages) < 2:
        raise refuse("recovery needs a staged load", "Add a stage of a lower rate after the overload.")
    busiest = max(range(len(stages)), key=lambda index: (stages[index].rate_per_s, index))
    ended = sum(stage.duration_s for stage in stages[: busiest + 1])
    times, above = _above_limit(context)
    late = times >= ended
    if not late.any():
        raise refuse("no request after the busiest stage", "Add a stage of a lower rate after it.")
    if not above[late].any():
        return 0.0
    if above[late][-1]:
        return math.inf
    return float(times[late][above[late]][-1] + BIN_S - ended)


METRICS = [
    Metric("capacity_rps", "rate", capacity),
    Metric("time_to_breach_s", "time", time_to_breach),
    Metric("recovery_s", "time", recovery),
]
