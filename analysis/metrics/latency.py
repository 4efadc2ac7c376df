"""Times of requests: corrected (done - planned), service (done - sent), client lag (dispatched - planned), connection wait.

A percentile is the nearest rank over answered and unanswered requests; a rank among the unanswered is +inf.  A time-out is as
unanswered as a request that the end of the trial cut off: leaving it out would improve the percentile by failing.
"""

import math
from collections.abc import Callable

import numpy as np

from analysis.frames import HTTP_ERROR, OK, REFUSED, RESET, Ints, in_window
from analysis.metrics.base import (
    Context,
    Metric,
    difference,
    measured_ok,
    need_samples,
    outcome_is,
    refuse,
    selected,
    unanswered,
)

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def samples_needed(quantile: float) -> int:
    """The fewest samples that support a quantile at two-sided 95 %: least n with max(q, 1 - q)**n <= 0.025.

    With fewer the order-statistic interval of the quantile has no upper (or lower) end within the sample (David and Nagaraja,
    Order Statistics, 3rd ed. 2003, section 7.1): 6 for the median, 36, 72, 368 and 3,688 for p90, p95, p99 and p99.9.
    """
    return math.ceil(math.log(0.025) / math.log(max(quantile, 1 - quantile)))


def quantile_s(ordered_ns: Ints, never: int, quantile: float, what: str) -> float:
    """The nearest-rank quantile in seconds over sorted times and ``never`` unanswered ones.  Raises MetricRefused for a small sample."""
    count = len(ordered_ns) + never
    if count < samples_needed(quantile):
        raise refuse(
            f"p{100 * quantile:g} of {what} needs {samples_needed(quantile)} requests, there are {count}",
            "Run longer or at a greater rate.", "unsupported",
        )  # fmt: skip
    rank = math.ceil(quantile * count - 1e-9)
    return float(ordered_ns[rank - 1]) / 1e9 if rank <= len(ordered_ns) else math.inf


def _answered(context: Context, later: str, earlier: str) -> Ints:
    """Sorted times of the successful answers in the window."""
    need_samples(context)
    times = difference(context.trial, later, earlier)

    def make() -> Ints:
        ordered: Ints = np.sort(times[selected(context, measured_ok(context))])
        return ordered

    return context.trial.cached(("sorted", later, earlier, context.arg), make)


def _never(context: Context) -> int:
    """Unanswered requests planned in the window."""
    mask = unanswered(context.trial) & in_window(context.trial, context.condition)
    return int(np.count_nonzero(selected(context, mask)))


def _quantile(later: str, earlier: str, quantile: float, what: str) -> Callable[[Context], float]:
    return lambda context: quantile_s(_answered(context, later, earlier), _never(context), quantile, what)


def _mean(later: str, earlier: str) -> Callable[[Context], float]:
    def mean(context: Context) -> float:
        ordered, never = _answered(context, later, earlier), _never(context)
        if never or not len(ordered):
            raise refuse(f"no mean: {never} of {never + len(ordered)} requests were never answered",
                         "Use a percentile below the unanswered share.", "unsupported")  # fmt: skip
        return float(ordered.mean()) / 1e9

    return mean


def _max(later: str, earlier: str) -> Callable[[Context], float]:
    def greatest(context: Context) -> float:
        ordered = _answered(context, later, earlier)
        if _never(context):
            return math.inf
        if not len(ordered):
            raise refuse("no successful answer in the window", "Look at error_share.", "missing")
        return float(ordered[-1]) / 1e9

    return greatest


def _error_quantile(quantile: float) -> Callable[[Context], float]:
    def value(context: Context) -> float:
        need_samples(context)
        trial = context.trial
        failed = outcome_is(trial, HTTP_ERROR) | outcome_is(trial, RESET) | outcome_is(trial, REFUSED)
        mask = selected(context, failed & in_window(trial, context.condition) & (trial.column("done_ns") > 0))
        return quantile_s(np.sort(difference(trial, "done_ns", "planned_ns")[mask]), 0, quantile, "errors")

    return value


def _of_client(later: str, earlier: str, quantile: float, what: str) -> Callable[[Context], float]:
    """Quantile of a time on our own side: over every request that got that far, whatever became of it."""

    def value(context: Context) -> float:
        need_samples(context)
        trial = context.trial
        mask = in_window(trial, context.condition) & (trial.column(later) > 0)
        return quantile_s(np.sort(difference(trial, later, earlier)[selected(context, mask)]), 0, quantile, what)

    return value


def latency_at_level(context: Context) -> float:
    """Median service time of the successful requests of one level.

    One request is enough: the median of few is no worse than their mean, and the interval comes from the trials anyway.
    """
    need_samples(context)
    try:
        level = int(context.arg)
    except ValueError:
        raise refuse(f"{context.arg!r} is not a level", "Levels are whole numbers.", "unknown") from None
    trial = context.trial
    mask = (trial.column("level") == level) & outcome_is(trial, OK)
    if not mask.any():
        raise refuse(f"no successful request of level {level}", "Look at the scenario's levels.", "missing")
    return float(np.median(difference(trial, "done_ns", "sent_ns")[mask])) / 1e9


NAME = "request name"
METRICS = [
    *(Metric(f"latency_{p}_s", "time", _quantile("done_ns", "planned_ns", q, "latency"), NAME, queues=True)
      for p, q in QUANTILES.items()),
    Metric("latency_mean_s", "time", _mean("done_ns", "planned_ns"), NAME, queues=True),
    Metric("latency_max_s", "time", _max("done_ns", "planned_ns"), NAME, queues=True),
    *(Metric(f"service_{p}_s", "time", _quantile("done_ns", "sent_ns", q, "service time"), NAME, queues=True)
      for p, q in QUANTILES.items()),
    Metric("service_mean_s", "time", _mean("done_ns", "sent_ns"), NAME, queues=True),
    Metric("service_max_s", "time", _max("done_ns", "sent_ns"), NAME, queues=True),
    *(Metric(f"first_byte_{p}_s", "time", _quantile("first_byte_ns", "sent_ns", q, "time to the first byte"), NAME,
             queues=True) for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"error_latency_{p}_s", "time", _error_quantile(q), NAME, queues=True)
      for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"client_lag_{p}_s", "time", _of_client("dispatched_ns", "planned_ns", q, "client lag"), NAME)
      for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"connection_wait_{p}_s", "time", _of_client("sent_ns", "dispatched_ns", q, "connection wait"), NAME,
             queues=True) for p, q in QUANTILES.items() if p in ("p50", "p99")),
    Metric("latency_at_level_s", "time", latency_at_level, "level", argument_needed=True),
]  # fmt: skip
