"""How an estimate becomes a verdict.  Pure; ``docs/verdicts.md`` says the same in prose.

A prediction with its tolerance is a band.  The interval inside it reproduces the claim; an interval that leaves the band refutes it, and
the side says how.  Where the claim names a null (what is read when there is no effect): ``smaller`` between the two, ``larger`` beyond
the prediction, ``reversed`` beyond the null, ``not_reproduced`` where the narrower interval shows that there is practically no effect.
Without one: ``smaller`` below and ``larger`` above.  Everything else is ``inconclusive``.  ``analysis.laws`` has the rules for what is
asked of every single trial, ``analysis.missing`` those for pairs that are not there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis import statistics
from analysis.metrics import Family
from analysis.model import VERDICT_ORDER, ClaimVerdict, Estimate, VerdictName
from lab.model import Relation

EQUIVALENCE: dict[Family, float] = {
    "time": 0.10, "inside": 0.10, "rate": 0.10, "cpu": 0.05, "memory": 0.10, "share": 0.05, "count": 0.05, "hold": 0.10,
}  # fmt: skip
"""Half width of "practically no effect" as a share of the null: 10 % for latency and 5 % for CPU are docs/method.md section 3; rates and
memory follow latency, counts follow CPU (both are steady)."""
EXACT_FAMILIES: frozenset[Family] = frozenset({"count", "share", "memory"})
"""What can be equal to a prediction at all.  A time never is: "about" with tolerance 0 is an edge without margin there."""
ROUNDING = 1e-9
RELATION_WORDS = {"about": "", "at_most": "at most ", "at_least": "at least "}


@dataclass(frozen=True)
class Question:
    """What a claim asks under one condition.  ``logarithmic`` is the scale of the estimate: see ``readings.estimate_of``.

    ``level`` is that of the interval which decides: 95 %, or what a registered look may spend.
    """

    predicted: float
    relation: Relation
    tolerance: float
    null: float | None
    family: Family
    logarithmic: bool = False
    level: float = statistics.LEVEL

    @property
    def narrow_level(self) -> float:
        """The level of the interval that shows "no effect": two one-sided tests, each with the error of the whole (95 % gives 90 %)."""
        return 1 - 2 * (1 - self.level)

    @property
    def is_law(self) -> bool:
        """Whether every single trial must fit: tolerance 0 on a count, or on a bound of anything ("nobody waits longer than")."""
        return self.tolerance == 0 and (self.family in EXACT_FAMILIES or self.relation != "about")

    @property
    def band(self) -> tuple[float, float]:
        """What counts as the prediction: infinite on the open side of ``at_most`` and ``at_least``."""
        margin = self.tolerance * abs(self.predicted)
        low = -math.inf if self.relation == "at_most" else self.predicted - margin
        high = math.inf if self.relation == "at_least" else self.predicted + margin
        return low, high

    @property
    def outside_null(self) -> float | None:
        """The null, where it lies outside the band; inside it there is nothing to tell the claim from no effect."""
        low, high = self.band
        return None if self.null is None or low <= self.null <= high else self.null

    @property
    def no_effect(self) -> tuple[float, float] | None:
        """The equivalence band around the null; around a null of 0 its width is a share of the prediction."""
        if self.outside_null is None:
            return None
        share = EQUIVALENCE[self.family]
        if self.logarithmic and self.outside_null > 0:
            return self.outside_null / (1 + share), self.outside_null * (1 + share)
        half = share * (abs(self.outside_null) or abs(self.predicted))
        return self.outside_null - half, self.outside_null + half

    def estimate(self, values: Sequence[float]) -> Estimate:
        """The estimate that this question is about, on its own scale and level."""
        make = statistics.of_ratios if self.logarithmic else statistics.of_values
        return make(values, self.null, self.level)


@dataclass(frozen=True)
class Conclusion:
    """A verdict, why, and how many more pairs would settle it where it is inconclusive."""

    verdict: VerdictName
    reason: str
    more_pairs: int | None = None


def short(value: float) -> str:
    """A number in about four digits."""
    if value == math.inf:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def range_text(low: float, high: float) -> str:
    """``[1.9, 2.1]``, or the one number that both ends are."""
    return f"[{short(low)}, {short(high)}]" if low != high else short(low)


def band_text(question: Question) -> str:
    """The prediction with its tolerance in words."""
    low, high = question.band
    if low == -math.inf:
        return f"at most {short(high)}"
    return f"at least {short(low)}" if high == math.inf else range_text(low, high)


def fits(question: Question, low: float, high: float) -> bool:
    """Whether a range lies in the band, to the last digits."""
    band = question.band
    slack = ROUNDING * max((abs(one) for one in (low, high) if math.isfinite(one)), default=0.0)
    return band[0] - slack <= low and high <= band[1] + slack


def _classify(question: Question, low: float, high: float, narrow: tuple[float, float]) -> Conclusion:
    """The rules for one interval: ``low`` to ``high`` at the question's level, ``narrow`` at its narrow level."""
    band, null, wanted = question.band, question.outside_null, band_text(question)
    seen = range_text(low, high)
    if fits(question, low, high):
        return Conclusion("reproduced", f"{seen} lies in the predicted {wanted}")
    no_effect = question.no_effect
    if no_effect is not None and no_effect[0] <= narrow[0] and narrow[1] <= no_effect[1]:
        level = f"{100 * question.narrow_level:.3g} %"
        return Conclusion(
            "not_reproduced",
            f"practically no effect: the {level} interval {range_text(*narrow)} lies within {range_text(*no_effect)}",
        )
    below, above = high < band[0], low > band[1]
    if not below and not above:
        return Conclusion("inconclusive", f"{seen} spans an edge of the predicted {wanted}")
    if null is None:
        side: VerdictName = "smaller" if below else "larger"
        return Conclusion(side, f"{side} than predicted: {seen} against {wanted}")
    if not ((below and null < band[0]) or (above and null > band[1])):
        return Conclusion("larger", f"more of the effect than predicted: {seen} against {wanted}")
    if (below and low > null) or (above and high < null):
        return Conclusion("smaller", f"an effect in the predicted direction, but {seen} instead of {wanted}")
    if (below and high < null) or (above and low > null):
        return Conclusion("reversed", f"the opposite: {seen} lies beyond {short(null)}, which is no effect")
    return Conclusion("inconclusive", f"{seen} misses the predicted {wanted} but includes {short(null)}, no effect")


def _distances(question: Question, estimate: Estimate, edges: Iterable[float]) -> list[float]:
    if question.logarithmic and min(estimate.values) > 0:
        return [abs(math.log(estimate.value / edge)) for edge in edges if edge > 0]
    return [abs(estimate.value - edge) for edge in edges]


def _more_pairs(question: Question, estimate: Estimate, low: float, high: float) -> int | None:
    """How many more pairs keep the interval off the edges that it spans now, or fit the narrow one into "no effect"."""
    logarithmic = question.logarithmic and min(estimate.values) > 0
    values = [math.log(value) for value in estimate.values] if logarithmic else list(estimate.values)
    edges = [
        e for e in (*question.band, question.outside_null) if e is not None and math.isfinite(e) and low <= e <= high
    ]
    ways = []
    if distances := _distances(question, estimate, edges):
        ways.append(statistics.more_pairs(values, min(distances), question.level))
    no_effect = question.no_effect
    if no_effect is not None and no_effect[0] < estimate.value < no_effect[1]:
        room = min(_distances(question, estimate, no_effect))
        ways.append(statistics.more_pairs(values, room, question.narrow_level))
    return min((way for way in ways if way is not None), default=None)


def judge_estimate(question: Question, estimate: Estimate) -> Conclusion:
    """The verdict of one claim with a tolerance under one condition, all of whose values are finite.

    One trial has no interval: a count is judged as it stands, a time, rate or CPU is inconclusive.  Identical values make an interval
    of no width, which is judged like any other.  A robust twin that concludes something else makes it inconclusive.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        if question.family in EXACT_FAMILIES:
            alone = _classify(question, estimate.value, estimate.value, (estimate.value, estimate.value))
            return Conclusion(alone.verdict, f"{alone.reason} (one trial, no interval)")
        return Conclusion("inconclusive", "one pair has no interval", statistics.more_pairs(estimate.values, 0.0))
    narrow = statistics.interval(estimate, question.narrow_level, logarithmic=question.logarithmic)
    first = _classify(question, low, high, narrow if narrow and low != high else (low, high))
    if first.verdict == "inconclusive":
        return Conclusion("inconclusive", first.reason, _more_pairs(question, estimate, low, high))
    twin = _twin(question, estimate)
    if twin is not None and twin.verdict not in (first.verdict, "inconclusive"):
        mean, robust = (one.verdict.replace("_", " ") for one in (first, twin))
        return Conclusion("inconclusive", f"the mean says {mean}, the robust twin {robust}: {twin.reason}", 2)
    return first


def _twin(question: Question, estimate: Estimate) -> Conclusion | None:
    """What Hodges-Lehmann concludes; None below six values, where its 95 % interval does not exist.

    A twin that only cannot tell (its interval is a little wider by nature) does not contradict.
    """
    if estimate.robust_low is None or estimate.robust_high is None:
        return None
    narrow = statistics.interval(estimate, question.narrow_level, logarithmic=question.logarithmic, robust=True)
    return _classify(
        question, estimate.robust_low, estimate.robust_high, narrow or (estimate.robust_low, estimate.robust_high)
    )


# ---------------------------------------------------------------- verdicts of wholes


def worst(verdicts: Iterable[VerdictName]) -> VerdictName:
    """The worst of several; of none it is inconclusive: no data is never a pass."""
    found = set(verdicts)
    return next((name for name in VERDICT_ORDER if name in found), "inconclusive")


def gotcha_verdict(claims: Sequence[ClaimVerdict]) -> VerdictName:
    """The worst of the claims, but a harm that shows without its mechanism is ``symptom_only``: something else may cause it."""
    harms = [claim.verdict for claim in claims if claim.kind == "harm"]
    harm_shows = bool(harms) and all(verdict in ("reproduced", "smaller", "larger") for verdict in harms)
    verdicts: list[VerdictName] = []
    for claim in claims:
        failed = claim.kind == "mechanism" and claim.verdict in ("reversed", "not_reproduced")
        verdicts.append("symptom_only" if failed and harm_shows else claim.verdict)
    return worst(verdicts)
