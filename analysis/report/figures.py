"""A claim's figures in words, the same in the terminal, on the pages and in the matrix: what was seen, how sure, and why not.

The figures beside a verdict are those of the condition that gave it (``ClaimVerdict.speaking``), so that they cannot contradict it.
"""

from analysis.charts.units import human, human_range
from analysis.model import ClaimVerdict, ConditionVerdict, Estimate

NOT_MEASURED = "not measured"
RELATIONS = {"at_most": "at most ", "at_least": "at least ", "about": ""}
USUAL_LEVEL = 0.95


def value_text(measured: Estimate | None, unit: str) -> str:
    """What was seen: a mean, the least to the most where every trial was asked, or how often it never came."""
    if measured is None:
        return NOT_MEASURED
    if measured.never:
        return (
            "never"
            if measured.never == len(measured.values)
            else f"never in {measured.never} of {len(measured.values)} trials"
        )
    if measured.is_range:
        return human_range(measured.lowest or 0.0, measured.highest or 0.0, unit)
    return human(measured.value, unit)


def interval_text(measured: Estimate | None, unit: str) -> str:
    """The interval: "1.9 to 2.1×", with its level where that is another than 95 %; "" where there is none or it has no width."""
    if measured is None or measured.low is None or measured.high is None or measured.low == measured.high:
        return ""
    level = "" if abs(measured.level - USUAL_LEVEL) < 1e-9 else f", {100 * measured.level:.3g} %"
    return human_range(measured.low, measured.high, unit) + level


def answered_text(one: ConditionVerdict) -> str:
    """The share of answered requests where a time is claimed and some were not: "97.3 % answered"; "" elsewhere."""
    if one.answered is None or one.answered >= 1:
        return ""
    return f"{min(100 * one.answered, 99.9):.3g} % answered"


def measured_text(one: ConditionVerdict, unit: str) -> str:
    """Value, interval and the share answered: "1.98× [1.9 to 2.1×]"."""
    interval, answered = interval_text(one.quotable, unit), answered_text(one) if one.quotable else ""
    text = value_text(one.quotable, unit) + (f" [{interval}]" if interval else "")
    return f"{text}, {answered}" if answered else text


def predicted_text(claim: ClaimVerdict, one: ConditionVerdict) -> str:
    """ "at most 20/s": the prediction under a condition with its relation."""
    return RELATIONS[claim.relation] + human(one.predicted, claim.unit)


def short_reason(one: ConditionVerdict) -> str:
    """Why there is no number, in few words: "gate G1 failed"; "" where there is one."""
    return "" if one.quotable is not None else one.reason.partition(":")[0].partition(";")[0].strip()
