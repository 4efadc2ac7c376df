"""Two runs compared: an upgrade, another machine, my fix.  Claim by claim and condition by condition, paired where pairs exist.

Two runs with one seed had the same arrivals in the same pair, so the ratio B / A is taken pair by pair; with different seeds it is
Welch's interval of the two means of logarithms (Welch, Biometrika 34, 1947).  On another machine times are not compared, counts are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from analysis import statistics
from analysis.judge import judge_run
from analysis.metrics import Family, family_of
from analysis.model import VERDICT_ORDER, ClaimVerdict, ConditionVerdict, Estimate, RunVerdicts
from analysis.verdicts import EQUIVALENCE
from lab.errors import StoreError, UsageError
from lab.model import MetricExpression
from lab.record import Environment
from lab.store import RunFolder

Change: TypeAlias = Literal["same", "higher", "lower", "unclear", "not comparable"]
FAIL_ON = ("verdict", "figure", "environment")
TIMED: frozenset[Family] = frozenset({"time", "inside", "rate", "cpu"})


@dataclass(frozen=True)
class Row:
    """One claim under one condition in both runs.  ``ratio`` is B / A with its interval; ``worse`` says that the verdict got worse."""

    gotcha: str
    claim: str
    statement: str
    condition: str
    unit: str
    before: float | None
    after: float | None
    ratio: Estimate | None
    change: Change
    verdict_before: str
    verdict_after: str
    note: str = ""

    @property
    def worse(self) -> bool:
        """Whether the verdict is worse than before."""
        order = list(VERDICT_ORDER)
        return order.index(self.verdict_after) < order.index(self.verdict_before)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Difference:
    """All rows, what differs in the surroundings, and what only one of the runs has."""

    run_a: str
    run_b: str
    rows: tuple[Row, ...]
    environment: tuple[str, ...]
    only_one: tuple[str, ...]
    paired: bool

    def failures(self, fail_on: Sequence[str]) -> list[Row]:
        """The rows that a gate with these conditions objects to."""
        return [
            row for row in self.rows
            if ("verdict" in fail_on and row.worse) or ("figure" in fail_on and row.change in ("higher", "lower"))
        ]  # fmt: skip

    def fails(self, fail_on: Sequence[str]) -> bool:
        """Whether a gate with these conditions is closed."""
        return bool(self.failures(fail_on)) or ("environment" in fail_on and bool(self.environment))


def environments_differ(a: Environment | None, b: Environment | None) -> tuple[str, ...]:
    """What differs, in words that name both values."""
    if a is None or b is None:
        return ("one of the runs did not record its environment",)
    found = [
        f"{name}: {one} -> {other}"
        for name, one, other in (
            ("Python", a.python, b.python), ("platform", a.platform, b.platform), ("CPU", a.cpu_model, b.cpu_model),
            ("cores", a.cores, b.cores),
        )
        if one != other
    ]  # fmt: skip
    for kind, one, other in (("package", a.packages, b.packages), ("service", a.services, b.services)):
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                found.append(f"{kind} {name}: {one.get(name, 'none')} -> {other.get(name, 'none')}")
    return tuple(found)


def same_machine(a: Environment | None, b: Environment | None) -> bool:
    """Whether times may be compared: the same kind of CPU, as many cores, the same platform."""
    if a is None or b is None:
        return False
    return (a.cpu_model, a.cores, a.platform) == (b.cpu_model, b.cores, b.platform)


def ratio_of(a: Sequence[float], b: Sequence[float], paired: bool) -> Estimate | None:
    """B / A with its 95 % interval; None where a value is 0 or below (then there is no ratio)."""
    if not a or not b or min(*a, *b) <= 0:
        return None
    if paired and len(a) == len(b):
        return statistics.of_ratios([after / before for before, after in zip(a, b, strict=True)])
    x, y = np.log(a), np.log(b)
    difference = float(y.mean() - x.mean())
    if len(x) < 2 or len(y) < 2:
        return Estimate(math.exp(difference), None, None, (math.exp(difference),))
    spread = (float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y))
    error = math.sqrt(sum(spread))
    if error == 0:
        value = math.exp(difference)
        return Estimate(value, value, value, (value,))
    freedom = sum(spread) ** 2 / (spread[0] ** 2 / (len(x) - 1) + spread[1] ** 2 / (len(y) - 1))
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Estimate(
        math.exp(difference), math.exp(difference - half), math.exp(difference + half), (math.exp(difference),)
    )


def change_of(a: Sequence[float], b: Sequence[float], ratio: Estimate | None, family: Family, exact: bool) -> Change:
    """The word: a law changes when its values do; anything else where the interval lies on one side of "no difference"."""
    if exact or ratio is None:
        if sorted(set(a)) == sorted(set(b)):
            return "same"
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        return "unclear" if mean_a == mean_b else "higher" if mean_b > mean_a else "lower"
    if ratio.low is None or ratio.high is None:
        return "unclear"
    band = 1 + EQUIVALENCE[family]
    if ratio.low >= 1 / band and ratio.high <= band:
        return "same"
    return "higher" if ratio.low > 1 else "lower" if ratio.high < 1 else "unclear"


def _row(
    gotcha: str, claim: ClaimVerdict, a: ConditionVerdict, b: ConditionVerdict, paired: bool, machine: bool
) -> Row:
    expression = MetricExpression.parse(claim.metric)
    family = family_of(expression.numerator)
    values = [one.measured.values if one.measured else () for one in (a, b)]
    figures = [one.measured.value if one.measured else None for one in (a, b)]
    ratio, note = None, ""
    if not all(values):
        change: Change = "not comparable"
        note = (b if not values[1] else a).reason
    elif not machine and family in TIMED and expression.denominator is None:
        change, note = "not comparable", "another machine: only counts and ratios are compared"
    else:
        law = claim.tolerance == 0 and claim.relation == "about" and family not in TIMED
        ratio = None if law else ratio_of(values[0], values[1], paired)
        change = change_of(values[0], values[1], ratio, family, law)
    return Row(
        gotcha,
        claim.id,
        claim.statement,
        a.condition,
        claim.unit,
        figures[0],
        figures[1],
        ratio,
        change,
        a.verdict,
        b.verdict,
        note,
    )


def _rows(a: RunVerdicts, b: RunVerdicts, paired: bool, machine: bool) -> tuple[list[Row], list[str]]:
    rows, only = [], []
    later = {one.gotcha: one for one in b.gotchas}
    only += [f"{slug} is only in {b.run}" for slug in later.keys() - {one.gotcha for one in a.gotchas}]
    for gotcha in a.gotchas:
        if gotcha.gotcha not in later:
            only.append(f"{gotcha.gotcha} is only in {a.run}")
            continue
        claims = {claim.id: claim for claim in later[gotcha.gotcha].claims}
        for claim in gotcha.claims:
            there = {one.condition: one for one in claims[claim.id].conditions} if claim.id in claims else {}
            rows += [_row(gotcha.gotcha, claim, one, there[one.condition], paired, machine)
                     for one in claim.conditions if one.condition in there]  # fmt: skip
            only += [f"{gotcha.gotcha}: {claim.id} under {one.condition} is only in {a.run}"
                     for one in claim.conditions if one.condition not in there]  # fmt: skip
    return rows, only


def _environment(run: RunFolder) -> Environment | None:
    try:
        return run.environment
    except StoreError:
        return None


def compare_runs(run_a: RunFolder, run_b: RunFolder) -> Difference:
    """Judge both and compare.  Raises UsageError where they have nothing in common, StoreError where one is damaged."""
    a, b = _environment(run_a), _environment(run_b)
    paired = run_a.plan.seed == run_b.plan.seed
    rows, only = _rows(judge_run(run_a), judge_run(run_b), paired, same_machine(a, b))
    if not rows:
        raise UsageError(
            f"{run_a.name} and {run_b.name} have no claim under the same condition", "Run the same gotchas in both."
        )
    differ = list(environments_differ(a, b))
    if run_a.plan.mode != run_b.plan.mode:
        differ.append(f"mode: {run_a.plan.mode} -> {run_b.plan.mode}")
    if not paired:
        differ.append(f"seed: {run_a.plan.seed} -> {run_b.plan.seed}: the runs cannot be paired, intervals are wider")
    hashes = {plan.slug: plan.content_hash for plan in run_b.plan.gotchas}
    differ += [
        f"{plan.slug}: its target or scenario was changed in between"
        for plan in run_a.plan.gotchas if hashes.get(plan.slug, plan.content_hash) != plan.content_hash
    ]  # fmt: skip
    return Difference(run_a.name, run_b.name, tuple(rows), tuple(differ), tuple(sorted(only)), paired)


def document(found: Difference) -> dict[str, Any]:
    """The difference as ``diff --json`` prints it."""
    from lab.codec import to_dict

    rows = [{**to_dict(row), "worse": row.worse} for row in found.rows]
    return {
        "format_version": 1, "run_a": found.run_a, "run_b": found.run_b, "paired": found.paired, "environment": list(found.environment),
        "only_one": list(found.only_one), "rows": rows,
    }  # fmt: skip
