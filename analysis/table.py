"""Verdicts as text for a terminal or a log: at most 100 columns, and why where a claim was not reproduced."""

import textwrap
from collections.abc import Container, Iterator, Sequence

from analysis import summary
from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts, VerdictName
from analysis.report.figures import NOT_MEASURED, measured_text, predicted_text
from analysis.report.words import VERDICTS

WIDTH = 100
WORD_WIDTH, KIND_WIDTH = 17, 10
TITLE_WIDTH = 46
MOST_DOUBTS = 4
SGR = {"good": "32", "part": "33", "bad": "31", "open": "33"}
"""ANSI colours by a verdict's tone; its word says the same without them."""

SAID_ONCE = frozenset({"quick_run"})
"""Doubts that all gotchas of a run share."""


def verdicts_text(verdicts: RunVerdicts, *, colored: bool = False, details: bool = False) -> str:
    """The results first, a line for each gotcha; then the checks that differ, each with its reason; with ``details`` every check."""
    blocks = ["\n".join(results(verdicts.gotchas, colored))]
    several = len(verdicts.gotchas) > 1
    told = [one for one in verdicts.gotchas if details or not several or _to_tell(one)]
    blocks += ["\n".join(_gotcha(one, SAID_ONCE if several else (), colored, details)) for one in told]
    blocks.append("\n".join(_closing(verdicts.gotchas, several, details)))
    return "\n\n".join(block for block in blocks if block)


def _to_tell(gotcha: GotchaVerdict) -> bool:
    return gotcha.verdict != "reproduced" or bool(gotcha.failed_trials)


def results(gotchas: Sequence[GotchaVerdict], colored: bool = False) -> Iterator[str]:
    """Symbol, title, naive -> fixed: what one came for."""
    titles = [summary.short_title(one.title, TITLE_WIDTH) for one in gotchas]
    wide = max(map(len, titles), default=0)
    if any(one.seen for one in gotchas):
        yield f"{'':{wide + 4}}naive -> fixed"
    for gotcha, title in zip(gotchas, titles, strict=True):
        tone = summary.tone(gotcha)
        symbol = f"\x1b[{SGR[tone]}m{summary.SYMBOLS[tone]}\x1b[0m" if colored else summary.SYMBOLS[tone]
        said = summary.line(gotcha.seen) or _unseen(gotcha)
        first, *rest = textwrap.wrap(said, WIDTH - wide - 4) or [""]
        yield f"{symbol}  {title:<{wide}} {first}".rstrip()
        yield from (f"{'':{wide + 4}}{more}" for more in rest)


def _unseen(gotcha: GotchaVerdict) -> str:
    """What a gotcha without a line "naive -> fixed" came to."""
    if summary.faults_only(gotcha):
        return summary.held(gotcha)
    return f"{summary.affects(gotcha)}, {summary.fixed(gotcha)}"


def _closing(gotchas: Sequence[GotchaVerdict], several: bool, details: bool) -> Iterator[str]:
    """All checks counted, what all gotchas share, and where the rest stands."""
    claims = [claim for one in gotchas for claim in one.claims]
    whole = summary.standing_of(claims).text
    yield f"{len(gotchas)} gotchas: {whole}." if several else f"{whole[0].upper()}{whole[1:]}."
    if several:
        yield from dict.fromkeys(f"{d.seen} {d.advice}" for one in gotchas for d in one.doubts if d.id in SAID_ONCE)
    if not details:
        yield "Every check beside its prediction: `bench.py verdict --details`, or the report."


def _word(verdict: VerdictName, width: int, colored: bool) -> str:
    said = VERDICTS[verdict]
    text = said.label.upper().ljust(width)
    return f"\x1b[{SGR[said.tone]}m{text}\x1b[0m" if colored else text


def _wrapped(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent if hanging is None else hanging)
    )


def _gotcha(gotcha: GotchaVerdict, elsewhere: Container[str], colored: bool, details: bool) -> Iterator[str]:
    yield f"{_word(gotcha.verdict, 0, colored)}  {gotcha.gotcha}"
    yield from _wrapped(gotcha.answer, 2)
    told: set[str] = set()
    for claim in gotcha.claims:
        if not details and claim.verdict == "reproduced":
            continue
        yield from _claim(claim, colored)
        why = _why(claim)
        if why in told:
            why = "for the reason above"
        if why:
            told.add(why)
            yield from _wrapped(why, 2 + WORD_WIDTH + KIND_WIDTH)
    for doubt in [one for one in gotcha.doubts if one.id not in elsewhere][:MOST_DOUBTS]:
        yield from _wrapped(f"doubt: {doubt.seen} {doubt.advice}".rstrip(), 2, 9)
    for trial in gotcha.failed_trials[:3]:
        yield from _wrapped(f"failed trial: {trial}", 2, 16)


def _claim(claim: ClaimVerdict, colored: bool) -> Iterator[str]:
    at, indent = claim.speaking, 2 + WORD_WIDTH + KIND_WIDTH
    first, *rest = _wrapped(claim.statement, indent)
    yield f"  {_word(claim.verdict, WORD_WIDTH, colored)}{claim.kind:<{KIND_WIDTH}}{first.strip()}"
    yield from rest
    seen = measured_text(at, claim.unit) if at.quotable else NOT_MEASURED
    told = seen if seen == NOT_MEASURED else f"measured {seen}"
    where = "" if at.condition == claim.headline else f" under {at.condition}"
    yield from _wrapped(f"predicted {predicted_text(claim, at)}, {told}{where}", indent)


def _why(claim: ClaimVerdict) -> str:
    """Why it was not reproduced: the reason under the condition whose figures stand above it."""
    return "" if claim.verdict == "reproduced" else claim.speaking.reason
