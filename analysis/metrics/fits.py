"""Fits over the ``level`` of a sweep inside one trial: ``[latency]`` over the requests, ``[plan_rows_visited]`` over what was explained.

A straight line is fitted by least squares to one point a level (the median service time, or the sum of the rows).  A knee is a
second slope: ``y = a + b x + c max(0, x - k)`` with the best k among the inner levels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.frames import OK
from analysis.metrics.base import Context, Metric, difference, need_samples, need_source, never, outcome_is, refuse

Floats = NDArray[np.float64]

KNEE_LEVEL = 0.001
"""A knee is believed when its F test has p below this, Bonferroni-corrected for the breaks that were tried.  The correction is
conservative for a break that is searched for (Andrews, Econometrica 61, 1993); a lab that shows knees must not find one in noise.
One trial with a false knee spoils the mean of its pairs, so the level is spent over them: eight pairs err in 0.8 %."""
EXACT_FIT = 1e-9
"""Residual share of the variance below which a straight line is taken as exact (counts follow a law to the last row)."""


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope x``; ``r2`` is the share of the variance explained (1 where y does not vary)."""

    intercept: float
    slope: float
    r2: float
    residual: float


def _solve(columns: list[Floats], y: Floats) -> tuple[Floats, float]:
    matrix = np.column_stack(columns)
    coefficients: Floats = np.linalg.lstsq(matrix, y, rcond=None)[0].astype(np.float64)
    return coefficients, float(((y - matrix @ coefficients) ** 2).sum())


def straight_line(x: Floats, y: Floats) -> Line:
    """Least squares.  Needs two levels."""
    (intercept, slope), residual = _solve([np.ones_like(x), x], y)
    total = float(((y - y.mean()) ** 2).sum())
    return Line(float(intercept), float(slope), 1.0 if total == 0 else 1 - residual / total, residual)


def knee_ratio(x: Floats, y: Floats) -> float:
    """Slope above over slope below the best break, or 1 where a straight line does as well.

    Every inner level with two others on each side is tried; the break is kept if
    ``F = (RSS_line - RSS_knee) / (RSS_knee / (n - 3))`` has ``p * tried < KNEE_LEVEL`` (F with 1 and n - 3 degrees of freedom).
    Raises MetricRefused below five levels or where the slope below the break is not positive.
    """
    if len(x) < 5:
        raise refuse(f"a knee needs five levels, there are {len(x)}", "Sweep more levels.", "unsupported")
    line = straight_line(x, y)
    if line.residual <= EXACT_FIT * float(((y - y.mean()) ** 2).sum()):
        return 1.0
    tried = [(k, *_solve([np.ones_like(x), x, np.maximum(0.0, x - k)], y)) for k in x[2:-2]]
    _, coefficients, residual = min(tried, key=lambda one: one[2])
    freedom = len(x) - 3
    spread = residual / freedom
    f = (line.residual - residual) / spread if spread > 0 else np.inf
    if len(tried) * float(stats.f.sf(f, 1, freedom)) >= KNEE_LEVEL:
        return 1.0
    below, above = float(coefficients[1]), float(coefficients[1] + coefficients[2])
    if below <= 0:
        raise refuse(f"the slope below the knee is {below:.3g}: no ratio", "Use fit_flat_ratio.", "unsupported")
    return above / below


def _latency_points(context: Context) -> tuple[Floats, Floats]:
    need_samples(context)
    trial = context.trial
    level = trial.column("level")
    unknown = never(trial)
    mask = (level >= 0) & (outcome_is(trial, OK) | unknown)
    levels = level[mask]
    times = np.where(unknown, np.inf, difference(trial, "done_ns", "sent_ns") / 1e9)[mask]
    order = np.lexsort((times, levels))
    at, first, counts = np.unique(levels[order], return_index=True, return_counts=True)
    ordered = times[order]
    # The middle of each sorted run of one level is its median.
    medians = (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]) / 2
    if not np.isfinite(medians).all():
        worst = at[~np.isfinite(medians)][0]
        raise refuse(
            f"half of the requests of level {worst} got no answer, or one of 500 or more",
            "Look at error_share.",
            "missing",
        )
    return at.astype(np.float64), medians


def _plan_points(context: Context, field: str) -> tuple[Floats, Floats]:
    need_source(context, "auto_explain", "postgres")
    sums: dict[float, float] = {}
    for one in context.trial.record.plans:
        sums[one.level] = sums.get(one.level, 0.0) + getattr(one, field)
    levels = sorted(sums)
    return np.array(levels, dtype=np.float64), np.array([sums[level] for level in levels], dtype=np.float64)


def points(context: Context) -> tuple[Floats, Floats]:
    """Levels in order and the value at each.  Raises MetricRefused for another argument and below two levels."""
    if context.arg == "latency":
        x, y = context.trial.cached("level_points", lambda: _latency_points(context))
    elif context.arg in ("plan_rows_visited", "plan_blks"):
        x, y = _plan_points(context, {"plan_blks": "shared_blks"}.get(context.arg, "rows_visited"))
    else:
        raise refuse(
            f"nothing to fit in {context.arg!r}", "Fit [latency], [plan_rows_visited] or [plan_blks].", "unknown"
        )
    if len(x) < 2:
        raise refuse(f"a fit needs two levels, there are {len(x)}", "Give the requests a level.", "missing")
    return x, y


def _of_line(value: Callable[[Line], float]) -> Callable[[Context], float]:
    return lambda context: value(straight_line(*points(context)))


def flat_ratio(context: Context) -> float:
    """The value at the greatest level over the value at the least: 1 for something that does not grow."""
    _, y = points(context)
    if y[0] <= 0:
        raise refuse("the value at the least level is 0: no ratio", "Use fit_slope.", "unsupported")
    return float(y[-1] / y[0])


METRICS = [
    Metric("fit_slope", "count", _of_line(lambda line: line.slope)),
    Metric("fit_intercept", "count", _of_line(lambda line: line.intercept)),
    Metric("fit_r2", "count", _of_line(lambda line: line.r2)),
    Metric("fit_knee_ratio", "count", lambda context: knee_ratio(*points(context))),
    Metric("fit_flat_ratio", "count", flat_ratio),
]
