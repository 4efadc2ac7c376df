"""The matrix of all gotchas as Markdown, for the README: made from verdicts, never typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts
from analysis.report.figures import measured_text, predicted_text, short_reason
from analysis.report.words import KINDS, SURVIVES, VERDICTS, topic_words
from analysis.survival import survival_table, survived_text
from lab.errors import StoreError
from lab.model import GotchaPlan

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


def tally(verdict: GotchaVerdict) -> str:
    """ "14 of 15 claims reproduced": a gotcha's word is that of its worst claim, which says nothing of the others."""
    good = sum(claim.verdict == "reproduced" for claim in verdict.claims)
    return f"{good} of {len(verdict.claims)} claims reproduced"


def _claim_cell(claim: ClaimVerdict, labels: Mapping[str, str]) -> str:
    """The figure with its verdict's mark and, below it, the sentence that it belongs to: a bare count says nothing."""
    at = claim.speaking.condition
    where = "" if at == claim.headline else f" (under {_cell(labels.get(at, at))})"
    return f"{VERDICTS[claim.verdict].symbol} **{_cell(measured(claim))}**, {predicted(claim)}{where}<br>{_cell(claim.statement)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def matrix_markdown(verdicts: RunVerdicts, plans: Sequence[GotchaPlan]) -> str:
    """A table, one row a gotcha in the order of topics; gotchas without a verdict say so."""
    by_slug: Mapping[str, GotchaVerdict] = {one.gotcha: one for one in verdicts.gotchas}
    lines = [
        "| Gotcha | Part | " + " | ".join(KINDS[kind][0] for kind in KINDS) + f" | {SURVIVES[0]} | Verdict |",
        "|---|---|" + "---|" * len(KINDS) + "---|---|",
    ]
    for plan in sorted(plans, key=lambda one: (topic_words(one.topic), one.title)):
        verdict = by_slug.get(plan.slug)
        cells, labels = [], {condition.key: condition.label for condition in plan.conditions}
        for kind in KINDS:
            claim = lead(verdict, kind) if verdict else None
            cells.append(_claim_cell(claim, labels) if claim else "")
        cells.append(survived_text(survival_table(plan, verdict)) if verdict else "")
        link = f"[{_cell(plan.title)}](targets/{plan.slug}/README.md)<br>{_cell(plan.claim)}"
        word = VERDICTS[verdict.verdict] if verdict else None
        badge = f"{word.symbol} {word.label}<br>{tally(verdict)}" if word and verdict else "not yet judged"
        lines.append(f"| {link} | {', '.join(map(str, plan.parts))} | {' | '.join(cells)} | {badge} |")
    return "\n".join(lines) + "\n"


def update_readme(path: Path, text: str) -> bool:
    """Put ``text`` between the markers of a file; returns whether anything changed.  Raises StoreError where the markers are missing."""
    old = path.read_text(encoding="utf-8")
    begin, end = old.find(BEGIN), old.find(END)
    if begin < 0 or end < begin:
        raise StoreError(f"{path} has no place for the matrix", f"Put the lines {BEGIN} and {END} where it belongs.")
    new = f"{old[: begin + len(BEGIN)]}\n\n{text.strip()}\n\n{old[end:]}"
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old
