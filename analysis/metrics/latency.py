"""Times of requests: corrected (done - planned), service (done - sent), client lag (dispatched - planned), connection wait.

A percentile is the nearest rank over the successful requests and those that count as never (``base.never``: no answer, or one of 500
or more); a rank among the latter is +inf.  Leaving them out would improve the percentile by failing.
"""

import math
from collections.abc import Callable

import numpy as np

from analysis.frames import BAD_FRAMING, HTTP_ERROR, OK, REFUSED, RESET, Ints, in_window, is_timed, window_ns
from analysis.metrics.base import (
    Context,
    Metric,
    difference,
    measured_ok,
    need_samples,
    never,
    outcome_is,
    refuse,
    selected,
)

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def samples_needed(quantile: float) -> int:
    """The fewest samples that support a quantile at two-sided 95 %: least n with max(q, 1 - q)**n <= 0.025.

    With fewer the order-statistic interval of the quantile has no upper (or lower) end within the sample (David and Nagaraja,
    Order Statistics, 3rd ed. 2003, section 7.1): 6 for the median, 36, 72, 368 and 3,688 for p90, p95, p99 and p99.9.
    """
    return math.ceil(math.log(0.025) / math.log(max(quantile, 1 - quantile)))


def quantile_s(ordered_ns: Ints, unknown: int, quantile: float, what: str, seconds: float = 0.0) -> float:
    """The nearest-rank quantile in seconds over sorted times and ``unknown`` ones that are +inf.

    Raises MetricRefused for a small sample; where they came within so many ``seconds`` it says how many more are needed.
    """
    count, needed = len(ordered_ns) + unknown, samples_needed(quantile)
    if count < needed:
        more = math.ceil((needed - count) * seconds / count) if count and seconds else 0
        raise refuse(
            f"p{100 * quantile:g} of {what} needs {needed} requests, there are {count}" + (f": about {more} s more" if more else ""),
            f"Run {more} s longer, or at a greater rate." if more else "Run longer or at a greater rate.", "unsupported",
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
    """Requests planned in the window that count as never."""
    mask = never(context.trial) & in_window(context.trial, context.condition)
    return int(np.count_nonzero(selected(context, mask)))


def _seconds(context: Context) -> float:
    """How long the requests were sent for; 0 where the load does not end by the clock."""
    start, end = window_ns(context.trial, context.condition)
    return max(0.0, (end - start) / 1e9) if is_timed(context.condition) else 0.0


def _quantile(later: str, earlier: str, quantile: float, what: str) -> Callable[[Context], float]:
    return lambda context: quantile_s(
        _answered(context, later, earlier), _never(context), quantile, what, _seconds(context)
    )


def _mean(later: str, earlier: str) -> Callable[[Context], float]:
    def mean(context: Context) -> float:
        ordered, unknown = _answered(context, later, earlier), _never(context)
        if unknown or not len(ordered):
            raise refuse(f"no mean: {unknown} of {unknown + len(ordered)} requests got no answer, or one of 500 or more",
                         "Use a percentile below the answered share.", "unsupported")  # fmt: skip
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
        failed = np.isin(trial.column("outcome"), (HTTP_ERROR, RESET, REFUSED, BAD_FRAMING))
        mask = selected(context, failed & in_window(trial, context.condition) & (trial.column("done_ns") > 0))
        times = np.sort(difference(trial, "done_ns", "planned_ns")[mask])
        return quantile_s(times, 0, quantile, "errors", _seconds(context))

    return value


def _of_client(later: str, earlier: str, quantile: float, what: str) -> Callable[[Context], float]:
    """Quantile of a time on our own side: over every request that got that far, whatever became of it."""

    def value(context: Context) -> float:
        need_samples(context)
        trial = context.trial
        mask = in_window(trial, context.condition) & (trial.column(later) > 0)
        times = np.sort(difference(trial, later, earlier)[selected(context, mask)])
        return quantile_s(times, 0, quantile, what, _seconds(context))

    return value


def latency_at_level(context: Context) -> float:
    """Median service time of the requests of one level, those that count as never among them.

    One request is enough: the median of few is no worse than their mean, and the interval comes from the trials anyway.
    """
    need_samples(context)
    try:
        level = int(context.arg)
    except ValueError:
        raise refuse(f"{context.arg!r} is not a level", "Levels are whole numbers.", "unknown") from None
    trial = context.trial
    here = trial.column("level") == level
    answered, unknown = here & outcome_is(trial, OK), np.count_nonzero(here & never(trial))
    if not answered.any() and not unknown:
        raise refuse(f"no successful request of level {level}", "Look at the scenario's levels.", "missing")
    times = difference(trial, "done_ns", "sent_ns")[answered] / 1e9
    return float(np.median(np.append(times, [math.inf] * int(unknown))))


METRICS = [
    *(Metric(f"latency_{p}_s", "time", _quantile("done_ns", "planned_ns", q, "latency"), queues=True)
      for p, q in QUANTILES.items()),
    Metric("latency_mean_s", "time", _mean("done_ns", "planned_ns"), queues=True),
    Metric("latency_max_s", "time", _max("done_ns", "planned_ns"), queues=True),
    *(Metric(f"service_{p}_s", "time", _quantile("done_ns", "sent_ns", q, "service time"), queues=True)
      for p, q in QUANTILES.items()),
    Metric("service_mean_s", "time", _mean("done_ns", "sent_ns"), queues=True),
    Metric("service_max_s", "time", _max("done_ns", "sent_ns"), queues=True),
    *(Metric(f"first_byte_{p}_s", "time", _quantile("first_byte_ns", "sent_ns", q, "time to the first byte"),
             queues=True) for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"error_latency_{p}_s", "time", _error_quantile(q), queues=True)
      for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"client_lag_{p}_s", "time", _of_client("dispatched_ns", "planned_ns", q, "client lag"))
      for p, q in QUANTILES.items() if p in ("p50", "p99")),
    *(Metric(f"connection_wait_{p}_s", "time", _of_client("sent_ns", "dispatched_ns", q, "connection wait"),
             queues=True) for p, q in QUANTILES.items() if p in ("p50", "p99")),
    Metric("latency_at_level_s", "time", latency_at_level),
]  # fmt: skip
