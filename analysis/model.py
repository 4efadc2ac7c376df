"""The words of the analysis as frozen values; what verdicts.json holds.

format_version history
    1  first
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

VerdictName: TypeAlias = Literal[
    "invalid", "inconclusive", "reversed", "not_reproduced", "symptom_only", "smaller", "reproduced"
]
VERDICT_ORDER: tuple[VerdictName, ...] = (
    "invalid", "inconclusive", "reversed", "not_reproduced", "symptom_only", "smaller", "reproduced",
)  # fmt: skip
"""Worst first: the verdict of a whole is the first of these that any part has."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over trials.  ``values`` are the K per-pair values; ``low``/``high`` are None where K < 2.

    ``p_value`` is the exact sign-flip permutation p of a ratio, ``robust_low``/``robust_high`` the Hodges-Lehmann twin's interval.
    """

    value: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    p_value: float | None = None
    robust_value: float | None = None
    robust_low: float | None = None
    robust_high: float | None = None


@dataclass(frozen=True)
class ConditionVerdict:
    """One claim under one condition."""

    condition: str
    predicted: float
    measured: Estimate | None
    verdict: VerdictName
    reason: str
    pairs: int
    more_pairs: int | None = None


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim over all its conditions; ``headline`` is the key of the condition that is quoted."""

    id: str
    kind: str
    statement: str
    metric: str
    unit: str
    formula: str
    source: str
    relation: str
    tolerance: float
    verdict: VerdictName
    headline: str
    conditions: tuple[ConditionVerdict, ...]
    indicative: bool
    holm_p: float | None = None

    @property
    def at_headline(self) -> ConditionVerdict:
        """The condition that the answer quotes."""
        return next(one for one in self.conditions if one.condition == self.headline)


@dataclass(frozen=True)
class GateResult:
    """One gate under one condition: ``passed`` is None where it does not apply, and ``detail`` says why."""

    gate: str
    condition: str
    passed: bool | None
    figure: float | None
    threshold: float | None
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class Doubt:
    """A warning from the closed list in ``analysis.doubts``: what was seen, the number, what to do."""

    id: str
    seen: str
    number: float | None
    advice: str
    condition: str = ""


@dataclass(frozen=True)
class GotchaVerdict:
    """A gotcha judged.  ``metrics`` maps condition -> variant -> metric -> per-pair values, for tables and charts."""

    gotcha: str
    title: str
    verdict: VerdictName
    answer: str
    regime: Mapping[str, str]
    claims: tuple[ClaimVerdict, ...]
    gates: tuple[GateResult, ...]
    doubts: tuple[Doubt, ...]
    metrics: Mapping[str, Mapping[str, Mapping[str, tuple[float, ...]]]] = field(default_factory=dict)
    failed_trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunVerdicts:
    """verdicts.json."""

    run: str
    gotchas: tuple[GotchaVerdict, ...]
    partial: bool = False
    format_version: int = 1
