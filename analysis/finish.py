"""From trials on disk to what a person reads: verdicts, the report, a table and one JSON document."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.effort import with_effort
from analysis.judge import judge_run, write_verdicts
from analysis.model import ClaimVerdict, RunVerdicts
from analysis.summary import badge
from analysis.survival import holds_document, survival_table
from analysis.table import verdicts_text
from analysis.yardstick import yardstick_of
from lab.model import GotchaPlan
from lab.store import ROOT, RunFolder, write_bytes
from lab.words.codec import to_dict

EXIT = {
    "reproduced": 0, "smaller": 1, "larger": 1, "symptom_only": 1, "law_broken": 1, "not_reproduced": 1, "reversed": 1,
    "inconclusive": 2, "invalid": 2,
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
    at, seen = claim.at_headline, claim.at_headline.quotable
    return {
        "id": claim.id, "kind": claim.kind, "statement": claim.statement, "unit": claim.unit, "verdict": claim.verdict,
        "predicted": at.predicted, "measured": seen.value if seen else None, "pairs": at.pairs, "reason": claim.speaking.reason,
        "interval": [seen.low, seen.high] if seen else None,
        "range": [seen.lowest, seen.highest] if seen else None,
        "conditions": [to_dict(one) for one in claim.conditions],
    }  # fmt: skip


def _strict(value: Any) -> Any:
    """The document with "never" in the place of infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _strict(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_strict(one) for one in value]
    return "never" if value == math.inf else value


def document(verdicts: RunVerdicts, plans: Sequence[GotchaPlan] = ()) -> dict[str, Any]:
    """The verdicts as ``run --json`` prints them; ``plans`` are those of the run, for what was held under faults."""
    judged = {one.gotcha: one for one in verdicts.gotchas}
    holds = {
        plan.slug: holds_document(survival_table(plan, judged[plan.slug])) for plan in plans if plan.slug in judged
    }
    gotchas = [
        {
            "gotcha": one.gotcha, "verdict": one.verdict, "answer": one.answer, "regime": dict(one.regime),
            "badge": badge(one), "seen": to_dict(one.seen) if one.seen else None,
            "claims": [_claim_document(claim) for claim in one.claims], "holds": holds.get(one.gotcha, []),
            "gates": [to_dict(gate) for gate in one.gates], "doubts": [to_dict(doubt) for doubt in one.doubts],
        }
        for one in verdicts.gotchas
    ]  # fmt: skip
    found: dict[str, Any] = _strict(
        {"format_version": 1, "run": verdicts.run, "partial": verdicts.partial, "gotchas": gotchas}
    )
    return found


def exit_code(verdicts: RunVerdicts) -> int:
    """0 every claim reproduced, 1 one was not, 2 inconclusive or invalid (which outranks 1: it is not known)."""
    if not verdicts.gotchas:
        return 2
    return max(EXIT[one.verdict] for one in verdicts.gotchas)


def judge_again(run: RunFolder, *, colored: bool = False, details: bool = False) -> Finished:
    """Judge a stored run from its own plan and write verdicts.json; ``colored`` and ``details`` are about the table.  Raises StoreError."""
    verdicts = judge_run(run)
    write_verdicts(run, verdicts)
    return Finished(
        run.name,
        with_effort(document(verdicts, run.plan.gotchas), run),
        verdicts_text(verdicts, colored=colored, details=details),
        run.derived / "report" / "index.html",
        exit_code(verdicts),
    )


def draw_pages(run: RunFolder) -> Path:
    """Draw a judged run's charts, build its pages and return their index.html.  Raises StoreError."""
    from analysis.report.build import build_report
    from analysis.selftest import for_report

    found = yardstick_of(run)
    return build_report(run.path, ROOT, selftest=for_report(found) if found else None)


def finish(run: RunFolder) -> Finished:
    """Judge, draw and build the pages.  Raises StoreError."""
    return replace(judge_again(run), report=draw_pages(run))


def finish_comparison(run: RunFolder) -> Finished:
    """Judge a grid run, build its pages and the page of the comparison; 0 where every server got a word, else 2.  Raises StoreError."""
    from analysis import compare, compared
    from analysis.report.comparison import build_comparison

    built = finish(run)
    comparisons = [compare.compare_gotcha(run, plan) for plan in run.plan.gotchas]
    page = build_comparison(run, ROOT, comparisons, built.report.parent)
    document = dict(compared.document(run.name, comparisons))
    write_bytes(run.derived / "compare.json", json.dumps(document, indent=1).encode())
    code = 0 if all(compare.is_known(one) for one in comparisons) else 2
    return Finished(run.name, document, compared.table(comparisons), page, code)
