"""A comparison as text and as a JSON document; the page is ``analysis.report.comparison``."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.compare import Answer, Cell, Comparison, number
from analysis.model import Estimate

WIDTH = 100
BRIEF = 240


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


def harm_text(one: Comparison, cell: Cell) -> str:
    """``4.0 x``, or the number itself where correct reads 0."""
    if cell.harm is None:
        return "-"
    return number(cell.harm.value) + (" x" if one.relative else "")


def brief(reason: str) -> str:
    """A reason that fits three lines: its beginning and its end, which is where a log says what went wrong."""
    return reason if len(reason) <= BRIEF else f"{reason[: BRIEF // 3].rstrip()} … {reason[-BRIEF * 2 // 3 :].lstrip()}"


def sentence(one: Comparison, answer: Answer) -> str:
    """The answer in words with its numbers."""
    own = [f"{arm} {interval(found)}" for arm, found in answer.arms.items() if answer.about == "versions"]
    if answer.reason or answer.ratio is None:
        text = f"{answer.where}: {answer.said}: {brief(answer.reason)}"
    else:
        before, after = (harm_text(one, cell) for cell in (answer.before, answer.after))
        text = f"{answer.where}: {answer.said}: the harm goes from {before} to {after} ({interval(answer.ratio)})"
    return f"{text}; {', '.join(own)}" if own else text


def _row(one: Comparison, cell: Cell, wide: int) -> list[str]:
    name = " ".join(filter(None, (cell.server, cell.packages)))
    seen = [number(value) if value is not None else "-" for value in (cell.naive, cell.correct)]
    head = f"  {name:<{wide}}{cell.workers:>8}{seen[0]:>11}{seen[1]:>11}{harm_text(one, cell):>9}"
    lines = [f"{head}  {span(cell.harm)}" if cell.harm else head]
    if cell.problem:
        lines += textwrap.wrap(brief(cell.problem), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as text that fits 100 columns."""
    lines = []
    for one in comparisons:
        wide = max(16, *(len(" ".join(filter(None, (c.server, c.packages)))) + 1 for c in one.cells))
        lines.append(f"{one.gotcha}  ({one.metric}{', ' + one.unit if one.unit else ''})")
        lines.append(f"  {'configuration':<{wide}}{'workers':>8}{'naive':>11}{'correct':>11}{'harm':>9}  95 % interval")
        for cell in one.cells:
            lines += _row(one, cell, wide)
        for answer in one.answers:
            lines += textwrap.wrap(
                sentence(one, answer), WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def document(run: str, comparisons: Sequence[Comparison]) -> Mapping[str, Any]:
    """The comparisons as ``compare --json`` prints them.

    format_version history
        1  first
        2  answers hold both cells, what they differ in, the reason where there is no word, and each arm's own ratio
    """
    from lab.words.codec import to_dict

    found = [
        {**to_dict(one),
         "answers": [{**to_dict(answer), "said": answer.said, "sentence": sentence(one, answer)} for answer in one.answers]}
        for one in comparisons
    ]  # fmt: skip
    return {"format_version": 2, "run": run, "gotchas": found}
