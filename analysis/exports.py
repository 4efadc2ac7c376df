"""A difference of two runs as text, as Markdown for a pull request and as JUnit XML for a CI server."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from analysis.differences import Difference, Row

WORDS = {"same": "same", "higher": "higher", "lower": "lower", "unclear": "unclear", "not comparable": "not compared"}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def shift_text(row: Row) -> str:
    """``x 1.08 [1.02, 1.14], 3 + 1 runs``, or the difference where there is no ratio."""
    if row.shift is None:
        return ""
    one = row.shift
    head = f"x {one.value:.3g}" if one.logarithmic else f"{one.value:+.3g}"
    return f"{head} [{one.low:.3g}, {one.high:.3g}], {one.runs[0]} + {one.runs[1]} runs"


def _verdicts(row: Row) -> str:
    before, after = row.verdict_before.replace("_", " "), row.verdict_after.replace("_", " ")
    return after if before == after else f"{before} -> {after}"


def interesting(found: Difference) -> list[Row]:
    """The rows in which a figure or a verdict is not the same; what could not be compared counts where the verdict changed."""
    return [
        row for row in found.rows
        if row.change in ("higher", "lower", "unclear") or row.verdict_before != row.verdict_after
    ]  # fmt: skip


def not_compared(found: Difference) -> Iterator[tuple[str, str, int]]:
    """Gotcha, reason and number of the figures that were not compared."""
    counts = Counter((row.gotcha, row.note) for row in found.rows if row.change == "not comparable")
    for (gotcha, note), count in counts.items():
        yield gotcha, note, count


def table(found: Difference) -> str:
    """Text that fits 100 columns: what differs first, then how many rows stayed the same, then what could not be compared and why."""
    lines = [f"{found.run_a} -> {found.run_b}"]
    lines += [f"  warning: {text}"[:100] for text in found.environment]
    slug = ""
    for row in interesting(found):
        if row.gotcha != slug:
            slug = row.gotcha
            lines.append(slug)
        lines.append(f"  {WORDS[row.change]:<13}{row.statement} ({row.condition})"[:100])
        figures = f"{_number(row.before)} -> {_number(row.after)} {row.unit}".rstrip()
        lines += textwrap.wrap(
            "  ".join(filter(None, (figures, shift_text(row), _verdicts(row)))),
            100,
            initial_indent=" " * 15,
            subsequent_indent=" " * 15,
        )
    same = sum(row.change == "same" and row.verdict_before == row.verdict_after for row in found.rows)
    lines.append(f"{same} of {len(found.rows)} claims under their conditions are the same in both runs.")
    for gotcha, note, count in not_compared(found):
        text = f"{gotcha}: {count} not comparable: {note}"
        lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    lines += [f"  {text}" for text in found.only_one[:10]]
    if len(found.only_one) > 10:
        lines.append(f"  and {len(found.only_one) - 10} more in one run alone")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def markdown(found: Difference, fail_on: Sequence[str]) -> str:
    """A comment for a pull request."""
    failures = found.failures(fail_on)
    head = (
        f"**{len(failures)} of {len(found.rows)} claims object**"
        if failures
        else f"**{len(found.rows)} claims, none objects**"
    )
    lines = [f"### Gotcha lab: `{found.run_a}` against `{found.run_b}`", "", head, ""]
    lines += [f"- warning: {_cell(text)}" for text in found.environment]
    if found.environment:
        lines.append("")
    lines += ["| gotcha | claim | condition | before | after | change | verdict |", "|---|---|---|---:|---:|---|---|"]
    for row in interesting(found):
        cells = (row.gotcha, row.statement, row.condition, f"{_number(row.before)} {row.unit}".strip(),
                 f"{_number(row.after)} {row.unit}".strip(), shift_text(row) or WORDS[row.change], _verdicts(row))  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    same = sum(row.change == "same" and row.verdict_before == row.verdict_after for row in found.rows)
    lines += ["", f"{same} further claims are the same.", ""]
    lines += [f"- {gotcha}: {count} not comparable: {_cell(note)}" for gotcha, note, count in not_compared(found)]
    return "\n".join(lines) + "\n"


def junit(found: Difference, fail_on: Sequence[str]) -> bytes:
    """One test case per claim and condition; a failure where the gate objects, skipped where nothing could be compared."""
    failing = set(map(id, found.failures(fail_on)))
    suites = ElementTree.Element("testsuites", name="FastAPI Gotcha Lab")
    by_gotcha: dict[str, list[Row]] = {}
    for row in found.rows:
        by_gotcha.setdefault(row.gotcha, []).append(row)
    for slug, rows in by_gotcha.items():
        failures, skipped = sum(id(row) in failing for row in rows), sum(row.change == "not comparable" for row in rows)
        suite = ElementTree.SubElement(
            suites, "testsuite", name=slug, tests=str(len(rows)), failures=str(failures), skipped=str(skipped), errors="0",
        )  # fmt: skip
        for row in rows:
            case = ElementTree.SubElement(
                suite, "testcase", classname=slug.replace("/", "."), name=f"{row.claim} under {row.condition}"
            )
            said = f"{row.statement}: {_number(row.before)} -> {_number(row.after)} {row.unit} {shift_text(row)} {_verdicts(row)}"
            if id(row) in failing:
                ElementTree.SubElement(case, "failure", message=said)
            elif row.change == "not comparable":
                ElementTree.SubElement(case, "skipped", message=row.note)
    ElementTree.indent(suites)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites) + b"\n"
