"""What is asked of every single trial: laws (tolerance 0), and estimates of which a trial was "never".  Pure.

"Never" (+inf: a request that was not answered, a service that did not come back) is a value like any other: it breaks "at most" and
"about" and satisfies "at least".
"""

import math
from collections.abc import Sequence

from analysis.model import VerdictName
from analysis.verdicts import (
    EXACT_FAMILIES,
    RELATION_WORDS,
    Conclusion,
    Question,
    band_text,
    fits,
    judge_estimate,
    range_text,
    short,
)


def _is_null(question: Question, value: float) -> bool:
    """Whether a single trial shows no effect: what can be exact is so, a time lies in the equivalence band."""
    null, band = question.outside_null, question.no_effect
    if null is None or band is None:
        return False
    return value == null if question.family in EXACT_FAMILIES else band[0] <= value <= band[1]


def _side(question: Question, value: float) -> VerdictName:
    """The word that one trial alone would get for missing the prediction."""
    (low, _), null = question.band, question.outside_null
    if _is_null(question, value):
        return "not_reproduced"
    is_below = value < low
    if null is None:
        return "smaller" if is_below else "larger"
    if is_below != (null < low):
        return "larger"
    return "smaller" if (value > null) == (null < low) else "reversed"


def word_of_trials(question: Question, values: Sequence[float]) -> VerdictName:
    """The word for a claim by its single trials.

    All of them fit: reproduced.  None fits and all miss it on one side: that side's word.  Anything else is a law that is broken:
    some trials agree, or they contradict each other.
    """
    missed = [value for value in values if not fits(question, value, value)]
    if not missed:
        return "reproduced"
    words = {_side(question, value) for value in missed}
    return words.pop() if len(missed) == len(values) and len(words) == 1 else "law_broken"


def agreeing(question: Question, values: Sequence[float]) -> int:
    """How many trials fit."""
    return sum(fits(question, value, value) for value in values)


def judge_trials(question: Question, values: Sequence[float]) -> Conclusion:
    """A law: every trial must fit; one that does not refutes it."""
    count, total = agreeing(question, values), len(values)
    wanted = (
        f"{RELATION_WORDS[question.relation]}{short(question.predicted)}" if question.is_law else band_text(question)
    )
    said = f"predicted {wanted}, observed {range_text(min(values), max(values))}"
    verdict = word_of_trials(question, values)
    if verdict == "reproduced":
        return Conclusion(verdict, f"{said}, {total} of {total} trials")
    said += f": {count} of {total} trials agree"
    never = sum(value == math.inf for value in values)
    if never and question.relation != "at_least":
        said += f", {never} never ended"
    null = short(question.outside_null) if question.outside_null is not None else ""
    ends: dict[VerdictName, str] = {
        "not_reproduced": f"; {null} is no effect", "reversed": f"; beyond {null}, which is no effect",
        "smaller": "; less than predicted" if not null else "; an effect in the predicted direction, but less of it",
        "larger": "; more than predicted",
    }  # fmt: skip
    return Conclusion(verdict, said + ends.get(verdict, ""))


def lower_bounds(question: Question, values: Sequence[float]) -> list[float]:
    """The values with each "never" at what it certainly exceeds: every other trial, and the prediction."""
    least = max([*(value for value in values if math.isfinite(value)), question.predicted])
    return [value if math.isfinite(value) else least for value in values]


def judge_with_never(question: Question, values: Sequence[float]) -> Conclusion:
    """An estimate some of whose trials are "never".

    Their mean is infinite: above every bound, so "at most" and "about" are refuted, and the single trials give the word.  "At least"
    holds where it holds for lower bounds in the place of each "never"; else nobody can say, because the others are not enough.
    """
    if question.relation != "at_least":
        return judge_trials(question, values)
    never = sum(value == math.inf for value in values)
    said = f"{never} of {len(values)} trials never ended"
    found = judge_estimate(question, question.estimate(lower_bounds(question, values)))
    if found.verdict == "reproduced":
        return Conclusion("reproduced", f"{said}; taken as no more than the greatest of the others, {found.reason}")
    return Conclusion(
        "inconclusive", f"{said}, and the others do not reach the prediction: {found.reason}", found.more_pairs
    )
