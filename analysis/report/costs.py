"""What a fix costs and how sure a page is, in words."""

from analysis.model import GotchaVerdict
from analysis.report.figures import interval_text, value_text
from analysis.summary import UNTOLD


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
    figure = value_text(seen, claim.unit)
    if claim.unit == "x" and low is not None and high is not None and low <= 1 <= high:
        return f"None that this run can tell: {claim.statement} ({figure}, {interval_text(seen, claim.unit)})."
    return f"{claim.statement[:1].upper()}{claim.statement[1:]}: {figure}."


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
