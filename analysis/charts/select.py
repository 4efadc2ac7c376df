"""Which conditions, x values, estimates and predictions a chart shows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.answers import sentence
from analysis.charts.model import ChartData, ChartUnavailable
from analysis.frames import Trial, open_trial
from analysis.metrics import METRICS, Refusal, measure
from analysis.model import ClaimVerdict, Estimate
from analysis.statistics import of_ratios, of_values
from lab.model import Chart, ClaimPlan, Condition, MetricExpression, Scalar
from lab.words.metrics import own_unit, parse_metric

_WORDS = {
    "users": "users", "workers": "workers", "rate_per_s": "offered rate", "requests": "requests at once", "level": "level",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The conditions that make one line per variant; ``name`` tells curves apart where a chart has several."""

    name: str
    conditions: tuple[Condition, ...]


def conditions_of(chart: Chart, data: ChartData) -> list[Condition]:
    """The chart's conditions in the chart's order, or all of the plan.  Raises ChartUnavailable where the run had none of them."""
    every = data.plan.conditions
    if not chart.conditions:
        return list(every)
    found = [c for name in chart.conditions for c in every if name in (c.label, c.key)]
    if not found:
        raise ChartUnavailable(
            f"none of its conditions was part of this run: {', '.join(chart.conditions)}",
            "A full run (--full) has all conditions.",
        )
    return found


def x_value(condition: Condition, name: str) -> Scalar | None:
    """A condition's place on the axis ``name``: a parameter, else the workers, users or rate of its load."""
    if name in condition.params:
        return condition.params[name]
    load = condition.load
    match name:
        case "workers":
            return condition.workers
        case "server":
            return condition.server.kind
        case "loop":
            return condition.server.loop
        case "rate":
            return getattr(load, "rate_per_s", None)
    return getattr(load, name, None)


def axis_label(name: str) -> str:
    """A parameter's name in words, without its unit."""
    return _WORDS.get(name, name.removesuffix("_s").removesuffix("_bytes").replace("_", " "))


def axis_unit(name: str) -> str:
    """The unit that a parameter's name ends in."""
    return "requests/s" if name.startswith("rate") else own_unit(name)


def metric_words(metric: str) -> str:
    """A metric's name in words, for an axis without its own label."""
    name, arg = parse_metric(metric)
    words = name
    for end in ("_s_per_request", "_per_request", "_per_burst", "_rps", "_s", "_bytes"):
        if name.endswith(end):
            words = name.removesuffix(end) + {"_per_burst": " per burst"}.get(end, "")
            break
    return words.replace("_", " ") + (f" ({arg})" if arg else "")


def y_words(chart: Chart, metric: str) -> str:
    """The y axis in words.  A unit at the end of the author's label is dropped: the painter writes its own."""
    label = chart.y_label or metric_words(metric)
    for unit in ("seconds", "s", "ms", "bytes", "B"):
        label = label.removesuffix(f", {unit}").removesuffix(f" ({unit})")
    return label


def title_of(chart: Chart, claims: Sequence[ClaimVerdict]) -> str:
    """The chart's title with its numbers; where one may not be quoted, what is drawn."""
    words = y_words(chart, chart.metric)
    return sentence(chart.title, claims) or (words[:1].upper() + words[1:]) or chart.kind


def estimate(values: Sequence[float], ratio: bool = False) -> Estimate:
    """Value and 95 % interval over pairs, as the verdicts make them."""
    return of_ratios(values, None) if ratio else of_values(values)


def metric_values(data: ChartData, condition: str, variant: str, metric: str) -> tuple[float, ...]:
    """Per-pair values of a metric, or of the ratio ``a.metric / b.metric`` (then ``variant`` plays no part)."""
    if " / " not in metric:
        return _all_or_none(_known(data, condition, variant, metric.strip()))
    above, below = MetricExpression.parse(metric).refs
    tops = _known(data, condition, above.variant, str(above).partition(".")[2])
    bottoms = _known(data, condition, below.variant, str(below).partition(".")[2])
    shared = [pair for pair in sorted(tops) if bottoms.get(pair)]
    return _all_or_none({pair: tops[pair] / bottoms[pair] for pair in shared})


def _all_or_none(values: Mapping[int, float]) -> tuple[float, ...]:
    """The values in the order of pairs.  Where one is "never" there is no mean to draw: the rest alone would flatter it."""
    return tuple(values[pair] for pair in sorted(values)) if all(map(math.isfinite, values.values())) else ()


def _known(data: ChartData, condition: str, variant: str, metric: str) -> dict[int, float]:
    """The verdict's values by pair; where it has none of the metric, what the trials give (a chart of a ratio, an old verdict)."""
    name, arg = parse_metric(metric)
    if metric in data.verdict.metrics.get(condition, {}).get(variant, {}) or name not in METRICS:
        return data.values(condition, variant, metric)
    cell = [c for c in data.plan.conditions if c.key == condition]
    found: dict[int, float] = {}
    for one, trial in trials_of(data, cell, variant):
        value = measure(trial, data.plan, one, name, arg)
        if not isinstance(value, Refusal) and not math.isnan(value):
            found[trial.record.pair] = value
    return found


def claims_about(chart: Chart, data: ChartData, *, any_argument: bool = False) -> list[ClaimPlan]:
    """The claims whose predictions belong beside the chart's metric: those it names, else every claim about that metric.

    Named claims about other metrics are left out: their numbers have no place on this axis.
    """
    name, arg = parse_metric(chart.metric)
    found = []
    for claim in data.plan.claims:
        if chart.theory and claim.id not in chart.theory:
            continue
        expression = MetricExpression.parse(claim.metric)
        ref = expression.numerator
        is_same = str(expression.numerator).partition(".")[2] == chart.metric.strip()
        if expression.denominator:
            is_same = claim.metric.strip() == chart.metric.strip()
        elif any_argument:
            is_same = ref.metric == name and (not arg or ref.arg == arg)
        if is_same:
            found.append(claim)
    return found


def curves(chart: Chart, conditions: Sequence[Condition]) -> list[Curve]:
    """Conditions as curves over ``chart.x``: one curve, or where an x repeats, one for each of the other parameters' values."""
    placed = [c for c in conditions if x_value(c, chart.x) is not None]
    placed.sort(key=lambda c: order_of(x_value(c, chart.x)))
    if len({x_value(c, chart.x) for c in placed}) == len(placed):
        return [Curve("", tuple(placed))] if placed else []
    groups: dict[tuple[tuple[str, str], ...], list[Condition]] = {}
    for condition in placed:
        groups.setdefault(_rest(condition, chart.x), []).append(condition)
    shared = set.intersection(*(set(key) for key in groups))
    return [Curve(", ".join(f"{name} {value}" for name, value in key if (name, value) not in shared), tuple(group))
            for key, group in groups.items()]  # fmt: skip


def _rest(condition: Condition, x: str) -> tuple[tuple[str, str], ...]:
    """What a condition is besides its x: the other parameters and the server."""
    rest = [(axis_label(name), str(value)) for name, value in sorted(condition.params.items()) if name != x]
    if x not in ("workers", "server", "loop"):
        rest.append(("on", f"{condition.server.kind} x{condition.workers}, {condition.server.loop}"))
    return tuple(rest)


def order_of(value: Scalar | None) -> tuple[bool, float, str]:
    """A key that sorts numbers by size and puts words after them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True, 0.0, str(value)
    return False, float(value), ""


# ---------------------------------------------------------------- trials


def trials_of(data: ChartData, conditions: Sequence[Condition], variant: str = "") -> Iterator[tuple[Condition, Trial]]:
    """The finished trials of some conditions (of one variant where it is named), one open at a time.

    Each forgets its columns when the next is asked for.
    """
    by_key = {c.key: c for c in conditions}
    for folder in data.folders():
        if folder.record.status != "ok" or folder.record.condition not in by_key:
            continue
        if variant and folder.record.variant != variant:
            continue
        trial = open_trial(folder)
        yield by_key[trial.record.condition], trial
        trial.drop()
