"""Numbers of the chart over time: answers, latency, loop lag and connections of one pair, with events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.charts.model import ChartData, ChartUnavailable, Mark, Panel, Picture, Series
from analysis.charts.select import conditions_of, trials_of, y_words
from analysis.frames import OK, Trial
from lab.model import Chart, Condition
from lab.words.metrics import parse_metric

BINS = 60
LEAST_BIN_S = 0.1
ENDS = {"kill": ("start",), "term": ("start",), "fault": ("fault",)}
"""Which later action ends the shaded stretch that an event begins."""

Points = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class _Quantity:
    label: str
    unit: str
    metrics: tuple[str, ...]
    points: Callable[[Trial, float, float], Points]


def _binned(times_s: NDArray[np.float64], length_s: float, bin_s: float) -> tuple[NDArray[np.int64], int]:
    count = max(int(np.ceil(length_s / bin_s)), 1)
    return (times_s / bin_s).astype(np.int64).clip(0, count - 1), count


def _rate(trial: Trial, length_s: float, bin_s: float) -> Points:
    done = trial.column("done_ns")[trial.column("outcome") == OK]
    seconds = (done - trial.record.load_started_ns) / 1e9
    index, count = _binned(seconds[(seconds >= 0) & (seconds <= length_s)], length_s, bin_s)
    per_bin = np.bincount(index, minlength=count)
    return tuple((np.arange(count) + 0.5) * bin_s), tuple(per_bin / bin_s)


def _latency(trial: Trial, length_s: float, bin_s: float) -> Points:
    """The median by planned instant: what a user who came then had to wait."""
    ok = trial.column("outcome") == OK
    planned = trial.column("planned_ns")[ok]
    took = (trial.column("done_ns")[ok] - planned) / 1e9
    index, count = _binned((planned - trial.record.load_started_ns) / 1e9, length_s, bin_s)
    filled = [one for one in range(count) if (index == one).any()]
    return tuple((one + 0.5) * bin_s for one in filled), tuple(float(np.median(took[index == one])) for one in filled)


def _of_server(column: str, scale: float = 1.0) -> Callable[[Trial, float, float], Points]:
    """The greatest value of any worker in each bin."""

    def points(trial: Trial, length_s: float, bin_s: float) -> Points:
        seconds = (trial.server("t_ns") - trial.record.load_started_ns) / 1e9
        inside = (seconds >= 0) & (seconds <= length_s + bin_s)
        index, count = _binned(seconds[inside], length_s, bin_s)
        values = trial.server(column)[inside]
        filled = [one for one in range(count) if (index == one).any()]
        return tuple((o + 0.5) * bin_s for o in filled), tuple(float(values[index == o].max()) * scale for o in filled)

    return points


def _connections(trial: Trial, length_s: float, bin_s: float) -> Points:
    del bin_s
    rows = [((row[0] - trial.record.load_started_ns) / 1e9, float(row[1])) for row in trial.record.activity_series]
    rows = [row for row in rows if 0 <= row[0] <= length_s]
    step = max(len(rows) // 200, 1)
    return tuple(t for t, _ in rows[::step]), tuple(n for _, n in rows[::step])


QUANTITIES = (
    _Quantity("answers", "requests/s", ("throughput_rps", "capacity_rps", "requests_ok"), _rate),
    _Quantity("latency, median", "s", ("latency", "latency_p50_s", "latency_p99_s", "latency_max_s"), _latency),
    _Quantity("event loop late by", "s", ("loop_lag", "loop_lag_max_s", "loop_lag_p99_s", "loop_lag_p50_s"),
              _of_server("loop_lag_max_ns", 1e-9)),
    _Quantity("threads borrowed", "", ("threads_borrowed_max",), _of_server("threads_borrowed")),
    _Quantity("in flight at the server", "", ("server_in_flight_max",), _of_server("in_flight")),
    _Quantity("waiting for a connection", "", ("pool_waiting_max",), _of_server("pool_waiting")),
    _Quantity("database connections", "", ("connections_peak", "sessions_opened"), _connections),
)  # fmt: skip
ALWAYS = ("answers", "latency, median", "event loop late by", "database connections")


def _one_pair(data: ChartData, condition: Condition) -> int | None:
    """The first pair of which every variant has a finished trial."""
    arms: dict[int, set[str]] = {}
    for folder in data.folders():
        record = folder.record
        if record.condition == condition.key and record.status == "ok":
            arms.setdefault(record.pair, set()).add(record.variant)
    wanted = set(data.plan.variants_of(condition))
    whole = sorted(pair for pair, seen in arms.items() if seen >= wanted) or sorted(arms)
    return whole[0] if whole else None


def marks_of(trials: Sequence[Trial]) -> tuple[Mark, ...]:
    """Events of the first trial that had any, in seconds after its load began; a kill lasts until the next start."""
    for trial in trials:
        events = sorted(trial.record.events, key=lambda one: one.at_ns)
        started = trial.record.load_started_ns
        found = []
        for i, event in enumerate(events):
            if event.action == "start" and any(e.action in ("kill", "term") for e in events[:i]):
                continue
            ends = (e.at_ns for e in events[i + 1 :] if e.action in ENDS.get(event.action, ()))
            until = next(((end - started) / 1e9 for end in ends), None)
            found.append(Mark((event.at_ns - started) / 1e9, event.label or event.action, until))
        if found:
            return tuple(found)
    return ()


def timeline(chart: Chart, data: ChartData) -> Picture:
    """What happened during the load of one pair: the chart's own metric on top, then answers, latency, loop lag and connections."""
    conditions = conditions_of(chart, data)
    condition = conditions[0] if chart.conditions else conditions[-1]
    pair = _one_pair(data, condition)
    own = next((q for q in QUANTITIES if parse_metric(chart.metric)[0] in q.metrics), None)
    chosen = [own] if own else []
    chosen += [q for q in QUANTITIES if q is not own and q.label in ALWAYS]
    points: dict[tuple[str, str], Points] = {}
    marks: tuple[Mark, ...] = ()
    for _, trial in trials_of(data, [condition]):
        if trial.record.pair != pair or not (len(trial.column("done_ns")) or len(trial.server("t_ns"))):
            continue
        length = max((trial.record.load_ended_ns - trial.record.load_started_ns) / 1e9, LEAST_BIN_S)
        bin_s = max(length / BINS, LEAST_BIN_S)
        points.update({(q.label, trial.record.variant): q.points(trial, length, bin_s) for q in chosen})
        marks = marks or marks_of([trial])
    shown = [q for q in chosen if any(any(y) for (label, _), (_, y) in points.items() if label == q.label)][:4]
    if not shown or pair is None:
        raise ChartUnavailable("the samples of this run are not stored here", "Charts over time need them.")
    series = [
        Series(data.plan.label_of(variant), variant, "measured", *points[q.label, variant], panel=index)
        for index, q in enumerate(shown)
        for variant in data.plan.variants
        if points.get((q.label, variant), ((), ()))[0]
    ]
    panels = tuple(Panel(y_words(chart, q.label) if q is own and chart.y_label else q.label, q.unit) for q in shown)
    pairs = {folder.record.pair for folder in data.folders() if folder.record.condition == condition.key}
    note = f"{condition.label}: pair {pair + 1} of {len(pairs)}" if len(pairs) > 1 else condition.label
    return Picture(
        "timeline", chart.title, chart.x_label or "time since the load began", "s", panels, tuple(series), data.plan.variants,
        marks=marks, notes=(note,), log_y=chart.log_y,
    )  # fmt: skip
