"""Rates over the measured window; counts over the whole load, warm-up included, as the counters of the services are."""

import math

import numpy as np

from analysis.frames import CENSORED, HTTP_ERROR, OK, in_window, is_timed, window_ns
from analysis.metrics.base import Context, Metric, need_samples, outcome_is, refuse, selected, unanswered


def _seconds(context: Context) -> float:
    start, end = window_ns(context.trial, context.condition)
    if end <= start:
        raise refuse(
            "the measured window is empty", "The warm-up is as long as the load, or the load broke off.", "missing"
        )
    return (end - start) / 1e9


def throughput(context: Context) -> float:
    """Successful answers that came within the window, divided by its length."""
    need_samples(context)
    trial = context.trial
    start, end = window_ns(trial, context.condition)
    done = trial.column("done_ns")
    mask = outcome_is(trial, OK) & (done >= start) & (done <= end)
    return np.count_nonzero(selected(context, mask)) / _seconds(context)


def sent_rate(context: Context) -> float:
    """Requests that left the generator within the window, divided by its length."""
    need_samples(context)
    start, end = window_ns(context.trial, context.condition)
    sent = context.trial.column("sent_ns")
    return np.count_nonzero(selected(context, (sent >= start) & (sent <= end) & (sent > 0))) / _seconds(context)


def offered_rate(context: Context) -> float:
    """Requests that the schedule asked for within the window, divided by its length; a closed load asks for none."""
    if not context.condition.load.is_open:
        raise refuse("only an open load has an offered rate", "Use sent_rps.")
    need_samples(context)
    mask = selected(context, in_window(context.trial, context.condition))
    return np.count_nonzero(mask) / _seconds(context)


def _count(context: Context, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(np.count_nonzero(selected(context, mask)))


def requests_sent(context: Context) -> float:
    """Requests that left the generator."""
    need_samples(context)
    return _count(context, context.trial.column("sent_ns") > 0)


def requests_ok(context: Context) -> float:
    """Answers with a status that the request expects (2xx unless it says otherwise)."""
    need_samples(context)
    return _count(context, outcome_is(context.trial, OK))


def requests_censored(context: Context) -> float:
    """Requests that were sent and had no answer when the drain ended: sent = answered + failed + censored."""
    need_samples(context)
    return _count(context, outcome_is(context.trial, CENSORED) & (context.trial.column("sent_ns") > 0))


def error_share(context: Context) -> float:
    """Share of the requests that got an error status, a time-out, a reset or a refusal (what the end cut off is no error)."""
    rows = need_samples(context)
    trial = context.trial
    total = _count(context, np.ones(rows, dtype=np.bool_))
    return 1 - (_count(context, outcome_is(trial, OK)) + _count(context, outcome_is(trial, CENSORED))) / total


def status_count(context: Context) -> float:
    """Answers with the status in brackets."""
    need_samples(context)
    if not context.arg.isdigit():
        raise refuse(f"{context.arg!r} is not a status", "Write status_count[429].", "unknown")
    return float(np.count_nonzero(context.trial.column("status") == int(context.arg)))


def responses_5xx(context: Context) -> float:
    """Answers with a status of 500 or more."""
    need_samples(context)
    return _count(context, outcome_is(context.trial, HTTP_ERROR) & (context.trial.column("status") >= 500))


def response_mean_bytes(context: Context) -> float:
    """Mean size of the successful answers."""
    need_samples(context)
    sizes = context.trial.column("bytes")[selected(context, outcome_is(context.trial, OK))]
    if not len(sizes):
        raise refuse("no successful answer", "Look at error_share.", "missing")
    return float(sizes.mean(dtype=np.float64))


def ok_per_burst(context: Context) -> float:
    """Successful answers divided by the number of bursts."""
    if not context.condition.load.bursts:
        raise refuse("the load is not a burst", "Use requests_ok.")
    return requests_ok(context) / context.condition.load.bursts


def _per_pid(context: Context, only_ok: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Requests of every worker that answered any; workers that were never seen stand in as zeros."""
    need_samples(context)
    trial = context.trial
    pids = trial.column("pid")
    seen = np.unique(pids[pids > 0])
    if not len(seen):
        raise refuse("no answer carried a worker's pid", "The wrapper was off, or nothing was answered.", "missing")
    mask = (pids > 0) & (outcome_is(trial, OK) if only_ok else True)
    counts = np.bincount(np.searchsorted(seen, pids[selected(context, mask)]), minlength=len(seen))
    unseen = max(0, context.condition.workers - len(seen))
    return np.concatenate([counts, np.zeros(unseen, dtype=np.int64)])


def pids_seen(context: Context) -> float:
    """Workers that answered at least one request."""
    return float(np.count_nonzero(_per_pid(context, only_ok=False)))


def max_in_flight(context: Context) -> float:
    """The most requests between sent and done at one time; what never came back counts until the last answer."""
    need_samples(context)
    sent, done = context.trial.column("sent_ns"), context.trial.column("done_ns")
    left = selected(context, sent > 0)
    if not left.any():
        raise refuse("no request left the generator", "Look at the load's log.", "missing")
    starts = np.sort(sent[left])
    ends = np.sort(np.where(done[left] > 0, done[left], np.iinfo(np.int64).max))
    # At the k-th departure of a request k are out; those back by then have ended at or before that instant.
    return float((np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")).max())


def makespan(context: Context) -> float:
    """From the first planned request to the last answer: how long a burst or a journey took.  It has not ended where one never came."""
    need_samples(context)
    if is_timed(context.condition):
        raise refuse("a timed load has no makespan", "Use it with a burst, a journey or a number of requests.")
    return math.inf if unanswered(context.trial).any() else _seconds(context)


METRICS = [
    Metric("throughput_rps", "rate", throughput),
    Metric("sent_rps", "rate", sent_rate),
    Metric("offered_rps", "rate", offered_rate),
    Metric("requests_sent", "count", requests_sent),
    Metric("requests_ok", "count", requests_ok),
    Metric("requests_censored", "count", requests_censored),
    Metric("ok_per_burst", "count", ok_per_burst),
    Metric("error_share", "share", error_share),
    Metric("status_count", "count", status_count),
    Metric("responses_5xx", "count", responses_5xx),
    Metric("response_mean_bytes", "count", response_mean_bytes),
    Metric("requests_per_pid_min", "count", lambda c: float(_per_pid(c, only_ok=False).min())),
    Metric("requests_per_pid_max", "count", lambda c: float(_per_pid(c, only_ok=False).max())),
    Metric("ok_per_pid_min", "count", lambda c: float(_per_pid(c, only_ok=True).min())),
    Metric("ok_per_pid_max", "count", lambda c: float(_per_pid(c, only_ok=True).max())),
    Metric("pids_seen", "count", pids_seen),
    Metric("max_in_flight", "count", max_in_flight),
    Metric("makespan_s", "time", makespan),
]
