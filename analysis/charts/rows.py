"""Numbers of the charts made of rows: where the CPU went, and claims against their predictions (forest)."""

import numpy as np

from analysis.charts.model import ChartData, ChartUnavailable, Panel, Picture, Series
from analysis.charts.select import conditions_of, trials_of
from analysis.charts.units import human
from analysis.model import ClaimVerdict
from lab.model import CLAIM_KINDS, Chart, MetricExpression

TREES = ("server", "postgres", "redis", "celery", "upstream", "generator")
"""Process trees in the order in which they are stacked; any other comes after them."""
REACH = 30.0
"""Ratios beyond this many times the prediction are drawn at the edge, with their number beside them."""


def cpu(chart: Chart, data: ChartData) -> Picture:
    """CPU seconds per answered request by process tree: one stacked bar per condition and variant, the mean over pairs."""
    conditions = conditions_of(chart, data)
    seen: dict[tuple[int, str], dict[str, list[float]]] = {}
    for condition, trial in trials_of(data, conditions):
        answered = int(np.count_nonzero(trial.column("outcome") <= 1))
        if answered and trial.record.processes:
            own = seen.setdefault((conditions.index(condition), trial.record.variant), {})
            for tree, use in trial.record.processes.items():
                own.setdefault(tree, []).append(use.cpu_ns / 1e9 / answered)
    if not seen:
        raise ChartUnavailable("no trial has both its processes' CPU time and its samples", "Charts of CPU need both.")
    bars = sorted(seen, key=lambda key: (key[0], data.plan.variants.index(key[1])))
    trees = [t for t in TREES if any(t in seen[b] for b in bars)]
    trees += sorted({t for b in bars for t in seen[b]} - set(trees))
    series = tuple(
        Series(tree, "", "segment", tuple(float(i) for i, b in enumerate(bars) if tree in seen[b]),
               tuple(float(np.mean(seen[b][tree])) for b in bars if tree in seen[b]))
        for tree in trees
    )  # fmt: skip
    several = len({index for index, _ in bars}) > 1
    named = [(data.plan.label_of(variant), index) for index, variant in bars]
    rows = tuple(f"{name}\n{conditions[index].label}" if several else name for name, index in named)
    notes = ("mean over pairs; the whole process tree of each",) + (() if several else (conditions[bars[0][0]].label,))
    return Picture(
        "cpu", chart.title, "CPU per request", "s", (Panel(""),), series, data.plan.variants, rows,
        columns=tuple(variant for _, variant in bars), notes=notes,
    )  # fmt: skip


def _figures(claim: ClaimVerdict) -> str:
    at, measured = claim.at_headline, claim.at_headline.quotable
    if measured is None:
        return "not measured"
    relation = {"at_most": "≤ ", "at_least": "≥ "}.get(claim.relation, "")
    return f"{human(measured.value, claim.unit)}\npredicted {relation}{human(at.predicted, claim.unit)}"


def _ratios(claim: ClaimVerdict, raw: bool) -> tuple[float, float | None, float | None, tuple[float, ...]] | None:
    """Value, interval and single pairs of a row, or None where it has no place on a log axis."""
    measured = claim.at_headline.quotable
    if measured is None or measured.never:
        return None
    scale = 1.0 if raw else claim.at_headline.predicted
    if scale == 0:
        return (1.0, 1.0, 1.0, ()) if measured.value == 0 else None
    if scale < 0 or measured.value <= 0:
        return None
    ends = (measured.lowest, measured.highest) if measured.is_range else (measured.low, measured.high)
    bounds = [None if bound is None else max(bound / scale, 1e-3) for bound in ends]
    return (
        measured.value / scale,
        bounds[0],
        bounds[1],
        tuple(value / scale for value in measured.values if value > 0),
    )


def forest(chart: Chart, data: ChartData) -> Picture:
    """Claims as measured / predicted with intervals on a log axis, the tolerance shaded; ``metric="ratio"``: ratio claims as measured.

    A prediction of zero that was met stands at 1; one that was missed has no ratio and is left to the table.
    """
    raw = chart.metric.strip() == "ratio"
    wanted = [c for c in data.verdict.claims if not chart.theory or c.id in chart.theory]
    if raw:
        wanted = [c for c in wanted if MetricExpression.parse(c.metric).denominator]
    wanted.sort(key=lambda c: [*CLAIM_KINDS, c.kind].index(c.kind))
    rows = [(claim, found) for claim in wanted if (found := _ratios(claim, raw)) is not None]
    if not rows:
        raise ChartUnavailable("no claim was measured", "Look at the gates and failed trials.")
    series = tuple(
        Series(
            claim.statement, _variant(claim), "row", (float(i),), (value,), (low,), (high,),
            tuple((float(i), one) for one in pairs), texts=(claim.kind, claim.relation, _figures(claim), claim.verdict),
        )
        for i, (claim, (value, low, high, pairs)) in enumerate(rows)
    )  # fmt: skip
    bands = tuple(
        Series(
            "prediction", "", "theory", (float(i),), (claim.at_headline.predicted if raw else 1.0,), *_band(claim, raw)
        )
        for i, (claim, _) in enumerate(rows)
    )
    left = len(wanted) - len(rows)
    notes = [
        "shaded: where the claim holds (prediction and tolerance); bars: 95 % interval over pairs, for exact claims from the least to the most"
    ]
    if left:
        notes.append(f"{left} more in the table: not measured, never, or zero")
    return Picture(
        "forest", chart.title, "measured ratio" if raw else "measured ÷ predicted", "x", (Panel(""),), (*series, *bands),
        data.plan.variants, tuple(f"{claim.kind}: {claim.statement}" for claim, _ in rows), notes=tuple(notes), log_x=True,
    )  # fmt: skip


def _variant(claim: ClaimVerdict) -> str:
    expression = MetricExpression.parse(claim.metric)
    return "" if expression.denominator else expression.numerator.variant


def _band(claim: ClaimVerdict, raw: bool) -> tuple[tuple[float | None], tuple[float | None]]:
    """Where a claim holds; None is open-ended."""
    middle = claim.at_headline.predicted if raw else 1.0
    low, high = middle * (1 - claim.tolerance), middle * (1 + claim.tolerance)
    return ((None if claim.relation == "at_most" else low,), (None if claim.relation == "at_least" else high,))
