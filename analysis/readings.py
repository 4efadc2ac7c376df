"""What each planned pair says of a claim: a value, "never", or nothing with the reason.  Pure.

Values are keyed by pair and never matched by position: a pair that lost an arm must not lend its other arm to the next.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis import statistics
from analysis.facts import TrialFacts
from analysis.metrics import METRICS, Family, Refusal, family_of
from analysis.missing import Missing
from analysis.model import Estimate, GateResult
from lab.model import MetricExpression, MetricRef

MULTIPLICATIVE: frozenset[Family] = frozenset({"time", "inside", "rate", "cpu", "memory"})
"""Families whose noise multiplies (a slow machine is slow by a share): estimated on a logarithmic scale."""
GROWS_WORSE: frozenset[Family] = frozenset({"time", "inside", "cpu", "memory"})
"""Families of which a variant that failed may have had any amount more; a rate may have been less, a count, a share or a refused rate either."""


@dataclass(frozen=True)
class Readings:
    """The values of a claim under one condition by pair, the planned pairs without one, and the pairs left out for a gate."""

    values: Mapping[int, float]
    missing: tuple[Missing, ...] = ()
    spoiled: Mapping[int, GateResult] = field(default_factory=dict)

    @property
    def planned(self) -> int:
        """How many pairs there should be."""
        return len(self.values) + len(self.missing) + len(self.spoiled)

    def without(self, spoiled: Mapping[int, GateResult]) -> "Readings":
        """These readings without the pairs that a gate of the lab's own side spoiled: whatever they say is not the target's.

        A crash stays: the gate failed in the other arm, and noise beside a crash must not favour the variant that crashed.
        """
        crashed = {one.pair for one in self.missing if one.crashed}
        left_out = {pair: gate for pair, gate in sorted(spoiled.items()) if pair not in crashed}
        known = self.values.keys() | {one.pair for one in self.missing}
        return Readings(
            {pair: value for pair, value in self.values.items() if pair not in left_out},
            tuple(one for one in self.missing if one.pair not in left_out),
            {pair: gate for pair, gate in left_out.items() if pair in known},
        )

    @property
    def note(self) -> str:
        """The pairs that were left out, in words."""
        if not self.spoiled:
            return ""
        told = ", ".join(f"pair {pair + 1}: gate {gate.gate} failed" for pair, gate in self.spoiled.items())
        return f"{self.planned - len(self.spoiled)} of {self.planned} pairs; {told}"


def fewest_left(planned: int) -> int:
    """How many pairs must be left of those that were planned: half of them, and two where there were two.

    One pair has no interval; and where more than half are spoiled after each was done again, the machine is not fit for the question.
    """
    return max(min(2, planned), math.ceil(planned / 2))


NOT_RUN = "was not run"
"""What is said of an arm that the plan has and the run, interrupted, has not."""


def is_logarithmic(expression: MetricExpression) -> bool:
    """Whether the noise of this number multiplies: ratios, and whatever a clock measured."""
    return expression.denominator is not None or METRICS[expression.numerator.metric].family in MULTIPLICATIVE


# ---------------------------------------------------------------- one arm of one pair


@dataclass(frozen=True)
class _Arm:
    """One variant's number in one pair; None with the reason, and whether the variant itself may be to blame."""

    value: float | None
    reason: str = ""
    own_doing: bool = False
    refused: bool = False


def _arm(trial: TrialFacts | None, ref: MetricRef) -> _Arm:
    if trial is None:
        return _Arm(None, f"{ref.variant} {NOT_RUN}")
    if not trial.ok:
        reason = f"{ref.variant}: {trial.record.reason or trial.record.status}"
        return _Arm(None, reason, own_doing=trial.record.status == "failed")
    value = trial.values.get(f"{ref.metric}[{ref.arg}]" if ref.arg else ref.metric)
    if isinstance(value, Refusal):
        return _Arm(None, f"{ref}: {value.reason}", own_doing=True, refused=True)
    if value is None or math.isnan(value) or value == -math.inf:
        return _Arm(None, f"{ref} was not measured", own_doing=True, refused=True)
    return _Arm(float(value))


def _may_be(ref: MetricRef, *, refused: bool) -> tuple[bool, bool]:
    """Whether a number that a failed trial did not give may have been 0, and whether it may have been "never", beyond any other.

    A rate that was refused may have been either: a capacity is refused where the target kept up, so that it is greater than any seen.
    """
    family = family_of(ref)
    worse_is_more = family in GROWS_WORSE
    return not worse_is_more, worse_is_more or refused or family != "rate"


def _missing(pair: int, expression: MetricExpression, above: _Arm, below: _Arm | None) -> Missing:
    """A pair of which at least one arm has no value."""
    reason = "; ".join(dict.fromkeys(one.reason for one in (above, below) if one is not None and one.reason))
    zero = never = False
    if above.own_doing:
        zero, never = _may_be(expression.numerator, refused=above.refused)
    if below is not None and below.own_doing and expression.denominator is not None:
        may_be_zero, may_be_never = _may_be(expression.denominator, refused=below.refused)
        zero, never = zero or may_be_never, never or may_be_zero
    crashed = any(one.own_doing and not one.refused for one in (above, below) if one is not None)
    return Missing(pair, reason, zero, never, crashed)


def _reading(pair: int, expression: MetricExpression, arms: Mapping[str, TrialFacts]) -> float | Missing:
    above = _arm(arms.get(expression.numerator.variant), expression.numerator)
    if expression.denominator is None:
        return _missing(pair, expression, above, None) if above.value is None else above.value
    below = _arm(arms.get(expression.denominator.variant), expression.denominator)
    if above.value is None or below.value is None:
        return _missing(pair, expression, above, below)
    if below.value == 0:
        return Missing(pair, f"{expression.denominator} is 0: no ratio", may_be_zero=True, may_be_never=True)
    if below.value == math.inf:  # how much longer it would have taken is not known, nor is the ratio
        return Missing(pair, f"{expression.denominator} never ended: no ratio", may_be_zero=True, may_be_never=True)
    return above.value / below.value


def read_pairs(trials: Sequence[TrialFacts], expression: MetricExpression, planned: Collection[int] = ()) -> Readings:
    """What every pair says: those that were planned, and any other that there is a trial of."""
    arms: dict[int, dict[str, TrialFacts]] = {pair: {} for pair in planned}
    variants = {ref.variant for ref in expression.refs}
    for trial in trials:
        if trial.variant in variants:
            arms.setdefault(trial.record.pair, {})[trial.variant] = trial
    found = {pair: _reading(pair, expression, arms[pair]) for pair in sorted(arms)}
    return Readings(
        {pair: one for pair, one in found.items() if not isinstance(one, Missing)},
        tuple(one for one in found.values() if isinstance(one, Missing)),
    )


def estimate_of(
    readings: Readings, expression: MetricExpression, null: float | None, level: float = statistics.LEVEL
) -> Estimate | None:
    """The estimate over the pairs that have a value, None where there is none."""
    if not readings.values:
        return None
    pairs = tuple(sorted(readings.values))
    values = [readings.values[pair] for pair in pairs]
    make = statistics.of_ratios if is_logarithmic(expression) else statistics.of_values
    if null is None and expression.denominator is not None:
        null = 1.0
    return replace(make(values, null, level), pairs=pairs)
