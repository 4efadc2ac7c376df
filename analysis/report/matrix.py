"""The matrix of all gotchas as Markdown, for the README: made from verdicts, never typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis import summary
from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts
from analysis.origins import Origin
from analysis.report.costs import cost
from analysis.report.figures import measured_text, predicted_text, short_reason
from analysis.report.words import SURVIVES, VERDICTS, topic_words
from analysis.survival import survival_table, survived_text
from analysis.table import results
from lab.model import GotchaPlan
from lab.words.errors import StoreError

BEGIN = "<!-- matrix: begin (made by `bench.py publish`, do not edit) -->"
END = "<!-- matrix: end -->"


def measured(claim: ClaimVerdict) -> str:
    """Measured value and interval where the verdict comes from, "1.98× [1.9 to 2.1×]"; "not measured" with the reason in few words."""
    at = claim.speaking
    reason = short_reason(at)
    return measured_text(at, claim.unit) + (f" ({reason})" if reason else "")


def figures(claim: ClaimVerdict) -> str:
    """Measured, interval and predicted in one line: "400, predicted 400"."""
    return measured(claim) if claim.speaking.quotable is None else f"{measured(claim)}, {predicted(claim)}"


def predicted(claim: ClaimVerdict) -> str:
    """ "predicted at most 20/s": the prediction where the verdict comes from, with its relation."""
    return f"predicted {predicted_text(claim, claim.speaking)}"


def lead(verdict: GotchaVerdict, kind: str) -> ClaimVerdict | None:
    """The claim that stands for its kind: the first, since authors put the one that matters first."""
    return next((claim for claim in verdict.claims if claim.kind == kind), None)


RESULTS_BEGIN = "<!-- results: begin (made by `bench.py publish`, do not edit) -->"
RESULTS_END = "<!-- results: end -->"


def results_markdown(verdicts: RunVerdicts, shown: Sequence[str]) -> str:
    """The lines of ``shown`` gotchas as the terminal prints them, for the top of the README; how many checks of the whole run came out."""
    by_slug = {one.gotcha: one for one in verdicts.gotchas}
    lines = results([by_slug[slug] for slug in shown if slug in by_slug])
    counted = summary.standing_of([claim for one in verdicts.gotchas for claim in one.claims])
    return "\n".join(["```text", *lines, "```", "", f"All {len(verdicts.gotchas)} gotchas: {counted.text}."]) + "\n"


MEASURED_BEGIN = "<!-- measured: begin (made by bench.py publish, do not edit) -->"
MEASURED_END = "<!-- measured: end -->"


def measured_markdown(plan: GotchaPlan, verdict: GotchaVerdict, when: str) -> str:
    """What a gotcha's README says of its published run: the answer, how many checks came out, what the fix survives, and where it ran."""
    survived = survived_text(survival_table(plan, verdict))
    regime = verdict.regime
    versions = ", ".join(f"{name} {regime[name]}" for name in ("fastapi", "python") if regime.get(name))
    where = ", ".join(
        part for part in (f"{regime['cores']} cores" if regime.get("cores") else "", versions, when) if part
    )
    lines = [f"**{verdict.answer}**", "", f"{summary.standing_of(verdict.claims).text} ({where})."]
    return "\n".join([*lines, *([f"What the fix survives: {survived}."] if survived else [])])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _led(verdict: GotchaVerdict) -> str:
    """For a scenario that names no number to show before and after: the leading harm and fix, each with its figure and sentence."""
    found = [(kind, claim) for kind in ("harm", "fix") if (claim := lead(verdict, kind)) is not None]
    return "<br>".join(f"{kind}: **{_cell(measured(claim))}**, {_cell(claim.statement)}" for kind, claim in found)


def _measured_when(origins: Mapping[str, Origin], stale: Mapping[str, str]) -> list[str]:
    """The sentence above the table: from when the figures are and how many are not of today; nothing for a single run."""
    if not origins:
        return []
    days = sorted({origin.day for origin in origins.values()})
    when = f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}"
    text = f"{len(origins)} gotchas, measured {when}"
    if stale:
        text += f"; {len(stale)} of them before the last change of their code or versions: marked ↻, measure again before you rely on them"
    return [f"{text}.", ""]


def matrix_markdown(
    verdicts: RunVerdicts, plans: Sequence[GotchaPlan], origins: Mapping[str, Origin] | None = None,
    stale: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """A table, one row a gotcha in the order of topics; gotchas without a verdict say so.

    ``origins`` has the run of each gotcha where they come from several, ``stale`` those that have changed since.
    """
    by_slug: Mapping[str, GotchaVerdict] = {one.gotcha: one for one in verdicts.gotchas}
    stale = stale or {}
    lines = _measured_when(origins or {}, stale)
    lines += [f"| Gotcha | Naive → fixed | Cost of the fix | {SURVIVES[0]} | Checks |", "|---|---|---|---|---|"]
    for plan in sorted(plans, key=lambda one: (topic_words(one.topic), one.title)):
        verdict = by_slug.get(plan.slug)
        link = f"[{_cell(plan.title)}](targets/{plan.slug}/README.md)<br>{_cell(plan.claim)}"
        if verdict is None:
            lines.append(f"| {link} | | | | not yet judged |")
            continue
        word, told = VERDICTS[verdict.verdict], summary.line(verdict.seen).replace(" -> ", " → ")
        finding = f"**{_cell(told)}**" if told else _led(verdict)
        survived = survived_text(survival_table(plan, verdict))
        badge = f"{word.symbol} {word.label}<br>{summary.standing_of(verdict.claims).text}"
        badge += "<br>↻" if plan.slug in stale else ""
        lines.append(f"| {link} | {finding} | {_cell(cost(verdict))} | {survived} | {badge} |")
    return "\n".join(lines) + "\n"


def update_readme(path: Path, text: str, markers: tuple[str, str] = (BEGIN, END)) -> bool:
    """Put ``text`` between the markers of a file; returns whether anything changed.  Raises StoreError where the markers are missing."""
    old = path.read_text(encoding="utf-8")
    first, last = markers
    begin, end = old.find(first), old.find(last)
    if begin < 0 or end < begin:
        raise StoreError(
            f"{path} has no place for what was measured", f"Put the lines {first} and {last} where it belongs."
        )
    new = f"{old[: begin + len(first)]}\n\n{text.strip()}\n\n{old[end:]}"
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old
