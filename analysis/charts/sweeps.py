"""Numbers of the charts that show a metric over something: sweep and scaling (lines), counts (bars), heatmap (cells)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from analysis.charts.model import ChartData, ChartUnavailable, Panel, Picture, Series
from analysis.charts.select import (
    Curve,
    axis_label,
    axis_unit,
    claims_about,
    conditions_of,
    curves,
    estimate,
    metric_values,
    metric_words,
    order_of,
    trials_of,
    x_value,
    y_words,
)
from analysis.frames import OK, Trial
from analysis.metrics import unit_of_expression
from lab.model import Chart, ClaimPlan, Condition, MetricExpression, Scalar
from lab.words.metrics import parse_metric, unit_of

PLAN_FIELDS = {
    "plan_rows_visited": "rows_visited", "plan_rows_returned": "rows_returned", "plan_blks": "shared_blks",
    "plan_temp_blks": "temp_blks",
}  # fmt: skip
DASHED = "dashed: theory, registered before the run"
RINGS = "rings: theory, registered before the run"
FIT_R2 = 0.9
"""Below this share of the variance a straight line says nothing and is not drawn."""
PAIRS = "bars: 95 % interval over pairs; faint dots: single pairs"


def unit_of_chart(chart: Chart) -> str:
    """The unit of the chart's metric."""
    if " / " in chart.metric:
        return unit_of_expression(MetricExpression.parse(chart.metric))
    return unit_of(*parse_metric(chart.metric))


def _is_numeric(values: Sequence[Scalar | None]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def line(
    name: str, variant: str, points: Sequence[tuple[float, Sequence[float]]], ratio: bool, style: int = 0
) -> Series:
    """A measured line: at each x the estimate of the per-pair values."""
    estimates = [(x, estimate(values, ratio)) for x, values in points]
    return Series(
        name, variant, "measured", tuple(x for x, _ in estimates), tuple(e.value for _, e in estimates),
        tuple(e.low for _, e in estimates), tuple(e.high for _, e in estimates),
        tuple((x, value) for x, values in points for value in values), style=style,
    )  # fmt: skip


def _arms(chart: Chart, data: ChartData, conditions: Sequence[Condition]) -> tuple[str, ...]:
    if " / " in chart.metric:
        return ("",)
    return tuple(v for v in data.plan.variants if any(v in data.plan.variants_of(c) for c in conditions))


def name_of(data: ChartData, variant: str) -> str:
    """What a line or bar is called: what its variant does, never the name of its file."""
    return data.plan.label_of(variant) if variant else "ratio"


def sweep(chart: Chart, data: ChartData) -> Picture:
    """A metric over a parameter of the conditions, per variant, its predictions dashed.  ``x="level"`` sweeps inside a trial."""
    if chart.x == "level":
        return scaling(chart, data)
    found = curves(chart, conditions_of(chart, data))
    values = list(dict.fromkeys(x_value(c, chart.x) for curve in found for c in curve.conditions))
    if not values:
        raise ChartUnavailable(f"no condition has a parameter {chart.x!r}", "Name one of the conditions' params as x.")
    categories = () if _is_numeric(values) else tuple(str(value) for value in values)
    place = {c.key: _place(x_value(c, chart.x), values, bool(categories)) for curve in found for c in curve.conditions}
    series = [one for i, curve in enumerate(found) for one in _sweep_curve(chart, data, curve, place, i)]
    if not any(one.role == "measured" for one in series):
        raise ChartUnavailable(f"{chart.metric} was not measured in this run", "Look at the doubts and failed trials.")
    return Picture(
        chart.kind, chart.title, chart.x_label or axis_label(chart.x), axis_unit(chart.x),
        (Panel(y_words(chart, chart.metric), unit_of_chart(chart)),), tuple(series), data.plan.variants, categories,
        notes=notes(series), log_x=chart.log_x, log_y=chart.log_y,
    )  # fmt: skip


def _place(value: Scalar | None, values: Sequence[Scalar | None], is_category: bool) -> float:
    return float(values.index(value)) if is_category else float(value or 0)


def notes(series: Sequence[Series]) -> tuple[str, ...]:
    """The key in words: only what is on the chart."""
    theory = [one for one in series if one.role == "theory"]
    found = [DASHED] if any(not one.texts and len(one.x) > 1 for one in theory) else []
    found += [RINGS] if any(one.texts or len(one.x) == 1 for one in theory) else []
    if any(low is not None and low != high for one in series for low, high in zip(one.low, one.high, strict=True)):
        found.append(PAIRS)
    return tuple(found)


def _sweep_curve(
    chart: Chart, data: ChartData, curve: Curve, place: dict[str, float], style: int
) -> list[Series]:  # fmt: skip
    series, ratio = [], " / " in chart.metric
    for variant in _arms(chart, data, curve.conditions):
        points = [(place[c.key], metric_values(data, c.key, variant, chart.metric)) for c in curve.conditions]
        points = [(x, values) for x, values in points if values]
        if points:
            name = ", ".join(part for part in (name_of(data, variant), curve.name) if part)
            series.append(line(name, variant, points, ratio, style))
    for claim in claims_about(chart, data):
        series += _theory(claim, [(place[c.key], claim.predictions.get(c.key)) for c in curve.conditions], style)
    return series


def _theory(claim: ClaimPlan, points: Sequence[tuple[float, float | None]], style: int) -> list[Series]:
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return []
    expression = MetricExpression.parse(claim.metric)
    variant = "" if expression.denominator else expression.numerator.variant
    name = {"at_most": "at most", "at_least": "at least"}.get(claim.relation, "theory")
    return [Series(name, variant, "theory", tuple(x for x, _ in known), tuple(y for _, y in known), style=style)]


# ---------------------------------------------------------------- over the level inside a trial


def level_values(trial: Trial, metric: str) -> dict[float, float]:
    """A metric at each level of one trial: rows or blocks of what was explained there, else the median service time in seconds."""
    if metric in PLAN_FIELDS:
        sums: dict[float, float] = defaultdict(float)
        for plan in trial.record.plans:
            sums[plan.level] += getattr(plan, PLAN_FIELDS[metric])
        return dict(sums)
    level = trial.column("level")
    mask = (level >= 0) & (trial.column("outcome") == OK)
    took = (trial.column("done_ns") - trial.column("sent_ns"))[mask] / 1e9
    return {float(one): float(np.median(took[level[mask] == one])) for one in np.unique(level[mask])}


def scaling(chart: Chart, data: ChartData) -> Picture:
    """A value over the level inside a trial, per variant, with a straight-line fit where five levels or more stand on a linear axis.

    With another x than ``level`` it is a sweep.
    """
    if chart.x not in ("", "level"):
        return sweep(chart, data)
    conditions = conditions_of(chart, data)
    metric = parse_metric(chart.metric)[0]
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for condition, trial in trials_of(data, conditions):
        levels = found.setdefault((trial.record.variant, condition.key), defaultdict(list))
        for level, value in level_values(trial, metric).items():
            levels[level].append(value)
    keys = [c.key for c in conditions]
    series = [
        line(_level_name(data, v, keys, key), v, sorted(levels.items()), False, keys.index(key))
        for (v, key), levels in sorted(found.items(), key=lambda item: _rank(item[0], data.plan.variants, keys)) if levels
    ]  # fmt: skip
    if not series:
        raise ChartUnavailable("no trial has a value at any level", "Its samples are gone, or no request has a level.")
    if not chart.log_x and not chart.log_y:
        series += [fit for one in series if len(one.x) >= 5 and (fit := _fit(one)) is not None]
    series += _level_theory(chart, data, conditions)
    unit = "s" if metric not in PLAN_FIELDS else ""
    extra = ("thin line: straight-line fit",) if any(one.role == "fit" for one in series) else ()
    return Picture(
        chart.kind, chart.title, chart.x_label or "level", "", (Panel(y_words(chart, chart.metric), unit),), tuple(series),
        data.plan.variants, notes=(*notes(series), *extra), log_x=chart.log_x, log_y=chart.log_y,
    )  # fmt: skip


def _level_name(data: ChartData, variant: str, keys: Sequence[str], key: str) -> str:
    """The variant's label, and the condition's where there are several."""
    name = data.plan.label_of(variant)
    return name if len(keys) == 1 else f"{name}, {data.plan.condition(key).label}"


def _rank(key: tuple[str, str], variants: Sequence[str], conditions: Sequence[str]) -> tuple[int, int]:
    return variants.index(key[0]) if key[0] in variants else len(variants), conditions.index(key[1])


def _fit(one: Series) -> Series | None:
    """The straight line through a series, or None where it explains too little."""
    from analysis.metrics.fits import straight_line

    fitted = straight_line(np.array(one.x), np.array(one.y))
    if fitted.r2 < FIT_R2:
        return None
    ends = (one.x[0], one.x[-1])
    return Series(
        f"fit of {one.name}", one.variant, "fit", ends, tuple(fitted.intercept + fitted.slope * x for x in ends), style=one.style
    )  # fmt: skip


def _level_theory(chart: Chart, data: ChartData, conditions: Sequence[Condition]) -> list[Series]:
    """Predictions at levels: a claim's argument is the level itself or the name of what was explained there."""
    levels = {one.name: one.level for one in data.plan.explained}
    points: dict[tuple[str, int], dict[float, float]] = defaultdict(dict)
    for claim in claims_about(chart, data, any_argument=True):
        ref = MetricExpression.parse(claim.metric).numerator
        level = levels.get(ref.arg, float(ref.arg) if ref.arg.isdigit() else None)
        if level is None or claim.relation != "about" or " / " in claim.metric:
            continue
        for index, condition in enumerate(conditions):
            if condition.key in claim.predictions:
                points[ref.variant, index][level] = claim.predictions[condition.key]
    return [
        Series(
            "theory",
            variant,
            "theory",
            tuple(sorted(at)),
            tuple(at[x] for x in sorted(at)),
            style=index,
            texts=("points",),
        )
        for (variant, index), at in points.items()
    ]


# ---------------------------------------------------------------- bars and cells


def counts(chart: Chart, data: ChartData) -> Picture:
    """Measured counts as bars by condition and variant, the exact prediction as a mark on each."""
    conditions = conditions_of(chart, data)
    rows = tuple(c.label for c in conditions)
    series: list[Series] = []
    for variant in _arms(chart, data, conditions):
        points = [(float(i), metric_values(data, c.key, variant, chart.metric)) for i, c in enumerate(conditions)]
        points = [(i, values) for i, values in points if values]
        if points:
            series.append(line(name_of(data, variant), variant, points, " / " in chart.metric))
    if not series:
        raise ChartUnavailable(f"{chart.metric} was not measured in this run", "Look at the doubts and failed trials.")
    for claim in claims_about(chart, data):
        series += _theory(claim, [(float(i), claim.predictions.get(c.key)) for i, c in enumerate(conditions)], 0)
    shown = [
        s for s in series if s.role != "theory" or any(m.variant == s.variant for m in series if m.role == "measured")
    ]
    key = ("upright mark: the prediction registered before the run",) if any(s.role == "theory" for s in shown) else ()
    return Picture(
        "counts", chart.title, y_words(chart, chart.metric), unit_of_chart(chart), (Panel(""),), tuple(shown), data.plan.variants,
        rows, notes=key, log_x=chart.log_y,
    )  # fmt: skip


def heatmap(chart: Chart, data: ChartData) -> Picture:
    """A metric over two parameters, ``x="users,workers"``: a panel per variant, or one for a ratio."""
    x_name, _, y_name = (part.strip() for part in chart.x.partition(","))
    if not y_name:
        raise ChartUnavailable(f"a heat map needs two parameters, x is {chart.x!r}", 'Write x="users,workers".')
    conditions = [c for c in conditions_of(chart, data) if None not in (x_value(c, x_name), x_value(c, y_name))]
    columns = list(
        dict.fromkeys(x_value(c, x_name) for c in sorted(conditions, key=lambda c: order_of(x_value(c, x_name))))
    )
    rows = list(
        dict.fromkeys(x_value(c, y_name) for c in sorted(conditions, key=lambda c: order_of(x_value(c, y_name))))
    )
    series: list[Series] = []
    panels: list[Panel] = []
    for variant in _arms(chart, data, conditions):
        for row, row_value in enumerate(rows):
            at = {columns.index(x_value(c, x_name)): metric_values(data, c.key, variant, chart.metric)
                  for c in conditions if x_value(c, y_name) == row_value}  # fmt: skip
            at = {column: values for column, values in sorted(at.items()) if values}
            means = tuple(estimate(values, " / " in chart.metric).value for values in at.values())
            if means:
                series.append(
                    Series(str(row), variant, "cell", tuple(map(float, at)), means, panel=len(panels), style=row)
                )
        panels.append(
            Panel(
                f"{axis_label(y_name)}",
                unit_of_chart(chart),
                data.plan.label_of(variant) if variant else metric_words(chart.metric),
            )
        )
    if not series:
        raise ChartUnavailable(f"{chart.metric} was not measured in this run", "Look at the doubts and failed trials.")
    return Picture(
        "heatmap", chart.title, chart.x_label or axis_label(x_name), axis_unit(x_name), tuple(panels), tuple(series),
        data.plan.variants, tuple(map(str, rows)), tuple(map(str, columns)),
        notes=(y_words(chart, chart.metric) + "; a mean over pairs in each cell",), log_y=chart.log_y,
    )  # fmt: skip
