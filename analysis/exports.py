"""A difference of two runs as text, as Markdown for a pull request and as JUnit XML for a CI server."""

from collections.abc import Sequence
from xml.etree import ElementTree

from analysis.diff import Difference, Row

WORDS = {"same": "same", "higher": "higher", "lower": "lower", "unclear": "unclear", "not comparable": "not compared"}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def ratio_text(row: Row) -> str:
    """``x 1.08 [1.02, 1.14]``."""
    if row.ratio is None:
        return ""
    if row.ratio.low is None or row.ratio.high is None:
        return f"x {row.ratio.value:.3g}, one pair"
    return f"x {row.ratio.value:.3g} [{row.ratio.low:.3g}, {row.ratio.high:.3g}]"


def _verdicts(row: Row) -> str:
    before, after = row.verdict_before.replace("_", " "), row.verdict_after.replace("_", " ")
    return after if before == after else f"{before} -> {after}"


def interesting(found: Difference) -> list[Row]:
    """The rows that are not simply the same."""
    return [row for row in found.rows if row.change not in ("same",) or row.verdict_before != row.verdict_after]


def table(found: Difference) -> str:
    """Text that fits 100 columns: what differs first, then how many rows stayed the same."""
    lines = [f"{found.run_a} -> {found.run_b}, {'paired' if found.paired else 'not paired'}"]
    lines += [f"  warning: {text}"[:100] for text in found.environment]
    slug = ""
    for row in interesting(found):
        if row.gotcha != slug:
            slug = row.gotcha
            lines.append(slug)
        lines.append(f"  {WORDS[row.change]:<13}{row.statement} ({row.condition})"[:100])
        figures = f"{_number(row.before)} -> {_number(row.after)} {row.unit}".rstrip()
        lines.append(f"  {'':<13}{figures}  {ratio_text(row)}  {_verdicts(row)}"[:100])
    same = len(found.rows) - len(interesting(found))
    lines.append(f"{same} of {len(found.rows)} claims under their conditions are the same in both runs.")
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
    lines += ["| gotcha | claim | condition | before | after | ratio | verdict |", "|---|---|---|---:|---:|---|---|"]
    for row in interesting(found):
        cells = (row.gotcha, row.statement, row.condition, f"{_number(row.before)} {row.unit}".strip(),
                 f"{_number(row.after)} {row.unit}".strip(), ratio_text(row) or WORDS[row.change], _verdicts(row))  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines += ["", f"{len(found.rows) - len(interesting(found))} further claims are the same."]
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
            said = f"{row.statement}: {_number(row.before)} -> {_number(row.after)} {row.unit} {ratio_text(row)} {_verdicts(row)}"
            if id(row) in failing:
                ElementTree.SubElement(case, "failure", message=said)
            elif row.change == "not comparable":
                ElementTree.SubElement(case, "skipped", message=row.note)
    ElementTree.indent(suites)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites) + b"\n"
