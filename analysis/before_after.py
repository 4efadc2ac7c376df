"""The finding in one line: what the naive app reads and what the fixed one reads, in the same number under the same condition."""

import math
from collections.abc import Sequence

from analysis import statistics
from analysis.case import Case
from analysis.gates import spoiled_by, spoiled_pairs
from analysis.metrics import METRICS, family_of, unit_of_expression
from analysis.model import Estimate, Seen
from analysis.readings import Readings, read_pairs
from lab.model import BeforeAfter, Condition, GotchaPlan, MetricExpression


def expression_of(metric: str, variant: str) -> MetricExpression:
    """``a / b`` of one variant."""
    return MetricExpression.parse(" / ".join(f"{variant}.{part.strip()}" for part in metric.split(" / ")))


def _condition(plan: GotchaPlan, said: BeforeAfter) -> Condition | None:
    """The condition by its label, or (under other servers) the first whose label begins with it."""
    found = [one for one in plan.conditions if one.label == said.condition]
    found += [one for one in plan.conditions if one.label.startswith(f"{said.condition} on ")]
    return found[0] if found else None


def _mean(readings: Readings) -> float | None:
    values = list(readings.values.values())
    if not values:
        return None
    return math.inf if math.inf in values else sum(values) / len(values)


def _factor(naive: Readings, fixed: Readings, level: float) -> Estimate | None:
    """Naive over fixed within each pair; None where one of them is 0 or never, for there is no ratio then."""
    pairs = sorted(set(naive.values) & set(fixed.values))
    ratios = [
        naive.values[pair] / fixed.values[pair]
        for pair in pairs if fixed.values[pair] > 0 and math.isfinite(fixed.values[pair]) and math.isfinite(naive.values[pair])
    ]  # fmt: skip
    if len(ratios) != len(pairs) or not ratios or min(ratios) <= 0:
        return None
    return statistics.of_ratios(ratios, 1.0, level)


def _spoiled(case: Case, key: str, expressions: Sequence[MetricExpression], planned: int) -> str:
    """Why the numbers of this condition are not quoted: a gate that spoils what they read, in more pairs than may be left out."""
    results = case.gates.get(key, ())
    for expression in expressions:
        family = family_of(expression.numerator)
        bad = spoiled_by(family, results)
        if bad is not None and (not bad.pairs or planned - len(spoiled_pairs(family, results)) < 1):
            return f"{bad.detail.rstrip('.')}: measured, and not believed"
    return ""


def seen_of(case: Case) -> Seen | None:
    """The line of a gotcha; None where its scenario names none or the condition was not run."""
    said = case.plan.before_after
    if said is None:
        return None
    condition = _condition(case.plan, said)
    if condition is None:
        return None
    key, planned = condition.key, case.planned_pairs(condition.key)
    arms = [expression_of(said.metric, variant) for variant in ("naive", said.fixed)]
    unit = unit_of_expression(arms[0])
    label = case.plan.label_of(said.fixed)
    if any(ref.metric not in METRICS for arm in arms for ref in arm.refs):
        return Seen(
            said.words, unit, said.situation, key, None, None, None, label, f"there is no metric {said.metric!r}"
        )
    readings = [read_pairs(case.facts.get(key, ()), arm, planned) for arm in arms]
    bad = spoiled_pairs(family_of(arms[0].numerator), case.gates.get(key, ()))
    reason = _spoiled(case, key, arms, len(planned))
    if not reason:
        readings = [Readings({p: v for p, v in one.values.items() if p not in bad}, one.missing) for one in readings]
    naive, fixed = (_mean(one) for one in readings)
    if not reason and (naive is None or fixed is None):
        missing = [one for reading in readings for one in reading.missing]
        reason = missing[0].reason if missing else "no finished trial"
    if reason:
        return Seen(said.words, unit, said.situation, key, None, None, None, label, reason)
    factor = _factor(readings[0], readings[1], case.level(key))
    return Seen(said.words, unit, said.situation, key, naive, fixed, factor, label)
