"""What one more request costs in CPU, apart from what the processes use when idle: by regression over the rates of a staged load."""

import numpy as np

from analysis.frames import window_ns
from analysis.metrics.base import Context, Metric, refuse
from analysis.statistics import marginal_cost

RATES = 3
TREES = ("server", "postgres", "redis", "celery")


def _cost(context: Context) -> tuple[float, float]:
    """Seconds of CPU a request, and CPU used by none, in cores (docs/method.md section 3)."""
    stages, record = context.condition.load.stages_over(context.condition.duration_s), context.trial.record
    if len({stage.rate_per_s for stage in stages}) < RATES:
        raise refuse(f"a marginal cost needs {RATES} different rates", "Use a staged load of three stages.")
    if len(record.cpu_series) < 2:
        raise refuse("the processes' CPU time was not followed in this trial", "Run it again.", "missing")
    names = (context.arg,) if context.arg else TREES
    wanted = [index for index, tree in enumerate(record.processes, start=1) if tree in names]
    if not wanted:
        raise refuse(f"no CPU time of {' or '.join(names)}", "The process was not watched in this trial.", "missing")
    series = np.asarray(record.cpu_series, dtype=np.float64)
    used = series[:, wanted].sum(axis=1)
    done = context.trial.column("done_ns")[context.trial.column("outcome") <= 1]
    begin, _ = window_ns(context.trial, context.condition)  # the stages begin after the warm-up
    edges = begin + np.cumsum([0.0, *(stage.duration_s for stage in stages)]) * 1e9
    seconds = np.diff(edges) / 1e9
    cpu = np.diff(np.interp(edges, series[:, 0], used)) / 1e9
    answered = np.histogram(done, bins=edges)[0]
    return marginal_cost(list(answered / seconds), list(cpu / seconds))


METRICS = [
    Metric("cpu_marginal_s_per_request", "cpu", lambda context: _cost(context)[0]),
    Metric("cpu_idle_cores", "cpu", lambda context: _cost(context)[1]),
]
