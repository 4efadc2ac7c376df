"""Verdicts as text for a terminal or a log: at most 100 columns, and why where a claim was not reproduced."""

import textwrap
from collections import Counter
from collections.abc import Container, Iterable, Iterator

from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts, VerdictName
from analysis.report.figures import NOT_MEASURED, measured_text, predicted_text
from analysis.report.words import VERDICTS

WIDTH = 100
WORD_WIDTH, KIND_WIDTH = 17, 10
MOST_DOUBTS = 4
SGR = {"good": "32", "part": "33", "bad": "31", "open": "33"}
"""ANSI colours by a verdict's tone; its word says the same without them."""

SAID_ONCE = frozenset({"quick_run"})
"""Doubts that all gotchas of a run share."""


def verdicts_text(verdicts: RunVerdicts, *, colored: bool = False) -> str:
    """Each gotcha with its claims, and where there are several a line for each at the end."""
    several = len(verdicts.gotchas) > 1
    blocks = ["\n".join(_gotcha(one, SAID_ONCE if several else (), colored)) for one in verdicts.gotchas]
    if several:
        blocks.append("\n".join(_summary(verdicts.gotchas, colored)))
    return "\n\n".join(blocks)


def _word(verdict: VerdictName, width: int, colored: bool) -> str:
    said = VERDICTS[verdict]
    text = said.label.upper().ljust(width)
    return f"\x1b[{SGR[said.tone]}m{text}\x1b[0m" if colored else text


def _wrapped(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent if hanging is None else hanging)
    )


def _gotcha(gotcha: GotchaVerdict, elsewhere: Container[str], colored: bool) -> Iterator[str]:
    yield f"{_word(gotcha.verdict, 0, colored)}  {gotcha.gotcha}"
    yield from _wrapped(gotcha.answer, 2)
    told: set[str] = set()
    for claim in gotcha.claims:
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


def _summary(gotchas: Iterable[GotchaVerdict], colored: bool) -> Iterator[str]:
    seen = list(gotchas)
    claims = [claim for one in seen for claim in one.claims]
    counts = Counter(one.verdict for one in seen)
    said = ", ".join(f"{counts[name]} {word.label.lower()}" for name, word in VERDICTS.items() if counts[name])
    good = sum(claim.verdict == "reproduced" for claim in claims)
    yield f"{len(seen)} gotchas: {said}. {good} of {len(claims)} claims reproduced."
    yield from dict.fromkeys(f"{d.seen} {d.advice}" for one in seen for d in one.doubts if d.id in SAID_ONCE)
    for one in seen:
        short = [claim.id for claim in one.claims if claim.verdict != "reproduced"]
        room = WIDTH - 2 - WORD_WIDTH - len(one.gotcha) - len("  ()")
        which = f"  ({textwrap.shorten(', '.join(short), room, placeholder=' …')})" if short else ""
        yield f"  {_word(one.verdict, WORD_WIDTH, colored)}{one.gotcha}{which}"
