"""Do more workers fix it?  One word per gotcha and server, from the grid that ``bench.py compare`` ran.

The harm under a configuration is how much worse naive is than correct (a rate the other way round: fewer answers are worse; where
correct reads 0, the naive value itself).  All configurations of a pair had the same arrivals, so the harm under the most workers over
that under the fewest is a ratio of ratios, paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from analysis import statistics
from analysis.facts import TrialFacts
from analysis.frames import RunLike
from analysis.judge import collect
from analysis.metrics import METRICS, unit_of
from analysis.model import Estimate
from analysis.verdicts import EQUIVALENCE
from lab.grid import harm_of, metric_of, server_name
from lab.model import Condition, GotchaPlan, MetricExpression

Word: TypeAlias = Literal["scales away", "postpones", "unaffected", "made worse", "unclear"]
MEANINGS: dict[Word, str] = {
    "scales away": "with the most workers nothing is left of the harm",
    "postpones": "more workers make the harm smaller, but it is still there: more load brings it back",
    "unaffected": "the harm is the same whatever the number of workers",
    "made worse": "more workers make the harm larger",
    "unclear": "the interval is too wide to tell, or a configuration is missing",
}


@dataclass(frozen=True)
class Cell:
    """One configuration.  ``harm`` has the per-pair values; None where it could not be measured, and ``problem`` says why."""

    server: str
    workers: int
    condition: str
    naive: float | None
    correct: float | None
    harm: Estimate | None
    problem: str = ""


@dataclass(frozen=True)
class Answer:
    """What more workers do under one server: the harm with the most over the harm with the fewest."""

    server: str
    word: Word
    fewest: int
    most: int
    ratio: Estimate | None


@dataclass(frozen=True)
class Comparison:
    """A gotcha under every configuration."""

    gotcha: str
    title: str
    metric: str
    unit: str
    cells: tuple[Cell, ...]
    answers: tuple[Answer, ...]

    def sentence(self, answer: Answer) -> str:
        """The answer in words with its numbers."""
        cells = {cell.workers: cell for cell in self.cells if cell.server == answer.server}
        first, last = cells[answer.fewest], cells[answer.most]
        if answer.ratio is None or first.harm is None or last.harm is None:
            return f"{answer.server}: {answer.word}: {first.problem or last.problem or 'one worker count, nothing to compare'}"
        return (
            f"{answer.server}: {answer.word}: from {answer.fewest} to {answer.most} workers the harm goes from "
            f"{number(first.harm.value)} x to {number(last.harm.value)} x ({interval(answer.ratio)})"
        )


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(estimate: Estimate) -> str:
    """``ratio 4.0 [3.9, 4.1]``."""
    text = f"ratio {number(estimate.value)}"
    if estimate.low is None or estimate.high is None:
        return f"{text}, one pair"
    return text if estimate.low == estimate.high else f"{text} [{number(estimate.low)}, {number(estimate.high)}]"


def span(estimate: Estimate) -> str:
    """``[3.9, 4.1]``, or in words where there is no width."""
    if estimate.low is None or estimate.high is None:
        return "one pair"
    if estimate.low == estimate.high:
        return "the same in all pairs"
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def word_of(ratio: Estimate | None, left: Estimate | None, band: float) -> Word:
    """The word for a ratio of ratios; ``left`` is the harm with the most workers, ``band`` the half width of "no difference".

    A word is only given where the whole interval stands for it.
    """
    if ratio is None or left is None:
        return "unclear"
    low, high = (
        (ratio.low, ratio.high) if ratio.low is not None and ratio.high is not None else (ratio.value, ratio.value)
    )
    if low > 1 + band:
        return "made worse"
    if 1 / (1 + band) <= low and high <= 1 + band:
        return "unaffected"
    if high < 1 / (1 + band):
        most = left.high if left.high is not None else left.value
        return "scales away" if most <= 1 + band else "postpones"
    return "unclear"


def _harm(naive: float, correct: float, *, rate: bool) -> float | None:
    above, below = (correct, naive) if rate else (naive, correct)
    if below == 0:
        return above if above > 0 else None
    return above / below


def _by_pair(trials: Sequence[TrialFacts], variant: str, metric: str) -> dict[int, float]:
    found = {}
    for trial in trials:
        value = trial.number(metric)
        if trial.ok and trial.variant == variant and value is not None:
            found[trial.record.pair] = value
    return found


def _cell(
    condition: Condition, trials: Sequence[TrialFacts], metric: str, *, rate: bool
) -> tuple[Cell, dict[int, float]]:
    naive, correct = (_by_pair(trials, variant, metric) for variant in ("naive", "correct"))
    harms = {
        pair: worse for pair in sorted(naive.keys() & correct.keys())
        if (worse := _harm(naive[pair], correct[pair], rate=rate)) is not None
    }  # fmt: skip
    problem = ""
    if not harms:
        failed = [trial.record.reason for trial in trials if not trial.ok]
        problem = failed[0] if failed else f"{metric} could not be measured under both variants"
    means = [sum(arm.values()) / len(arm) if arm else None for arm in (naive, correct)]
    harm = statistics.of_ratios(list(harms.values())) if harms else None
    return Cell(server_name(condition), condition.workers, condition.key, means[0], means[1], harm, problem), harms


def compare_gotcha(run: RunLike, plan: GotchaPlan) -> Comparison:
    """The comparison of one gotcha of a grid run.  Raises UsageError where the run has no harm to compare by."""
    claim = harm_of(plan)
    metric = metric_of(claim)
    family = METRICS[MetricExpression.parse(claim.metric).numerator.metric].family
    facts = collect(run, plan)
    cells, harms = [], {}
    for condition in plan.conditions:
        cell, values = _cell(condition, facts[condition.key], metric, rate=family == "rate")
        cells.append(cell)
        harms[cell.server, cell.workers] = values
    answers = []
    for server in dict.fromkeys(cell.server for cell in cells):
        own = sorted((cell for cell in cells if cell.server == server), key=lambda cell: cell.workers)
        first, last = own[0], own[-1]
        before, after = harms[server, first.workers], harms[server, last.workers]
        shared = sorted(before.keys() & after.keys()) if first is not last else []
        ratio = statistics.of_ratios([after[pair] / before[pair] for pair in shared]) if shared else None
        word = word_of(ratio, last.harm, EQUIVALENCE[family])
        answers.append(Answer(server, word, first.workers, last.workers, ratio))
    unit = unit_of(MetricExpression.parse(claim.metric).numerator.metric)
    return Comparison(plan.slug, plan.title, metric, unit, tuple(cells), tuple(answers))


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as text that fits 100 columns."""
    lines = []
    for one in comparisons:
        lines.append(f"{one.gotcha}  ({one.metric}{', ' + one.unit if one.unit else ''})")
        lines.append(f"  {'server':<24}{'workers':>7}{'naive':>12}{'correct':>12}{'harm':>9}  95 % interval")
        for cell in one.cells:
            head = f"  {cell.server:<24}{cell.workers:>7}"
            if cell.harm is None:
                lines.append(f"{head}  cannot be measured here: {cell.problem}"[:100])
                continue
            seen = [number(value) if value is not None else "-" for value in (cell.naive, cell.correct)]
            lines.append(f"{head}{seen[0]:>12}{seen[1]:>12}{number(cell.harm.value) + ' x':>9}  {span(cell.harm)}")
        lines += [f"  {one.sentence(answer)}" for answer in one.answers]
        lines.append("")
    return "\n".join(lines).rstrip()


def document(run: str, comparisons: Sequence[Comparison]) -> Mapping[str, Any]:
    """The comparisons as ``compare --json`` prints them."""
    from lab.codec import to_dict

    found = [
        {**to_dict(one), "answers": [{**to_dict(answer), "sentence": one.sentence(answer)} for answer in one.answers]}
        for one in comparisons
    ]
    return {"format_version": 1, "run": run, "gotchas": found}


def is_known(comparison: Comparison) -> bool:
    """Whether every server got a word."""
    return all(answer.word != "unclear" for answer in comparison.answers)
