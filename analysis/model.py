"""The words of the analysis as frozen values; what verdicts.json holds.

format_version history
    1  first
    2  verdicts larger and law_broken; ranges apart from intervals, pairs beside their values (``lab.words.formats`` updates an older one)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

FORMAT_VERSION = 2

VerdictName: TypeAlias = Literal[
    "invalid", "inconclusive", "reversed", "not_reproduced", "law_broken", "symptom_only", "larger", "smaller", "reproduced",
]  # fmt: skip
VERDICT_ORDER: tuple[VerdictName, ...] = (
    "invalid", "inconclusive", "reversed", "not_reproduced", "law_broken", "symptom_only", "larger", "smaller", "reproduced",
)  # fmt: skip
"""Worst first: the verdict of a whole is the first of these that any part has.

What is not known comes before what is known to be wrong: the opposite, nothing at all, a law that some trials break, an effect without
its cause.  Last what is there by another amount: ``larger`` before ``smaller``, because every bound that a fix or a tax promises
("at most") fails as larger.
"""


PairValues: TypeAlias = tuple[float | None, ...]
"""Values with the pair as the place."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval over trials.  ``values`` are the K per-pair values and ``pairs`` whose they are.

    ``low``/``high`` are an interval at ``level`` and nothing else: None where K < 2, for a law (which is asked of every trial), and
    where a value is +inf: never.  ``lowest``/``highest`` are the range of what was seen.  ``p_value`` is the exact sign-flip
    permutation p of a ratio, ``robust_low``/``robust_high`` the Hodges-Lehmann twin's interval.
    """

    value: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    p_value: float | None = None
    robust_value: float | None = None
    robust_low: float | None = None
    robust_high: float | None = None
    lowest: float | None = None
    highest: float | None = None
    pairs: tuple[int, ...] = ()
    level: float = 0.95

    @property
    def is_range(self) -> bool:
        """Whether what was seen is told from the least to the most: values that differ, and no interval of a mean."""
        return self.low is None and self.lowest is not None and self.highest is not None and self.lowest < self.highest

    @property
    def never(self) -> int:
        """How many of the values are "never"."""
        return sum(value == math.inf for value in self.values)


@dataclass(frozen=True)
class ConditionVerdict:
    """One claim under one condition.

    ``pairs`` of ``planned`` pairs have a value.  ``more_pairs`` would settle it where it is inconclusive, None where nobody can say.
    ``answered`` is the least share of answered requests in any trial that a time comes from, None where no time is claimed.
    """

    condition: str
    predicted: float
    measured: Estimate | None
    verdict: VerdictName
    reason: str
    pairs: int
    more_pairs: int | None = None
    planned: int | None = None
    answered: float | None = None

    @property
    def quotable(self) -> Estimate | None:
        """What may be printed: an invalid number is quoted nowhere."""
        return None if self.verdict == "invalid" else self.measured


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim over all its conditions; ``headline`` is the key of the condition that is quoted.

    ``stands_in`` says that the condition which the claim names was not run here and ``headline`` is another one: no sentence quotes it.
    ``holm_p`` is the adjusted p value of the headline within its gotcha.
    """

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
    stands_in: bool = False

    @property
    def at_headline(self) -> ConditionVerdict:
        """The condition that the answer quotes."""
        return next(one for one in self.conditions if one.condition == self.headline)

    @property
    def speaking(self) -> ConditionVerdict:
        """The condition whose figures stand beside the claim's verdict: the headline where it has that verdict, else the first that has."""
        found = [one for one in self.conditions if one.verdict == self.verdict]
        at = self.at_headline
        return at if at in found or not found else found[0]


@dataclass(frozen=True)
class GateResult:
    """One gate under one condition: ``passed`` is None where it does not apply, and ``detail`` says why.

    ``pairs`` are the pairs that failed it; a failed gate that names none is about the condition as a whole.
    """

    gate: str
    condition: str
    passed: bool | None
    figure: float | None
    threshold: float | None
    detail: str
    advice: str = ""
    pairs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """A warning from the closed list in ``analysis.doubts``: what was seen, the number, what to do."""

    id: str
    seen: str
    number: float | None
    advice: str
    condition: str = ""


@dataclass(frozen=True)
class Seen:
    """The finding in one line: the naive and the fixed app's number under one condition, and naive over fixed with its interval.

    ``naive`` and ``fixed`` are means over pairs (+inf: never), None where there is none that may be quoted; then ``reason`` says why.
    """

    words: str
    unit: str
    situation: str
    condition: str
    naive: float | None
    fixed: float | None
    factor: Estimate | None
    fixed_label: str
    reason: str = ""


@dataclass(frozen=True)
class GotchaVerdict:
    """A gotcha judged.

    ``metrics`` maps condition -> variant -> metric -> values for tables and charts: the value of pair k stands at place k, None where
    that pair has none, +inf for never.
    """

    gotcha: str
    title: str
    verdict: VerdictName
    answer: str
    regime: Mapping[str, str]
    claims: tuple[ClaimVerdict, ...]
    gates: tuple[GateResult, ...]
    doubts: tuple[Doubt, ...]
    metrics: Mapping[str, Mapping[str, Mapping[str, PairValues]]] = field(default_factory=dict)
    failed_trials: tuple[str, ...] = ()
    seen: Seen | None = None


@dataclass(frozen=True)
class RunVerdicts:
    """verdicts.json."""

    run: str
    gotchas: tuple[GotchaVerdict, ...]
    partial: bool = False
    format_version: int = FORMAT_VERSION
