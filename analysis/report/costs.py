"""What a fix costs and how sure a page is, in words."""

from analysis.model import GotchaVerdict
from analysis.report.figures import interval_text, value_text
from analysis.summary import UNTOLD
from lab.words.references import MetricExpression

NOUNS = {
    "sql_calls": ("statement", "statements"), "redis_calls": ("command", "commands"), "requests_sent": ("request", "requests"),
    "status_count": ("answer", "answers"), "plan_rows_visited": ("row", "rows"),
}  # fmt: skip
"""What a count counts, one of them and several: a bare number behind a sentence says nothing."""


def cost(verdict: GotchaVerdict) -> str:
    """What the fix costs, in the words of the first such claim that could be judged; a ratio whose interval holds 1 is no cost."""
    told = [claim for claim in verdict.claims if claim.kind == "tax"]
    if not told:
        return "Nothing is claimed about what the fix costs."
    claim = next((one for one in told if one.verdict not in UNTOLD), None)
    if claim is None:
        return f"Not known from this run: {told[0].speaking.reason}."
    seen = claim.speaking.quotable
    low, high = (seen.low, seen.high) if seen is not None else (None, None)
    figure = f"{value_text(seen, claim.unit)}{_noun(claim.metric, None if seen is None or seen.never else seen.value)}"
    if claim.unit == "x" and low is not None and high is not None and low <= 1 <= high:
        return f"None that this run can tell: {claim.statement} ({figure}, {interval_text(seen, claim.unit)})."
    statement = claim.statement.removeprefix("and ").removeprefix("but ")
    return f"{statement[:1].upper()}{statement[1:]}: {figure}."


def _noun(metric: str, value: float | None) -> str:
    expression = MetricExpression.parse(metric)
    one, several = NOUNS.get(expression.numerator.metric, ("", ""))
    if expression.denominator is not None or not one or value is None:
        return ""
    return f" {one if value == 1 else several}"


def how_sure(verdict: GotchaVerdict) -> str:
    """What is sure and what is not, in words: checks that agree, exact ones among them, and what was not tested."""
    sure = [one for one in verdict.claims if one.verdict == "reproduced" and one.kind in ("harm", "fix")]
    exact = sum(one.tolerance == 0 for one in sure)
    untold = [one.statement for one in verdict.claims if one.verdict in UNTOLD]
    repeats = max((at.pairs for one in sure for at in one.conditions if at.measured), default=0)
    text = "Nothing is sure yet."
    if sure:
        times = f"{repeats} {'repeat' if repeats == 1 else 'repeats'}"
        text = f"{len(sure)} checks of harm and fix came out as predicted ({exact} of them exactly, up to {times})."
    if untold:
        text += f" Not sure: {'; '.join(untold[:2])}{' and more' if len(untold) > 2 else ''}."
    return text + (" A quick run." if any(one.indicative for one in verdict.claims) else "")
