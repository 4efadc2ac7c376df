"""Two kinds of runs compared with the run as the unit, because pairs inside one run share its machine state.  Pure.

The value of pair k in run r is, on a logarithmic scale, ``y[r,k] = mu + R[r] + e[r,k]``: the state of the machine during the run and the
noise of the pair.  Pairs inside two runs show e alone.  With the run's mean ``m[r]`` as one observation,

    s^2  = sum over both kinds of (m[r] - mean of its kind)^2 / (n_a + n_b - 2)       estimates var(R) + var(e) / K
    D    = mean of kind b - mean of kind a +- t(0.975, n_a + n_b - 2) s sqrt(1 / n_a + 1 / n_b)

Sources: Student, Biometrika 6, 1908 (two samples, pooled variance); Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM
2013, section 6 (the highest level that varies decides how wide an interval is).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis import statistics

NEEDED_RUNS = 3
"""Runs of one kind before a word is given: with three the spread has two degrees of freedom, below them none that is worth having."""
LEVEL = 0.95


@dataclass(frozen=True)
class Shift:
    """Kind b against kind a: a ratio where ``logarithmic``, else a difference; ``run_sd`` is the spread of run means on that scale."""

    value: float
    low: float
    high: float
    p_value: float
    run_sd: float
    runs: tuple[int, int]
    logarithmic: bool = True

    @property
    def excludes_no_change(self) -> bool:
        """Whether the interval leaves "no change" out."""
        none = 1.0 if self.logarithmic else 0.0
        return not self.low <= none <= self.high

    def within(self, share: float, size: float) -> bool:
        """Whether the whole interval means practically no change: a share either way, of ``size`` where it is a difference."""
        if self.logarithmic:
            return 1 / (1 + share) <= self.low and self.high <= 1 + share
        return -share * abs(size) <= self.low and self.high <= share * abs(size)


def enough(before: int, after: int) -> bool:
    """Whether so many runs of each kind show their own spread."""
    return min(before, after) >= 1 and max(before, after) >= NEEDED_RUNS


def runs_missing(before: int, after: int) -> int:
    """How many more runs of the more frequent kind give a word."""
    return max(0, NEEDED_RUNS - max(before, after))


def shared_pairs(runs: Iterable[Mapping[int, float]]) -> list[int]:
    """The pairs that every run has: by these they are compared, so that all had the same arrivals."""
    found = [set(run) for run in runs]
    return sorted(set.intersection(*found)) if found else []


def shift_of(before: Sequence[Mapping[int, float]], after: Sequence[Mapping[int, float]]) -> Shift:
    """The change from the runs ``before`` to the runs ``after``, each with its values by pair.

    Where a value is 0 or below there is no ratio and the difference is taken.  Raises ValueError for too few runs or no pair in common.
    """
    if not enough(len(before), len(after)):
        raise ValueError(f"{len(before)} and {len(after)} runs do not show the spread between runs")
    pairs = shared_pairs([*before, *after])
    if not pairs:
        raise ValueError("the runs have no pair in common")
    kinds = [np.array([[run[pair] for pair in pairs] for run in kind]) for kind in (before, after)]
    logarithmic = all(bool((kind > 0).all()) for kind in kinds)
    means = [(np.log(kind) if logarithmic else kind).mean(axis=1) for kind in kinds]
    a, b = means
    freedom = len(a) + len(b) - 2
    run_sd = math.sqrt(sum(float(((kind - kind.mean()) ** 2).sum()) for kind in means) / freedom)
    change = float(b.mean() - a.mean())
    error = run_sd * math.sqrt(1 / len(a) + 1 / len(b))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    rounding = 1e-12 * max(1.0, abs(change))
    p = 2 * float(stats.t.sf(abs(change) / error, freedom)) if error > rounding else float(abs(change) <= rounding)
    scale = math.exp if logarithmic else float
    return Shift(scale(change), scale(change - half), scale(change + half), p, run_sd, (len(a), len(b)), logarithmic)


@dataclass(frozen=True)
class FalseAlarms:
    """How often two kinds of runs that are the same are called different, with its exact binomial interval.

    ``share_by_pairs`` is what an interval from the pairs inside one run of each kind would do.
    """

    experiments: int
    share: float
    interval: tuple[float, float]
    share_by_pairs: float
    nominal: float = 1 - LEVEL


def false_alarms(
    seed: int = 1, experiments: int = 2000, *, runs: tuple[int, int] = (NEEDED_RUNS, 1), pairs: int = 8,
    between: float = 0.03, within: float = 0.02,
) -> FalseAlarms:  # fmt: skip
    """Simulate A/A comparisons: ``between`` is the spread of runs and ``within`` that of pairs, as standard deviations of logarithms.

    Sources of the defaults: what was seen of runs of this lab on a shared machine of two cores (docs/method.md section 6).
    """
    draw = np.random.default_rng(seed)
    alarms = by_pairs = 0
    for _ in range(experiments):
        states = draw.normal(0, between, sum(runs))
        values = np.exp(states[:, None] + draw.normal(0, within, (sum(runs), pairs)))
        by_pair = [dict(enumerate(run)) for run in values.tolist()]
        alarms += shift_of(by_pair[: runs[0]], by_pair[runs[0] :]).excludes_no_change
        ratios = (values[runs[0]] / values[0]).tolist()
        by_pairs += statistics.excludes(statistics.of_ratios(ratios), 1.0)
    return FalseAlarms(
        experiments,
        alarms / experiments,
        statistics.clopper_pearson(alarms, experiments),
        by_pairs / experiments,
    )
