"""What comes before the numbers of a condition: no data, a query pattern that matched nothing, a failed gate, an overload.

One place says whether a number may be used at all, so that what a verdict refuses is quoted nowhere else either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.case import Case
from analysis.doubting import most_overloaded
from analysis.gates import GATES
from analysis.metrics import METRICS, family_of
from analysis.model import GateResult, VerdictName
from analysis.readings import Readings, fewest_left, read_pairs
from lab.model import MetricExpression


@dataclass(frozen=True)
class Unusable:
    """Why the numbers mean nothing, and the verdict that says so.  ``pairs`` have a value, ``planned`` should have one (None: not known)."""

    verdict: VerdictName
    reason: str
    pairs: int = 0
    planned: int | None = None


def _failed_gates(case: Case, expression: MetricExpression, key: str) -> list[GateResult]:
    spoils = {gate.name: gate.spoils for gate in GATES}
    families = {family_of(ref) for ref in expression.refs}
    return [one for one in case.gates.get(key, ()) if one.passed is False and families & spoils[one.gate]]


def spoiling(results: Sequence[GateResult]) -> tuple[GateResult | None, dict[int, GateResult]]:
    """The first failed gate that is about the whole condition, and the pairs that others spoil, each with its first gate."""
    whole = next((one for one in results if not one.pairs), None)
    pairs: dict[int, GateResult] = {}
    for one in results:
        for pair in one.pairs:
            pairs.setdefault(pair, one)
    return whole, pairs


def _suppressed(case: Case, expression: MetricExpression, key: str) -> str:
    """Why a time means nothing here: an arm that it reads was overloaded."""
    for ref in expression.refs:
        if METRICS[ref.metric].queues and most_overloaded(case.done(key), ref.variant):
            return f"{ref.variant} was overloaded: {ref.metric} only measures how long the load lasted"
    return ""


def _unmatched(case: Case, expression: MetricExpression) -> str:
    """Why a number that reads a named query is none: its pattern matched nothing in any arm."""
    for ref in expression.refs:
        if ref.metric.startswith("sql_") and ref.arg in case.unmatched:
            return f"the pattern of query {ref.arg!r} ({case.plan.queries[ref.arg]!r}) matched no statement in any arm"
    return ""


def _no_data(case: Case, expression: MetricExpression, key: str, readings: Readings) -> str:
    reasons = list(dict.fromkeys(one.reason for one in readings.missing))
    arms = " and ".join(ref.variant for ref in expression.refs)
    return "no data: " + ("; ".join(reasons) if case.facts.get(key) and reasons else f"no finished trial of {arms}")


def usable(case: Case, expression: MetricExpression, key: str) -> Readings | Unusable:
    """The readings that a verdict may rest on, without the pairs that a gate spoiled; or why there are none."""
    unknown = [ref.metric for ref in expression.refs if ref.metric not in METRICS]
    if unknown:
        return Unusable("inconclusive", f"there is no metric {unknown[0]!r}")
    readings = read_pairs(case.facts.get(key, ()), expression, case.planned_pairs(key))
    planned, whole = readings.planned, readings
    if broken := _unmatched(case, expression):
        return Unusable("invalid", broken, 0, planned)
    if not readings.values:
        return Unusable("inconclusive", _no_data(case, expression, key, readings), 0, planned)
    gate, spoiled = spoiling(_failed_gates(case, expression, key))
    readings = readings.without(spoiled)
    if gate is None and planned - len(readings.spoiled) < fewest_left(planned):
        gate = next(iter(readings.spoiled.values()))
    if gate is not None:
        left = f"; {whole.without(spoiled).note}" if readings.spoiled else ""
        reason = f"gate {gate.gate} failed: {gate.detail.rstrip('.')}{left}. {gate.advice}".strip()
        return Unusable("invalid", reason, len(readings.values), planned)
    if overloaded := _suppressed(case, expression, key):
        return Unusable("inconclusive", overloaded, len(readings.values), planned)
    return readings
