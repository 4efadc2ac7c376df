"""Do more workers fix it, and does a version?  From the grid that ``bench.py compare`` ran: a gotcha's headline condition in every cell.

The harm in a cell is how much worse naive is than correct (a rate the other way round: fewer answers are worse; where correct reads 0
somewhere, the naive value itself).  All cells of a pair had the same arrivals, so the harm in one cell over that in another is a ratio
of ratios, paired.  A word stands only where the whole interval stands for it, and never on a cell that a gate failed, that was
overloaded, that lost a pair, or that has one pair alone: then the reason is given.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from analysis import statistics
from analysis.alike import StoredRun
from analysis.case import collect
from analysis.doubting import most_overloaded
from analysis.facts import TrialFacts
from analysis.gates import spoiled_by, spoiled_pairs
from analysis.metrics import METRICS, Refusal, family_of
from analysis.model import Estimate, GateResult
from analysis.readings import fewest_left
from analysis.verdicts import EQUIVALENCE
from lab.model import Condition, GotchaPlan, MetricExpression, MetricRef
from lab.run.grid import ARMS, cell_name, harm_of, metric_of, server_name
from lab.store import RunFolder
from lab.words.metrics import unit_of

Word: TypeAlias = Literal["gone", "smaller", "the same", "larger", "unclear", "not told"]
WORKERS: dict[Word, str] = {
    "gone": "scales away", "smaller": "postpones", "the same": "unaffected", "larger": "made worse", "unclear": "unclear",
    "not told": "not told",
}  # fmt: skip
"""What a change of the harm is called where the cells differ in their workers."""
MEANINGS: dict[str, str] = {
    "scales away": "with the most workers nothing is left of the harm",
    "postpones": "more workers make the harm smaller, but it is still there: more load brings it back",
    "unaffected": "the harm is the same whatever the number of workers",
    "made worse": "more workers make the harm larger",
    "gone": "with these versions nothing is left of the harm",
    "smaller": "with these versions the harm is smaller, but it is still there",
    "the same": "the harm is the same with these versions",
    "larger": "with these versions the harm is larger",
    "unclear": "the interval is too wide to tell",
    "not told": "the measurement allows no word: the reason stands beside it",
}

ONE_PAIR = "one pair has no interval; take --pairs 3 or more"


@dataclass(frozen=True)
class Cell:
    """One configuration.  ``harm`` has the per-pair values; ``problem`` says why it has none, or why no word may rest on it."""

    server: str
    workers: int
    packages: str
    condition: str
    naive: float | None
    correct: float | None
    harm: Estimate | None
    problem: str = ""


@dataclass(frozen=True)
class Answer:
    """One cell against another.

    ``about`` says in what they differ; ``ratio`` is the harm after over the harm before, ``arms`` the same for each variant's own number.
    """

    about: Literal["workers", "versions"]
    server: str
    before: Cell
    after: Cell
    word: Word
    ratio: Estimate | None
    reason: str = ""
    arms: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The word as it is called between these cells."""
        return WORKERS[self.word] if self.about == "workers" else self.word

    @property
    def where(self) -> str:
        """The two cells in words."""
        if self.about == "versions":
            beside = f"{self.server}, {self.before.workers} worker{'s' if self.before.workers > 1 else ''}"
            return f"{beside}, {self.before.packages} to {self.after.packages}"
        beside = f"{self.server} with {self.before.packages}" if self.before.packages else self.server
        return f"{beside}, {self.before.workers} to {self.after.workers} workers"


@dataclass(frozen=True)
class Comparison:
    """A gotcha in every cell.  ``relative`` says that a harm is a ratio to correct; else it is what naive reads."""

    gotcha: str
    title: str
    metric: str
    unit: str
    relative: bool
    cells: tuple[Cell, ...]
    answers: tuple[Answer, ...]


# ---------------------------------------------------------------- words


def word_of(ratio: Estimate, left: Estimate, band: float, *, relative: bool = True) -> Word:
    """The word for a ratio of harms; ``left`` is the harm afterwards, ``band`` the half width of "no difference".

    A word is only given where the whole interval stands for it, and there is no interval without two pairs.
    """
    low, high = ratio.low, ratio.high
    if low is None or high is None or left.high is None:
        return "not told"
    if low > 1 + band:
        return "larger"
    if 1 / (1 + band) <= low and high <= 1 + band:
        return "the same"
    if high < 1 / (1 + band):
        return "gone" if left.high <= (1 + band if relative else 0.0) else "smaller"
    return "unclear"


# ---------------------------------------------------------------- one cell


@dataclass(frozen=True)
class _Seen:
    """A cell's numbers by pair; ``quotable`` unless a gate failed or an arm was overloaded."""

    cell: Cell
    harms: Mapping[int, float]
    arms: Mapping[str, Mapping[int, float]]
    quotable: bool


def _by_pair(trials: Sequence[TrialFacts], variant: str, metric: str, left_out: frozenset[int]) -> dict[int, float]:
    return {
        trial.record.pair: value
        for trial in trials
        if trial.ok and trial.variant == variant and trial.record.pair not in left_out
        if (value := trial.number(metric)) is not None
    }


def _harms(naive: Mapping[int, float], correct: Mapping[int, float], *, rate: bool, relative: bool) -> dict[int, float]:
    """How much worse naive is, by pair.  A naive rate of 0 is infinitely worse: it is left out, and its pair counts as missing."""
    if not relative:
        return dict(naive)
    above, below = (correct, naive) if rate else (naive, correct)
    return {pair: above[pair] / below[pair] for pair in sorted(above.keys() & below.keys()) if below[pair] > 0}


def _spoiled(trials: Sequence[TrialFacts], gates: Sequence[GateResult], ref: MetricRef, planned: int) -> str:
    """Why a cell's numbers may be quoted nowhere, or ""."""
    gate, pairs = spoiled_by(family_of(ref), gates), spoiled_pairs(family_of(ref), gates)
    if gate is not None and (not gate.pairs or planned - len(pairs) < fewest_left(planned)):
        return f"gate {gate.gate} failed: {gate.detail}"
    overloaded = [arm for arm in ARMS if METRICS[ref.metric].queues and most_overloaded(trials, arm)]
    if overloaded:
        return f"{overloaded[0]} was overloaded: {ref.metric} only measures how long the load lasted"
    return ""


def _seen(
    condition: Condition, trials: Sequence[TrialFacts], gates: Sequence[GateResult], ref: MetricRef, *, planned: int, relative: bool
) -> _Seen:  # fmt: skip
    metric = f"{ref.metric}[{ref.arg}]" if ref.arg else ref.metric
    spoiled, left_out = _spoiled(trials, gates, ref, planned), spoiled_pairs(family_of(ref), gates)
    arms = {arm: _by_pair(trials, arm, metric, left_out) for arm in ARMS}
    harms = _harms(arms["naive"], arms["correct"], rate=family_of(ref) == "rate", relative=relative)
    failed = [trial.record.reason for trial in trials if not trial.ok]
    problem = spoiled or (
        failed[0] if failed else _missing(metric, len(harms), planned - len(left_out), _why_not(trials, metric))
    )
    means = [sum(arm.values()) / len(arm) if arm and not spoiled else None for arm in arms.values()]
    harm = statistics.of_ratios(list(harms.values())) if harms and not spoiled else None
    cell = Cell(server_name(condition), condition.workers, cell_name(condition), condition.key, means[0], means[1], harm, problem)  # fmt: skip
    return _Seen(cell, harms, arms, not spoiled)


def _why_not(trials: Sequence[TrialFacts], metric: str) -> str:
    """Why some trials that were done have no such number: a refusal says so itself."""
    refused = [one.reason for trial in trials if trial.ok and isinstance(one := trial.values.get(metric), Refusal)]
    return refused[0] if refused else "requests were never answered"


def _missing(metric: str, found: int, expected: int, why: str) -> str:
    """Why the pairs that there are allow no word, or ""."""
    if not found:
        return f"{metric} could not be measured under both variants: {why}"
    if found < expected:
        return f"{expected - found} of {expected} pairs have no {metric}: {why}"
    return ONE_PAIR if found == 1 else ""


# ---------------------------------------------------------------- cell against cell


def _ratio(before: Mapping[int, float], after: Mapping[int, float]) -> Estimate | None:
    """After over before, by pair; None where a pair of before reads 0 or none is shared."""
    shared = sorted(before.keys() & after.keys())
    if not shared or min(before[pair] for pair in shared) <= 0:
        return None
    return statistics.of_ratios([after[pair] / before[pair] for pair in shared])


def _answer(
    about: Literal["workers", "versions"], before: _Seen, after: _Seen, band: float, *, relative: bool
) -> Answer:  # fmt: skip
    reason = before.cell.problem or after.cell.problem
    if before is after:
        reason = reason or f"one number of {about}, nothing to compare"
    ratio = _ratio(before.harms, after.harms) if not reason else None
    word: Word = "not told"
    if not reason and ratio is None:
        reason = "there is no harm to begin with"
    elif ratio is not None and after.cell.harm is not None:
        word = word_of(ratio, after.cell.harm, band, relative=relative)
        reason = ONE_PAIR if word == "not told" else ""
    whole = before.quotable and after.quotable and before is not after
    arms = {arm: found for arm in ARMS if whole and (found := _ratio(before.arms[arm], after.arms[arm])) is not None}
    return Answer(about, before.cell.server, before.cell, after.cell, word, ratio, reason, arms)


def _answers(seen: Sequence[_Seen], band: float, *, relative: bool) -> list[Answer]:
    """The most workers against the fewest for each server and versions, and each set of versions against the first."""
    found = []
    versions = list(dict.fromkeys(one.cell.packages for one in seen))
    for server in dict.fromkeys(one.cell.server for one in seen):
        own = [one for one in seen if one.cell.server == server]
        for packages in versions:
            by_workers = sorted((o for o in own if o.cell.packages == packages), key=lambda o: o.cell.workers)
            if len(by_workers) > 1 or len(versions) == 1:
                found.append(_answer("workers", by_workers[0], by_workers[-1], band, relative=relative))
        for workers in dict.fromkeys(one.cell.workers for one in own):
            first, *others = [one for one in own if one.cell.workers == workers]
            found += [_answer("versions", first, other, band, relative=relative) for other in others]
    return found


def compare_gotcha(run: RunFolder, plan: GotchaPlan) -> Comparison:
    """The comparison of one gotcha of a grid run.  Raises UsageError where the run has no harm to compare by."""
    claim = harm_of(plan)
    ref = MetricExpression.parse(claim.metric).numerator
    facts = collect(run, plan)
    judged = StoredRun(run).judged(plan.slug)
    gates = judged.gates if judged else ()
    metric = metric_of(claim)
    correct = [t.number(metric) for trials in facts.values() for t in trials if t.variant == "correct"]
    relative = not any(value == 0 for value in correct)
    planned = {
        c.key: len({t.pair for t in run.plan.trials if (t.gotcha, t.condition) == (plan.slug, c.key)})
        for c in plan.conditions
    }
    seen = [
        _seen(c, facts[c.key], [gate for gate in gates if gate.condition == c.key], ref, planned=planned[c.key], relative=relative)
        for c in plan.conditions
    ]  # fmt: skip
    answers = _answers(seen, EQUIVALENCE[family_of(ref)], relative=relative)
    return Comparison(
        plan.slug, plan.title, metric, unit_of(ref.metric), relative, tuple(one.cell for one in seen), tuple(answers)
    )


def is_known(comparison: Comparison) -> bool:
    """Whether every question got a word."""
    return all(answer.word not in ("unclear", "not told") for answer in comparison.answers)


def number(value: float) -> str:
    """Three digits."""
    if not math.isfinite(value):
        return "never"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
