"""The finding in one line: what the naive app reads and what the fixed one reads, in the same number under the same condition."""

import math
from collections.abc import Mapping
from dataclasses import replace

from analysis import statistics
from analysis.case import Case
from analysis.metrics import unit_of_expression
from analysis.missing import told
from analysis.model import Estimate, Seen
from analysis.readings import Readings
from analysis.usable import Unusable, usable
from lab.model import BeforeAfter, Condition, GotchaPlan, MetricExpression


def expression_of(metric: str, variant: str) -> MetricExpression:
    """``a / b`` of one variant."""
    return MetricExpression.parse(" / ".join(f"{variant}.{part.strip()}" for part in metric.split(" / ")))


def _condition(plan: GotchaPlan, said: BeforeAfter) -> Condition | None:
    """The condition by its label, or (under other servers) the first whose label begins with it."""
    found = [one for one in plan.conditions if one.label == said.condition]
    found += [one for one in plan.conditions if one.label.startswith(f"{said.condition} on ")]
    return found[0] if found else None


def _mean(values: Mapping[int, float]) -> float:
    """The mean over pairs; one "never" makes it never."""
    return sum(values.values()) / len(values)


def _factor(naive: Mapping[int, float], fixed: Mapping[int, float], level: float) -> Estimate | None:
    """Naive over fixed within each pair; None where a pair has one of them only, or one is 0 or never: there is no ratio then."""
    every = [*naive.values(), *fixed.values()]
    if set(naive) != set(fixed) or min(every) <= 0 or not all(map(math.isfinite, every)):
        return None
    return statistics.of_ratios([naive[pair] / fixed[pair] for pair in naive], 1.0, level)


def seen_of(case: Case) -> Seen | None:
    """The line of a gotcha; None where its scenario names none or the condition was not run.

    Its numbers obey the rules of the claims (``usable``): what a gate spoiled or an overload made meaningless is not quoted, and neither is a
    mean of which a planned pair is missing, for the missing one may be the worst.
    """
    said = case.plan.before_after
    condition = _condition(case.plan, said) if said is not None else None
    if said is None or condition is None:
        return None
    key = condition.key
    arms = [expression_of(said.metric, variant) for variant in ("naive", said.fixed)]
    found = [usable(case, arm, key) for arm in arms]
    line = Seen(
        said.words, unit_of_expression(arms[0]), said.situation, key, None, None, None, case.plan.label_of(said.fixed)
    )
    for one in found:
        if isinstance(one, Unusable):
            return replace(line, reason=one.reason)
        if one.missing:
            return replace(line, reason=told(one.missing))
    naive, fixed = (one.values for one in found if isinstance(one, Readings))
    return replace(line, naive=_mean(naive), fixed=_mean(fixed), factor=_factor(naive, fixed, case.level(key)))
