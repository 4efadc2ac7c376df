"""What is kept of a trial once its samples are dropped: its metrics, and the few numbers that gates and doubts need."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.frames import HTTP_ERROR, OK, REFUSED, TIMEOUT, Trial, in_window, window_ns
from analysis.handled import Handled, handled, unfinished
from analysis.metrics import Refusal, measure
from analysis.metrics.base import never, outcome_is, unanswered
from analysis.metrics.overload import is_overloaded
from lab.model import OUTCOMES, Condition, GotchaPlan
from lab.words.record import TrialRecord

BINS_PER_DOUBLING = 50
"""Histogram bins are 1.4 % wide, so that a percentile of merged trials is right to 1.4 %."""
BINS = 44 * BINS_PER_DOUBLING


@dataclass(frozen=True)
class Histogram:
    """Counts of times in logarithmic bins from 1 ns to about five hours; trials are merged by adding, percentiles never averaged."""

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, times_ns: NDArray[np.int64]) -> "Histogram":
        """Count times; anything below 1 ns counts as 1 ns."""
        bins = np.log2(np.maximum(times_ns, 1)) * BINS_PER_DOUBLING
        return cls(np.bincount(np.minimum(bins.astype(np.int64), BINS - 1), minlength=BINS))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(self.counts + other.counts)

    @property
    def total(self) -> int:
        """How many times were counted."""
        return int(self.counts.sum())

    def quantile_s(self, quantile: float) -> float:
        """Upper edge of the bin that holds the rank, in seconds; 0 where nothing was counted."""
        if self.total == 0:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self.counts), math.ceil(quantile * self.total)))
        return float(2.0 ** ((index + 1) / BINS_PER_DOUBLING)) / 1e9

    def above(self, seconds: float) -> int:
        """How many times lie in bins above that of ``seconds``."""
        return int(self.counts[int(math.log2(max(seconds * 1e9, 1)) * BINS_PER_DOUBLING) + 1 :].sum())


@dataclass(frozen=True)
class Rows:
    """What the rows of a trial add up to, to be compared with what others counted.

    ``sent`` left, ``answered`` got an answer of any status, ``stamped`` of these name the worker, ``broken`` left and got none,
    ``refused`` did not leave because nobody took the connection; ``impossible`` are of no outcome that there is, or done before they
    were planned.  ``service_s`` and ``dispatched_s`` sum up the times of those that left, from the sending and from the handing over.
    """

    count: int = 0
    sent: int = 0
    answered: int = 0
    stamped: int = 0
    broken: int = 0
    refused: int = 0
    impossible: int = 0
    service_s: float = 0.0
    dispatched_s: float = 0.0


@dataclass(frozen=True)
class TrialFacts:
    """One trial, reduced.

    ``values`` maps ``name[argument]`` to its value or refusal.  ``mean_in_flight`` is the area under the requests in flight inside
    the window.  ``unsent`` counts requests that were planned and never left, ``undispatched`` those that were not even handed to a
    connection.  ``handled`` is what the workers counted, None where they did not; ``lost_workers`` of them ended without
    a last row.  ``never`` counts the requests in the window without an
    answer of any use.
    """

    record: TrialRecord
    name: str
    values: Mapping[str, float | Refusal]
    requests: int = 0
    lag: Histogram = field(default_factory=lambda: Histogram(np.zeros(BINS, dtype=np.int64)))
    service: Histogram = field(default_factory=lambda: Histogram(np.zeros(BINS, dtype=np.int64)))
    window_s: float = 0.0
    window_ns: tuple[int, int] = (0, 0)
    mean_in_flight: float = 0.0
    unsent: int = 0
    undispatched: int = 0
    unanswered: int = 0
    timeouts: int = 0
    overloaded: bool = False
    drift: float | None = None
    pids: tuple[int, ...] = ()
    rows: Rows = Rows()
    handled: Handled | None = None
    lost_workers: int = 0
    never: int = 0

    @property
    def answered(self) -> float | None:
        """The share of the requests in the window that a latency percentile is about which were answered; None where there was none."""
        counted = self.service.total + self.never
        return self.service.total / counted if counted else None

    @property
    def variant(self) -> str:
        """The arm."""
        return self.record.variant

    @property
    def ok(self) -> bool:
        """Whether the trial was done."""
        return self.record.status == "ok"

    def cores_used(self, tree: str) -> float | None:
        """How many cores a process tree kept busy inside the window; None where it was not watched.

        A record without readings in between has only the CPU time of the whole load, warm-up and drain included: then it is the mean of that.
        """
        record = self.record
        if tree not in record.processes or not self.window_s:
            return None
        series = np.asarray(record.cpu_series, dtype=np.float64)
        if len(series) > 1 and self.window_ns[1] > self.window_ns[0]:
            column = 1 + list(record.processes).index(tree)
            begun, ended = np.interp(self.window_ns, series[:, 0], series[:, column])
            return float(ended - begun) / (self.window_ns[1] - self.window_ns[0])
        whole_s = (record.load_ended_ns - record.load_started_ns) / 1e9
        return record.processes[tree].cpu_ns / 1e9 / max(whole_s, self.window_s)

    def number(self, metric: str) -> float | None:
        """A finite value of a metric, or None."""
        value = self.values.get(metric)
        return value if isinstance(value, float) and math.isfinite(value) else None


def _drift(trial: Trial, condition: Condition) -> float | None:
    """Median latency of the last third of the window over that of the first, minus 1; None with fewer than 100 in a third."""
    mask = outcome_is(trial, OK) & in_window(trial, condition)
    planned = trial.column("planned_ns")[mask]
    if len(planned) < 300:
        return None
    times = trial.column("done_ns")[mask] - planned
    start, end = window_ns(trial, condition)
    third = (end - start) / 3
    first, last = times[planned < start + third], times[planned >= end - third]
    if min(len(first), len(last)) < 100:
        return None
    return float(np.median(last) / max(float(np.median(first)), 1.0) - 1)


def _mean_in_flight(trial: Trial, condition: Condition) -> float:
    start, end = window_ns(trial, condition)
    sent, done = trial.column("sent_ns"), trial.column("done_ns")
    left = sent > 0
    # What never came back was in flight to the end.
    ended = np.where(done[left] > 0, done[left], end)
    area = float((np.minimum(ended, end) - np.maximum(sent[left], start)).clip(min=0).sum())
    return area / (end - start)


def rows_of(trial: Trial) -> Rows:
    """The sums over all rows, warm-up and drain included."""
    outcome, planned, done = trial.column("outcome"), trial.column("planned_ns"), trial.column("done_ns")
    if not len(outcome):
        return Rows()
    sent, dispatched = trial.column("sent_ns"), trial.column("dispatched_ns")
    left, answered = sent > 0, (outcome == OK) | (outcome == HTTP_ERROR)
    ended = np.where(done > 0, done, trial.record.load_ended_ns)
    impossible = (planned <= 0) | (outcome < 0) | (outcome >= len(OUTCOMES)) | ((done > 0) & (done < planned))
    return Rows(
        len(outcome), int(left.sum()), int(answered.sum()), int((answered & (trial.column("pid") > 0)).sum()),
        int((left & ~answered).sum()), int((~left & (outcome == REFUSED)).sum()), int(impossible.sum()),
        float((ended - sent)[left].sum()) / 1e9, float((ended - dispatched)[left].sum()) / 1e9,
    )  # fmt: skip


def reduce_trial(
    trial: Trial, plan: GotchaPlan, condition: Condition, metrics: tuple[tuple[str, str], ...]
) -> TrialFacts:
    """Measure a trial and keep only numbers.  A failed trial keeps its record alone."""
    record = trial.record
    if record.status != "ok":
        return TrialFacts(record, trial.name, {})
    values: dict[str, float | Refusal] = {}
    for name, arg in metrics:
        value = measure(trial, plan, condition, name, arg)
        values[f"{name}[{arg}]" if arg else name] = value if isinstance(value, Refusal) else float(value)
    outcome = trial.column("outcome")
    rows, counted, lost = rows_of(trial), handled(trial), len(unfinished(trial))
    start, end = window_ns(trial, condition)
    if len(outcome) == 0 or end <= start:
        return TrialFacts(
            record, trial.name, values, requests=len(outcome), rows=rows, handled=counted, lost_workers=lost
        )
    inside = in_window(trial, condition)
    dispatched, sent = trial.column("dispatched_ns"), trial.column("sent_ns")
    pids = trial.column("pid")
    return TrialFacts(
        record, trial.name, values, requests=len(outcome),
        lag=Histogram.of((dispatched - trial.column("planned_ns"))[inside & (dispatched > 0)]),
        service=Histogram.of((trial.column("done_ns") - sent)[inside & outcome_is(trial, OK)]),
        window_s=(end - start) / 1e9, window_ns=(start, end), mean_in_flight=_mean_in_flight(trial, condition),
        unsent=int(np.count_nonzero(sent == 0)), undispatched=int(np.count_nonzero(dispatched == 0)),
        unanswered=int(np.count_nonzero(unanswered(trial))), timeouts=int(np.count_nonzero(outcome == TIMEOUT)),
        overloaded=is_overloaded(trial, condition), drift=_drift(trial, condition),
        pids=tuple(int(pid) for pid in np.unique(pids[pids > 0])), rows=rows, handled=counted, lost_workers=lost,
        never=int(np.count_nonzero(inside & never(trial))),
    )  # fmt: skip
