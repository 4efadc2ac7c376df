"""What the pages show, as values: nothing here reads a file or knows HTML."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.charts.units import human
from analysis.model import ClaimVerdict, ConditionVerdict, Estimate, GateResult, GotchaVerdict, PairValues, VerdictName
from analysis.report.figures import answered_text, interval_text, predicted_text, value_text
from analysis.report.words import GATES, KINDS, VERDICTS, VerdictWord, load_words, server_words
from analysis.survival import Held, survival_table
from lab.model import CLAIM_KINDS, GotchaPlan, RunPlan
from lab.words.metrics import unit_of

SHOWN_METRICS = (
    ("throughput_rps", "throughput"), ("latency_p50_s", "median"), ("latency_p99_s", "p99"),
    ("cpu_server_s_per_request", "server CPU per request"), ("error_share", "errors"),
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """A claim at one condition as text: what was predicted, measured and how sure that is."""

    condition: str
    predicted: str
    measured: str
    interval: str
    pairs: int
    word: VerdictWord
    reason: str
    is_headline: bool
    is_speaking: bool
    is_interval: bool
    answered: str


@dataclass(frozen=True)
class ClaimView:
    """A claim with its figures at every condition, the headline first; ``speaking`` are those that its verdict comes from."""

    claim: ClaimVerdict
    kind: str
    word: VerdictWord
    speaking: Figures
    rows: tuple[Figures, ...]


def _interval(measured: Estimate | None, unit: str) -> str:
    if measured is None:
        return ""
    if len(measured.values) == 1:
        return "one pair"
    if measured.is_range and not measured.never:
        return f"the least and the most of {len(measured.values)} pairs"
    if measured.lowest == measured.highest:
        return f"the same in all {len(measured.values)} pairs"
    return interval_text(measured, unit)


def _figures(claim: ClaimVerdict, one: ConditionVerdict, labels: Mapping[str, str]) -> Figures:
    seen = one.quotable
    return Figures(
        labels.get(one.condition, one.condition), predicted_text(claim, one), value_text(seen, claim.unit),
        _interval(seen, claim.unit), one.pairs, VERDICTS[one.verdict], one.reason, one.condition == claim.headline,
        one.condition == claim.speaking.condition, bool(interval_text(seen, claim.unit)), answered_text(one) if seen else "",
    )  # fmt: skip


def claim_view(claim: ClaimVerdict, labels: Mapping[str, str]) -> ClaimView:
    """A claim as the page shows it; ``labels`` name the conditions by key."""
    rows = tuple(_figures(claim, one, labels) for one in claim.conditions)
    rows = tuple(sorted(rows, key=lambda row: not row.is_headline))
    speaking = next(row for row in rows if row.is_speaking)
    return ClaimView(
        claim, KINDS.get(claim.kind, (claim.kind.capitalize(), ""))[0], VERDICTS[claim.verdict], speaking, rows
    )


def claim_views(verdict: GotchaVerdict, plan: GotchaPlan) -> list[ClaimView]:
    """All claims in the order harm, mechanism, fix, tax; what is held under faults has a separate table."""
    labels = {c.key: c.label for c in plan.conditions}
    told = [claim for claim in verdict.claims if claim.kind != "hold"]
    ordered = sorted(told, key=lambda c: [*CLAIM_KINDS, c.kind].index(c.kind))
    return [claim_view(claim, labels) for claim in ordered]


@dataclass(frozen=True)
class SurvivalRow:
    """One fault with what every variant did under it, as text: label, answered within, ledger, recovered after, signs, word, note."""

    fault: str
    arms: tuple[tuple[str, str, tuple[str, ...], str], ...]


def survival_rows(plan: GotchaPlan, verdict: GotchaVerdict) -> tuple[tuple[str, ...], list[SurvivalRow]]:
    """The fault matrix: the names of its columns, and a row for each fault."""
    found = survival_table(plan, verdict)
    words = tuple(plan.survival.ledger) if plan.survival else ()
    by_fault: dict[str, list[Held]] = {}
    for one in found:
        by_fault.setdefault(one.fault, []).append(one)
    rows = [SurvivalRow(fault, tuple(_arm(one) for one in arms)) for fault, arms in by_fault.items()]
    return ("answered within", *words, "works again after", "log lines and errors"), rows


def _arm(one: Held) -> tuple[str, str, tuple[str, ...], str]:
    cells = (
        _known(one.answered_s, "s"), *(_known(value, "") for value in one.ledger.values()), _known(one.recovered_s, "s"),
        _known(one.signs, ""),
    )  # fmt: skip
    labels: dict[str, str] = {name: word.label for name, word in VERDICTS.items()}
    labels |= {"reproduced": "✓ holds", "limit": "a limit", "": ""}
    return one.label, labels.get(one.word, one.word), cells, one.limit or ("" if one.holds else one.reason)


def _known(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return "never" if value == math.inf else human(value, unit)


@dataclass(frozen=True)
class Surety:
    """How sure a page is, in figures."""

    pairs: str
    claims_met: int
    claims: int
    gates_passed: int
    gates_failed: tuple[GateResult, ...]
    doubts: int
    is_indicative: bool


def surety(verdict: GotchaVerdict) -> Surety:
    """Pairs, claims, gates and doubts, counted."""
    pairs = sorted({one.pairs for claim in verdict.claims for one in claim.conditions if one.measured})
    text = "no pair" if not pairs else f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    return Surety(
        f"{text} {'pair' if pairs == [1] else 'pairs'} a condition" if pairs else text,
        sum(c.verdict == "reproduced" for c in verdict.claims), len(verdict.claims),
        sum(g.passed is True for g in verdict.gates), tuple(g for g in verdict.gates if g.passed is False),
        len(verdict.doubts), any(c.indicative for c in verdict.claims),
    )  # fmt: skip


@dataclass(frozen=True)
class ConditionRow:
    """One condition with what every variant did under it."""

    label: str
    load: str
    server: str
    params: str
    is_control: bool
    variants: tuple[tuple[str, int, tuple[str, ...]], ...]


def condition_table(verdict: GotchaVerdict, plan: GotchaPlan) -> tuple[tuple[str, ...], list[ConditionRow]]:
    """The standard metrics' means by condition and variant: column names, rows."""
    seen = {m for c in verdict.metrics.values() for v in c.values() for m, values in v.items() if values}
    columns = [(metric, name) for metric, name in SHOWN_METRICS if metric in seen]
    rows = []
    for condition in plan.conditions:
        arms = []
        for variant in plan.variants_of(condition):
            values = verdict.metrics.get(condition.key, {}).get(variant, {})
            cells = tuple(_mean(values.get(metric, ()), unit_of(metric)) for metric, _ in columns)
            arms.append((variant, max((sum(one is not None for one in v) for v in values.values()), default=0), cells))
        params = ", ".join(f"{name}={value}" for name, value in condition.params.items())
        rows.append(
            ConditionRow(
                condition.label, load_words(condition), server_words(condition), params, condition.control, tuple(arms)
            )
        )
    return tuple(name for _, name in columns), rows


def _mean(values: PairValues, unit: str) -> str:
    """The mean over pairs; of a metric that was never read in some of them the others' mean would flatter it."""
    known = [value for value in values if value is not None]
    never = sum(value == math.inf for value in known)
    if never:
        return "never" if never == len(known) else f"never in {never} of {len(known)}"
    return human(sum(known) / len(known), unit) if known else "–"


@dataclass(frozen=True)
class GateRow:
    """One gate over all conditions."""

    gate: str
    words: str
    passed: int
    failed: int
    skipped: int
    details: tuple[tuple[str, str, str, str], ...]


def gate_rows(gates: Iterable[GateResult], labels: Mapping[str, str]) -> list[GateRow]:
    """Gates in order, each with (condition, passed | failed | not applicable, detail, advice)."""
    by_name: dict[str, list[GateResult]] = {}
    for gate in gates:
        by_name.setdefault(gate.gate, []).append(gate)
    words = {True: "passed", False: "failed", None: "not applicable"}
    return [
        GateRow(
            name, GATES.get(name.split()[0], ""), sum(g.passed is True for g in group), sum(g.passed is False for g in group),
            sum(g.passed is None for g in group),
            tuple((labels.get(g.condition, g.condition), words[g.passed], g.detail, g.advice if g.passed is False else "") for g in group),
        )
        for name, group in sorted(by_name.items(), key=lambda one: (len(one[0]), one[0]))
    ]  # fmt: skip


# ---------------------------------------------------------------- the source's claims


@dataclass(frozen=True)
class Judge:
    """A gotcha that judges a claim of the source."""

    slug: str
    title: str
    word: VerdictWord
    disagrees: str


@dataclass(frozen=True)
class SourceClaim:
    """A claim of the source's table of contents, in our words, and who judges it."""

    part: int
    part_title: str
    claim: str
    catalogue_ids: tuple[str, ...]
    judges: tuple[Judge, ...]


def source_claims(plans: Sequence[GotchaPlan], verdicts: Mapping[str, VerdictName]) -> list[SourceClaim]:
    """Every claim with the judged gotchas that share a catalogue entry with it."""
    document: Any = json.loads((Path(__file__).parent / "source_claims.json").read_text(encoding="utf-8"))
    found = []
    for part in document["parts"]:
        for one in part["claims"]:
            ids = tuple(one["catalogue_ids"])
            judges = tuple(
                Judge(plan.slug, plan.title, VERDICTS[verdicts[plan.slug]], plan.disagrees_with_source)
                for plan in plans if plan.slug in verdicts and set(ids) & set(plan.catalogue_ids)
            )  # fmt: skip
            found.append(SourceClaim(part["part"], part["title"], one["claim"], ids, judges))
    return found


# ---------------------------------------------------------------- how to repeat it


def repeat_command(plan: RunPlan, slug: str) -> str:
    """The command that runs a gotcha again with the same arrivals and order."""
    parts = ["uv run bench.py run", slug, f"--seed {plan.seed}"]
    if plan.mode != "quick":
        parts.append(f"--{plan.mode}")
    usual = max((g.full_pairs if plan.mode == "full" else g.quick_pairs for g in plan.gotchas), default=plan.pairs)
    if plan.pairs != usual:
        parts.append(f"--pairs {plan.pairs}")
    return " ".join(parts)
