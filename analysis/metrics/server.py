"""What the wrapper saw inside the workers, and what the processes used."""

from collections.abc import Callable

import numpy as np

from analysis.metrics.base import Context, Metric, answered_count, refuse
from analysis.metrics.latency import quantile_s


def _rows(context: Context) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """The wrapper's rows of the load.  A row tells of the time before it, so the one that a blocked loop wrote late still counts."""
    times = context.trial.server("t_ns")
    if not len(times):
        raise refuse(
            "the wrapper recorded nothing", "It is off, or no worker lived long enough to write a row.", "missing"
        )
    record = context.trial.record
    if not record.load_ended_ns:
        return np.ones(len(times), dtype=np.bool_)
    began = times - context.trial.server("loop_lag_max_ns")
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (times >= record.load_started_ns) & (
        began <= record.load_ended_ns
    )
    if not mask.any():
        raise refuse("the wrapper recorded nothing while the load ran", "The load was shorter than a row.", "missing")
    return mask


def _greatest(column: str, scale: float = 1.0) -> Callable[[Context], float]:
    return lambda context: float(context.trial.server(column)[_rows(context)].max()) * scale


def _loop_lag(quantile: float) -> Callable[[Context], float]:
    return lambda context: quantile_s(
        np.sort(context.trial.server("loop_lag_max_ns")[_rows(context)]), 0, quantile, "loop lag (100 ms rows)"
    )


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
    mask = _rows(context)
    pids, spent = context.trial.server("pid")[mask], context.trial.server("gc_pause_ns")[mask]
    return sum(float(np.ptp(spent[pids == pid])) for pid in np.unique(pids)) / 1e9


def _cpu_ns(context: Context, trees: tuple[str, ...]) -> float:
    processes = context.trial.record.processes
    if not any(tree in processes for tree in trees):
        raise refuse(f"no CPU time of {' or '.join(trees)}", "The process was not watched in this trial.", "missing")
    return float(sum(processes[tree].cpu_ns for tree in trees if tree in processes))


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
    Metric("loop_lag_max_s", "inside", _greatest("loop_lag_max_ns", 1e-9)),
    Metric("loop_lag_p50_s", "inside", _loop_lag(0.5)),
    Metric("loop_lag_p99_s", "inside", _loop_lag(0.99)),
    Metric("threads_borrowed_max", "count", _greatest("threads_borrowed")),
    Metric("server_in_flight_max", "count", _greatest("in_flight")),
    Metric("pool_checked_out_max", "count", _pool("pool_checked_out")),
    Metric("pool_waiting_max", "count", _pool("pool_waiting")),
    Metric("gc_pause_s", "inside", gc_pause),
    Metric("cpu_s_per_request", "cpu", _cpu_per_request("server", "postgres", "redis", "celery")),
    Metric("cpu_server_s_per_request", "cpu", _cpu_per_request("server")),
    Metric("cpu_postgres_s_per_request", "cpu", _cpu_per_request("postgres")),
    Metric("cpu_redis_s_per_request", "cpu", _cpu_per_request("redis")),
    Metric("cpu_celery_s_per_request", "cpu", _cpu_per_request("celery")),
    Metric("rss_peak_bytes", "memory", _of_server("rss_peak_bytes")),
    Metric("threads_peak", "count", _of_server("threads_peak")),
]
