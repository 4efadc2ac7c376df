"""From trials on disk to what a person reads: verdicts, the report, a table and one JSON document."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.judge import judge_run, write_verdicts
from analysis.model import ClaimVerdict, RunVerdicts
from analysis.table import verdicts_text
from lab.codec import to_dict
from lab.store import ROOT, RunFolder, newest_selftest, write_bytes

EXIT = {
    "reproduced": 0, "smaller": 1, "symptom_only": 1, "not_reproduced": 1, "reversed": 1, "inconclusive": 2, "invalid": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """A run judged and shown.  ``exit_code`` is the worst of its gotchas."""

    run: str
    document: dict[str, Any]
    table: str
    report: Path
    exit_code: int


def _claim_document(claim: ClaimVerdict) -> dict[str, Any]:
    at = claim.at_headline
    return {
        "id": claim.id, "kind": claim.kind, "statement": claim.statement, "unit": claim.unit, "verdict": claim.verdict,
        "predicted": at.predicted, "measured": at.measured.value if at.measured else None, "pairs": at.pairs,
        "interval": [at.measured.low, at.measured.high] if at.measured else None,
        "conditions": [to_dict(one) for one in claim.conditions],
    }  # fmt: skip


def document(verdicts: RunVerdicts) -> dict[str, Any]:
    """The verdicts as ``run --json`` prints them."""
    gotchas = [
        {
            "gotcha": one.gotcha, "verdict": one.verdict, "answer": one.answer, "regime": dict(one.regime),
            "claims": [_claim_document(claim) for claim in one.claims],
            "gates": [to_dict(gate) for gate in one.gates], "doubts": [to_dict(doubt) for doubt in one.doubts],
        }
        for one in verdicts.gotchas
    ]  # fmt: skip
    return {"format_version": 1, "run": verdicts.run, "partial": verdicts.partial, "gotchas": gotchas}


def exit_code(verdicts: RunVerdicts) -> int:
    """0 every claim reproduced, 1 one was not, 2 inconclusive or invalid (which outranks 1: it is not known)."""
    if not verdicts.gotchas:
        return 2
    return max(EXIT[one.verdict] for one in verdicts.gotchas)


def judge_again(run: RunFolder, *, colored: bool = False) -> Finished:
    """Judge a stored run from its own plan and write verdicts.json; ``colored`` is about the table.  Raises StoreError."""
    found = newest_selftest(run.path.parent)
    verdicts = judge_run(run, found["ceiling"]["lab_rps"] if found else None)
    write_verdicts(run, verdicts)
    return Finished(
        run.name,
        document(verdicts),
        verdicts_text(verdicts, colored=colored),
        run.derived / "report" / "index.html",
        exit_code(verdicts),
    )


def draw_pages(run: RunFolder) -> Path:
    """Draw a judged run's charts, build its pages and return their index.html.  Raises StoreError."""
    from analysis.report.build import build_report
    from analysis.selftest import for_report

    found = newest_selftest(run.path.parent)
    return build_report(run.path, ROOT, selftest=for_report(found) if found else None)


def finish(run: RunFolder) -> Finished:
    """Judge, draw and build the pages.  Raises StoreError."""
    return replace(judge_again(run), report=draw_pages(run))


def finish_comparison(run: RunFolder) -> Finished:
    """Judge a grid run, build its pages and the page of the comparison; 0 where every server got a word, else 2.  Raises StoreError."""
    from analysis import compare
    from analysis.report.comparison import build_comparison

    built = finish(run)
    comparisons = [compare.compare_gotcha(run, plan) for plan in run.plan.gotchas]
    page = build_comparison(run, ROOT, comparisons, built.report.parent)
    document = dict(compare.document(run.name, comparisons))
    write_bytes(run.derived / "compare.json", json.dumps(document, indent=1).encode())
    code = 0 if all(compare.is_known(one) for one in comparisons) else 2
    return Finished(run.name, document, compare.table(comparisons), page, code)
