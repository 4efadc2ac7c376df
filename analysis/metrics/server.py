"""What the wrapper saw inside the workers, and what the processes used."""

from collections.abc import Callable

import numpy as np

from analysis.frames import Ints, Trial
from analysis.handled import by_worker, is_tiled, rows_tile, spans_ns, unfinished
from analysis.metrics.base import Context, Metric, answered_count, refuse
from analysis.metrics.latency import quantile_s
from lab.target.inside.rows import ROW_NS, TICK_NS

ENDS = ("kill", "term")
"""Events that end a worker."""


def _window(trial: Trial) -> tuple[int, int]:
    """Start and end of the load, the warm-up included; all there is where the record has no end."""
    record = trial.record
    return record.load_started_ns, record.load_ended_ns or int(trial.server("t_ns").max())


def _rows(context: Context) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """The wrapper's rows that tell of the load, if only in part.  Raises MetricRefused where there is none, or a hole in them."""
    trial = context.trial
    times = trial.server("t_ns")
    if not len(times):
        raise refuse(
            "the wrapper recorded nothing", "It is off, or no worker lived long enough to write a row.", "missing"
        )
    if hole := rows_tile(trial):
        raise refuse(hole, "Free some space and run the trial again.", "missing")
    if not trial.record.load_ended_ns:
        return np.ones(len(times), dtype=np.bool_)
    start, end = _window(trial)
    if is_tiled(trial):
        mask = (times > start) & (trial.server("start_ns") < end)
    else:  # format 2: a row tells of the time before it, so the one that a blocked loop wrote late still counts
        mask = (times >= start) & (times - trial.server("loop_lag_max_ns") <= end)
    if not mask.any():
        raise refuse("the wrapper recorded nothing while the load ran", "The load was shorter than a row.", "missing")
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = mask
    return found


def _greatest(column: str, scale: float = 1.0) -> Callable[[Context], float]:
    def value(context: Context) -> float:
        most = int(context.trial.server(column)[_rows(context)].max())
        if most < 0:
            raise refuse(
                f"{column} is not known in this target", "Its AnyIO keeps borrowers in another way.", "missing"
            )
        return most * scale

    return value


def _tails(trial: Trial) -> list[tuple[int, int]]:
    """From and until when a worker was surely blocked after its last row, where it was killed or never came back.

    A healthy loop writes within ``ROW_NS``: what is beyond that was a block.  Raises MetricRefused where nothing tells how long it was.
    """
    record, ends = trial.record, trial.server("t_ns")
    killed = sorted(e.at_ns for e in record.events if e.action in ENDS and "celery" not in e.detail)
    found = []
    for pid in unfinished(trial):
        last = int(ends[by_worker(trial)[pid][-1]])
        if pid in record.server_pids:
            found.append((last, record.load_ended_ns))
        elif not killed:
            raise refuse(
                f"worker {pid} went away {(record.load_ended_ns - last) / 1e9:.1f} s before the load ended, and no event says why",
                "How late its loop was by then is not known: look at server.log.", "missing",
            )  # fmt: skip
        else:
            # An event is stamped a moment after its signal: the row may end within a row's length of it.
            found += [(last, at) for at in killed if at > last - ROW_NS][:1]
    return [(last, until) for last, until in found if until - last > ROW_NS]


def lag_by_time(context: Context) -> tuple[Ints, Ints]:
    """How late the loop was, in ascending order, and for how long within the load it was as late, in ns, over all workers.

    The spans between ticks tile the time, and each is as late as the tick that closes it: the time that it took beyond
    ``TICK_NS``.  A span is cut to the load; its lateness is not.
    """
    _rows(context)  # refuses
    trial = context.trial

    def make() -> tuple[Ints, Ints]:
        spans = spans_ns(trial)
        ends = trial.server("start_ns")[:, None] + np.cumsum(spans, axis=1)
        tails = np.array(_tails(trial), dtype=np.int64).reshape(-1, 2)
        lags = np.concatenate([(spans - TICK_NS).ravel(), tails[:, 1] - tails[:, 0] - ROW_NS]).clip(min=0)
        begin, end = _window(trial)
        starts = np.concatenate([(ends - spans).ravel(), tails[:, 0]]).clip(min=begin)
        weights = np.concatenate([ends.ravel(), tails[:, 1]]).clip(max=end) - starts
        inside = np.flatnonzero(weights > 0)
        order = inside[np.argsort(lags[inside], kind="stable")]
        return lags[order], weights[order]

    return trial.cached("lag_by_time", make)


def loop_lag_max(context: Context) -> float:
    """The longest lateness of a tick that closes time of the load."""
    if not is_tiled(context.trial):
        return _greatest("loop_lag_max_ns", 1e-9)(context)
    return float(lag_by_time(context)[0][-1]) / 1e9


def _loop_lag(quantile: float) -> Callable[[Context], float]:
    """The least lateness that the loop did not exceed for this share of the load's time; of format 2, over rows of 100 ms."""

    def value(context: Context) -> float:
        if not is_tiled(context.trial):
            late = context.trial.server("loop_lag_max_ns")[_rows(context)]
            return quantile_s(np.sort(late), 0, quantile, "loop lag (100 ms rows)")
        lags, weights = lag_by_time(context)
        so_far = np.cumsum(weights)
        needed = TICK_NS / (1 - quantile)  # the share above the quantile must be at least a tick long
        if so_far[-1] < needed:
            raise refuse(
                f"p{100 * quantile:g} of loop lag needs {needed / 1e9:.3g} s of load, there are {so_far[-1] / 1e9:.3g}",
                "Run longer.", "unsupported",
            )  # fmt: skip
        return float(lags[np.searchsorted(so_far, quantile * so_far[-1])]) / 1e9

    return value


def _pool(column: str) -> Callable[[Context], float]:
    """The sum over the workers of the peak of their pools."""

    def value(context: Context) -> float:
        seen = context.trial.server(column)
        if not len(seen):
            raise refuse("the wrapper recorded no pool", "It is off, or the run is older than this metric.", "missing")
        mask = _rows(context)
        seen, pids = seen[mask], context.trial.server("pid")[mask]
        if seen.max() < 0:
            raise refuse("the target uses no pool of SQLAlchemy or asyncpg", "Use connections_peak.", "not_applicable")
        return float(sum(seen[pids == pid].max() for pid in np.unique(pids)))

    return value


def gc_pause(context: Context) -> float:
    """Seconds in the garbage collector during the load, summed over the workers."""
    trial, mask = context.trial, _rows(context)
    pids, spent = trial.server("pid"), trial.server("gc_pause_ns")
    if not is_tiled(trial):
        return sum(float(np.ptp(spent[mask & (pids == pid)])) for pid in np.unique(pids[mask])) / 1e9
    before = trial.server("t_ns") <= _window(trial)[0]
    total = sum(
        int(spent[mask & (pids == pid)].max()) - int(spent[before & (pids == pid)].max(initial=0))
        for pid in np.unique(pids[mask])
    )
    return total / 1e9


def _cpu_ns(context: Context, trees: tuple[str, ...]) -> float:
    processes = context.trial.record.processes
    if not any(tree in processes for tree in trees):
        raise refuse(f"no CPU time of {' or '.join(trees)}", "The process was not watched in this trial.", "missing")
    return float(sum(processes[tree].cpu_ns for tree in trees if tree in processes))


def _cpu_of_all(context: Context) -> float:
    """The server and the services together; refused where a service of somebody else did part of the work.  A duet watches servers alone."""
    for service in () if context.condition.duet else sorted({"postgres", "redis"} & set(context.plan.services)):
        _cpu_ns(context, (service,))  # refuses
    return _cpu_per_request("server", "postgres", "redis", "celery")(context)


def _cpu_per_request(*trees: str) -> Callable[[Context], float]:
    return lambda context: _cpu_ns(context, trees) / 1e9 / answered_count(context)


def _of_server(field: str) -> Callable[[Context], float]:
    def value(context: Context) -> float:
        use = context.trial.record.processes.get("server")
        if use is None:
            raise refuse(f"no {field} of the server", "The process was not watched in this trial.", "missing")
        return float(getattr(use, field))

    return value


METRICS = [
    Metric("loop_lag_max_s", "inside", loop_lag_max),
    Metric("loop_lag_p50_s", "inside", _loop_lag(0.5)),
    Metric("loop_lag_p99_s", "inside", _loop_lag(0.99)),
    Metric("threads_borrowed_max", "count", _greatest("threads_borrowed")),
    Metric("server_in_flight_max", "count", _greatest("in_flight")),
    Metric("pool_checked_out_max", "count", _pool("pool_checked_out")),
    Metric("pool_waiting_max", "count", _pool("pool_waiting")),
    Metric("gc_pause_s", "inside", gc_pause),
    Metric("cpu_s_per_request", "cpu", _cpu_of_all),
    Metric("cpu_server_s_per_request", "cpu", _cpu_per_request("server")),
    Metric("cpu_postgres_s_per_request", "cpu", _cpu_per_request("postgres")),
    Metric("cpu_redis_s_per_request", "cpu", _cpu_per_request("redis")),
    Metric("cpu_celery_s_per_request", "cpu", _cpu_per_request("celery")),
    Metric("rss_peak_bytes", "memory", _of_server("rss_peak_bytes")),
    Metric("threads_peak", "count", _of_server("threads_peak")),
]
