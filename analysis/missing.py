"""Pairs that were planned and have no value: they never help.  Pure.

A law needs every planned trial, unless one that is there refutes it already.  An estimate stands on the pairs that it has if the missing
ones could not change its conclusion: each is put where one more value of the same kind may lie (``statistics.another_value``), all low,
then all high.  Where the missing pair is a variant's own doing (its trial failed, its metric was refused) it may also be as bad as a
value of its kind can be: a time of "never", a rate of nothing, a count of either.  So a crash never favours the variant that crashed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis import statistics
from analysis.laws import agreeing, judge_trials, judge_with_never, lower_bounds, word_of_trials
from analysis.model import Estimate, VerdictName
from analysis.verdicts import RELATION_WORDS, Conclusion, Question, judge_estimate, short


@dataclass(frozen=True)
class Missing:
    """A planned pair without a value, why, and whether it may have been as low as 0 or as high as "never".

    ``crashed`` says that a trial of it failed: no gate looked at that one, so no gate of another arm excuses it.
    """

    pair: int
    reason: str
    may_be_zero: bool
    may_be_never: bool
    crashed: bool = False


def told(missing: Sequence[Missing]) -> str:
    """The missing pairs in words, counted from 1: those of one reason together."""
    by_reason: dict[str, list[int]] = {}
    for one in missing:
        by_reason.setdefault(one.reason, []).append(one.pair)
    return "; ".join(
        f"{'pair' if len(pairs) == 1 else 'pairs'} {', '.join(str(pair + 1) for pair in pairs)}: {reason}"
        for reason, pairs in by_reason.items()
    )


def _judge_values(question: Question, values: Sequence[float]) -> Conclusion:
    if not all(map(math.isfinite, values)):
        return judge_with_never(question, values)
    return judge_estimate(question, question.estimate(values))


def _judge_low(question: Question, values: Sequence[float], missing: Sequence[float]) -> VerdictName:
    """The word where the missing values are low.  On a logarithmic scale a 0 makes the mean 0, as "never" makes it infinite.

    Then "at most" holds where it holds for upper bounds in its place, and the single trials give the word of anything else.
    """
    if not question.logarithmic or min(missing) > 0 or min(values) <= 0:
        return _judge_values(question, [*values, *missing]).verdict
    if question.relation != "at_most":
        return word_of_trials(question, [*values, *missing])
    most = min(*values, question.predicted)
    return _judge_values(question, [*values, *(value or most for value in missing)]).verdict


def _law(question: Question, values: Sequence[float], missing: Sequence[Missing]) -> Conclusion:
    if not missing or word_of_trials(question, values) != "reproduced":
        found = judge_trials(question, values)
        return replace(found, reason=f"{found.reason} ({told(missing)})") if missing else found
    count, total = agreeing(question, values), len(values) + len(missing)
    wanted = f"{RELATION_WORDS[question.relation]}{short(question.predicted)}"
    return Conclusion(
        "inconclusive", f"predicted {wanted} in every trial, {count} of {total} are there and agree; {told(missing)}"
    )


def _could_change(
    question: Question, values: Sequence[float], missing: Sequence[Missing], verdict: VerdictName
) -> bool:
    """Whether the missing ones, all as low or all as high as they may be, give another word."""
    ends = statistics.another_value(lower_bounds(question, values), question.level, logarithmic=question.logarithmic)
    if ends is None:
        return True
    low = [min(0.0, ends[0]) if one.may_be_zero else ends[0] for one in missing]
    high = [math.inf if one.may_be_never else ends[1] for one in missing]
    found = {_judge_low(question, values, low), _judge_values(question, [*values, *high]).verdict}
    return found != {verdict}


def judge_values(question: Question, estimate: Estimate, missing: Sequence[Missing] = ()) -> Conclusion:
    """The verdict of one claim under one condition: the values that are there, and the planned pairs that are not."""
    values = estimate.values
    if question.is_law:
        return _law(question, values, missing)
    first = _judge_values(question, values)
    if not missing:
        return first
    share = f"{len(values)} of {len(values) + len(missing)} pairs; {told(missing)}"
    refuted_for_good = estimate.never > 0 and question.relation != "at_least"
    if first.verdict == "inconclusive" or refuted_for_good:
        return replace(first, reason=f"{first.reason} ({share})")
    if not _could_change(question, values, missing, first.verdict):
        return replace(first, reason=f"{first.reason} ({share})")
    more = None if any(one.may_be_zero or one.may_be_never for one in missing) else len(missing)
    return Conclusion(
        "inconclusive", f"{first.reason}, but only {share}: what is missing could change the conclusion", more
    )
