"""The fault matrix as a table: what each variant did under each fault, in the four numbers that ``lab.catalog.faults`` asks for.

What the remedies claim is judged as claims of the kind ``hold``; here their numbers stand beside those of the naive app, one row for each
variant and fault.  A hole that the scenario names is a *limit*: measured, shown, and not counted as held.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.model import GotchaVerdict, VerdictName
from analysis.verdicts import worst
from lab.catalog.faults import ANSWERS, RECOVERS, SEEN
from lab.model import GotchaPlan, Survival
from lab.words.metrics import parse_metric

LIMIT, NOT_TOLD = "limit", "not told"


@dataclass(frozen=True)
class Held:
    """One variant under one fault.

    ``answered_s``, ``recovered_s`` are seconds (inf: never), ``ledger`` maps a word to how many, ``signs`` counts lines and failures; None
    where it was not measured.  ``word`` is the verdict of the claims, ``limit`` where the scenario names the hole, "" for the naive app, of
    which nothing is claimed.
    """

    fault: str
    variant: str
    label: str
    answered_s: float | None
    ledger: dict[str, float | None]
    recovered_s: float | None
    signs: float | None
    word: VerdictName | str
    limit: str
    reason: str

    @property
    def holds(self) -> bool:
        """Whether everything that is claimed of it came out."""
        return self.word == "reproduced"


def _value(verdict: GotchaVerdict, key: str, variant: str, metric: str) -> float | None:
    values = [one for one in verdict.metrics.get(key, {}).get(variant, {}).get(metric, ()) if one is not None]
    return max(values) if values else None


def _judged(verdict: GotchaVerdict, variant: str, key: str, words: tuple[str, ...]) -> tuple[VerdictName | str, str]:
    """The worst verdict of a variant's claims under one fault and its reason; no claim at all is not told."""
    names = {f"{variant}_{word}" for word in (ANSWERS, RECOVERS, SEEN, *words)}
    found = [
        one
        for claim in verdict.claims if claim.kind == "hold" and claim.id in names
        for one in claim.conditions if one.condition == key
    ]  # fmt: skip
    if not found:
        return NOT_TOLD, ""
    name = worst(one.verdict for one in found)
    return name, next(one.reason for one in found if one.verdict == name)


def _row(plan: GotchaPlan, verdict: GotchaVerdict, survival: Survival, key: str, fault: str, variant: str) -> Held:
    limit = survival.limits.get(f"{variant}: {fault}", "")
    word, reason = ("", "") if variant == "naive" else _judged(verdict, variant, key, tuple(survival.ledger))
    ledger = {name: _value(verdict, key, variant, metric) for name, metric in survival.ledger.items()}
    return Held(
        fault, variant, plan.label_of(variant), _value(verdict, key, variant, "hold_answer_s"), ledger,
        _value(verdict, key, variant, "hold_recovery_s"), _value(verdict, key, variant, "hold_signs"),
        LIMIT if limit else word, limit, reason,
    )  # fmt: skip


def survival_table(plan: GotchaPlan, verdict: GotchaVerdict) -> list[Held]:
    """A row for each fault that was run and each variant, the naive app first; empty where no fault was run."""
    survival = plan.survival
    if survival is None:
        return []
    return [
        _row(plan, verdict, survival, condition.key, condition.fault, variant)
        for condition in plan.conditions if condition.fault and condition.key in verdict.metrics
        for variant in plan.variants_of(condition)
    ]  # fmt: skip


def survived_text(rows: list[Held]) -> str:
    """ "9 of 11 held, 1 limit named": remedies times faults; "" where no fault was run."""
    own = [row for row in rows if row.variant != "naive"]
    if not own:
        return ""
    limits = sum(row.word == LIMIT for row in own)
    remedies = len({row.variant for row in own})
    over = "faults" if remedies == 1 else f"faults over {remedies} remedies"
    text = f"{sum(row.holds for row in own)} of {len(own)} {over} held"
    return text + (f", {limits} {'limit' if limits == 1 else 'limits'} named" if limits else "")


def fault_metrics(plan: GotchaPlan) -> Iterator[tuple[str, str]]:
    """Name and argument of all that a trial under a fault is measured by, in every variant."""
    yield from (("hold_answer_s", ""), ("hold_recovery_s", ""), ("hold_signs", ""))
    if plan.survival is not None:
        yield from (parse_metric(metric) for metric in plan.survival.ledger.values())


def holds_document(rows: list[Held]) -> list[dict[str, object]]:
    """The table as ``--json`` prints it."""
    return [
        {
            "kind": "hold", "fault": row.fault, "variant": row.variant, "label": row.label, "answered_s": row.answered_s,
            "ledger": row.ledger, "recovered_s": row.recovered_s, "signs": row.signs, "verdict": row.word, "limit": row.limit,
        }
        for row in rows
    ]  # fmt: skip
