"""Numbers of the charts over single requests: latency by percentile, and the empirical distribution."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analysis.charts.model import ChartData, ChartUnavailable, Panel, Picture, Role, Series
from analysis.charts.select import conditions_of, trials_of, y_words
from analysis.frames import CENSORED, OK, TIMEOUT, Trial, in_window
from analysis.metrics.latency import samples_needed
from lab.model import Chart, Condition
from lab.words.metrics import parse_metric

ECDF_POINTS = 240
PERCENTILES = tuple(1 - 10 ** -(nines / 16) for nines in range(0, 4 * 16 + 1))
"""From the least to p99.99, 16 points a decade of "nines": evenly spaced on the chart's axis."""


def _times(trial: Trial, condition: Condition, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Corrected and service times in ns of the successful answers in the window, and how many were never answered."""
    outcome, window = trial.column("outcome"), in_window(trial, condition)
    if name in trial.record.request_names:
        window = window & (trial.column("name_id") == trial.record.request_names.index(name))
    ok = window & (outcome == OK)
    never = int(np.count_nonzero(window & ((outcome == CENSORED) | (outcome == TIMEOUT))))
    done = trial.column("done_ns")[ok]
    return done - trial.column("planned_ns")[ok], done - trial.column("sent_ns")[ok], never


def _shown(chart: Chart, data: ChartData) -> list[Condition]:
    """The conditions that the chart names, else the plan's last that was run: a curve each for all of them would be a thicket."""
    conditions = conditions_of(chart, data)
    if chart.conditions:
        return conditions
    seen = {folder.record.condition for folder in data.folders() if folder.record.status == "ok"}
    return [one for one in conditions if one.key in seen][-1:]


def _where(chart: Chart, data: ChartData) -> tuple[str, ...]:
    """The condition in words where there is only one; several are named at their curves."""
    conditions = _shown(chart, data)
    return (f"{conditions[0].label}, all pairs together",) if len(conditions) == 1 else ()


def _merged(chart: Chart, data: ChartData) -> Iterator[tuple[str, int, str, NDArray[np.int64], NDArray[np.int64], int]]:
    """Variant, condition's index, label, sorted corrected and service times and the unanswered, merged over all pairs.

    Percentiles of pairs are never averaged: the samples are put together first.
    """
    conditions = _shown(chart, data)
    _, name = parse_metric(chart.metric)
    for index, condition in enumerate(conditions):
        parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64], int]]] = {}
        for _, trial in trials_of(data, [condition]):
            if len(trial.column("outcome")):
                parts.setdefault(trial.record.variant, []).append(_times(trial, condition, name))
        for variant in (v for v in data.plan.variants if v in parts):
            corrected = np.sort(np.concatenate([one[0] for one in parts[variant]]))
            service = np.sort(np.concatenate([one[1] for one in parts[variant]]))
            said = data.plan.label_of(variant)
            label = said if len(conditions) == 1 else f"{said}, {condition.label}"
            yield variant, index, label, corrected, service, sum(one[2] for one in parts[variant])


def quantiles(ordered_ns: NDArray[np.int64], never: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Percentile (0..1) and seconds by nearest rank, as far as the sample supports them and as far as they were answered."""
    count = len(ordered_ns) + never
    at, seconds = [], []
    for quantile in PERCENTILES:
        rank = max(int(np.ceil(quantile * count - 1e-9)), 1)
        if rank > len(ordered_ns) or count < samples_needed(max(quantile, 0.5)):
            break
        at.append(quantile)
        seconds.append(float(ordered_ns[rank - 1]) / 1e9)
    return tuple(at), tuple(seconds)


def percentiles(chart: Chart, data: ChartData) -> Picture:
    """Latency by percentile on an axis of nines: corrected (from the planned instant) solid, service dotted."""
    series: list[Series] = []
    cut, few = "", []
    for variant, index, label, corrected, service, never in _merged(chart, data):
        roles: tuple[tuple[Role, NDArray[np.int64], str], ...] = (
            ("measured", corrected, label), ("service", service, f"{label}, service"),
        )  # fmt: skip
        for role, times, name in roles:
            x, y = quantiles(times, never)
            if x:
                series.append(Series(name, variant, role, x, y, style=index))
            elif role == "measured":
                few.append(f"{label}: too few answers for a percentile ({len(times)} of {len(times) + never})")
        if never and any(one.style == index and one.variant == variant for one in series):
            cut = "a line that stops early: the rest was never answered"
    if not series:
        raise ChartUnavailable("the samples of this run are not stored here", "Charts over requests need them.")
    note = "solid: from the planned instant (corrected); dotted: from the moment of sending (service)"
    if not any(_is_seen_beside(one, series) for one in series if one.role == "service"):
        note = "from the planned instant; the time from the moment of sending (service) is the same here"
    return Picture(
        "percentiles", chart.title, chart.x_label or "percentile of requests", "", (Panel(_label(chart, "latency"), "s"),),
        tuple(series), data.plan.variants, notes=tuple(filter(None, (*_where(chart, data), note, cut, *few))), log_y=True,
    )  # fmt: skip


def _is_seen_beside(service: Series, series: list[Series]) -> bool:
    """Whether a dotted line leaves the solid one of its variant anywhere by more than a line's width."""
    solid = [s for s in series if (s.variant, s.style, s.role) == (service.variant, service.style, "measured")]
    return any(abs(a - b) > 0.03 * b for one in solid for a, b in zip(service.y, one.y, strict=False))


def _label(chart: Chart, default: str) -> str:
    return y_words(chart, default) if chart.y_label else default


def ecdf(chart: Chart, data: ChartData) -> Picture:
    """The share of requests answered within a time; a curve that stays below 1 has requests that were never answered."""
    series = []
    of_service = parse_metric(chart.metric)[0].startswith("service")
    for variant, index, label, corrected, service, never in _merged(chart, data):
        times = service if of_service else corrected
        if not len(times):
            continue
        ranks = np.unique(np.linspace(1, len(times), min(ECDF_POINTS, len(times))).round().astype(int))
        x = tuple(float(times[rank - 1]) / 1e9 for rank in ranks)
        y = tuple(float(rank) / (len(times) + never) for rank in ranks)
        series.append(Series(label, variant, "measured", x, y, style=index))
    if not series:
        raise ChartUnavailable("the samples of this run are not stored here", "Charts over requests need them.")
    label = (
        chart.x_label if chart.x_label not in ("", "seconds", "s") else ("service time" if of_service else "latency")
    )
    return Picture(
        "ecdf", chart.title, label, "s", (Panel("requests answered within", "share"),), tuple(series), data.plan.variants,
        notes=_where(chart, data), log_x=chart.log_x,
    )  # fmt: skip
