"""Two runs compared: an upgrade, another machine, my fix.  Claim by claim and condition by condition.

Counts that do not vary and laws are compared exactly, whatever the machine.  Everything that varies needs to be known from run to run,
not from pair to pair (``analysis.between``): the runs stored beside the two that are A/A runs of one of them say how far two runs of the
same thing lie apart.  Without three such runs there is no word, and never across machines, seeds, or quick and full.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from analysis import statistics
from analysis.alike import StoredRun, alike, runs_like
from analysis.between import Shift, enough, runs_missing, shared_pairs, shift_of
from analysis.differences import ByPair, Change, Difference, Kinds, Row
from analysis.metrics import Family, family_of
from analysis.model import ClaimVerdict, ConditionVerdict
from analysis.verdicts import EQUIVALENCE, EXACT_FAMILIES
from lab.model import Condition, MetricExpression
from lab.store import RunFolder
from lab.words.errors import StoreError, UsageError
from lab.words.record import Environment

# ---------------------------------------------------------------- what differs around the runs


def environments_differ(a: Environment | None, b: Environment | None) -> tuple[str, ...]:
    """What differs, in words that name both values."""
    if a is None or b is None:
        return ("one of the two has no environment of its own: not recorded, or published from several runs",)
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


def why_not_timed(a: StoredRun, b: StoredRun) -> str:
    """Why what varies cannot be compared between these two at all, and what to do; "" where it can."""
    if a.environment is None or b.environment is None:
        return "one of the two has no environment of its own (not recorded, or published from several runs): compare single runs"
    if a.environment.machine != b.environment.machine:
        return "another machine: only counts that do not vary are compared; run both on one machine"
    if a.plan.mode != b.plan.mode:
        return f"a {a.plan.mode} run and a {b.plan.mode} run last differently long: run both alike"
    if a.plan.seed != b.plan.seed:
        return f"other arrivals: run the second with --seed {a.plan.seed} too"
    return ""


def _surroundings(a: StoredRun, b: StoredRun) -> tuple[str, ...]:
    differ = list(environments_differ(a.environment, b.environment))
    if a.plan.mode != b.plan.mode:
        differ.append(f"mode: {a.plan.mode} -> {b.plan.mode}")
    if a.plan.seed != b.plan.seed:
        differ.append(f"seed: {a.plan.seed} -> {b.plan.seed}: other arrivals and parameters")
    later = {plan.slug: plan.content_hash for plan in b.plan.gotchas}
    differ += [
        f"{plan.slug}: its target or scenario was changed in between"
        for plan in a.plan.gotchas if later.get(plan.slug, plan.content_hash) != plan.content_hash
    ]  # fmt: skip
    return tuple(differ)


def _kinds(a: StoredRun, b: StoredRun, stored: Sequence[StoredRun], slug: str) -> Kinds:
    """The runs of each kind.  Where the two are themselves A/A runs the second is held against all others."""
    like_a = runs_like(a, stored, slug)
    if alike(a, b, slug):
        like_a, like_b = [run for run in like_a if run.folder.path.resolve() != b.folder.path.resolve()], [b]
    else:
        like_b = runs_like(b, stored, slug)
    full = " --full" if a.plan.mode == "full" else ""
    return Kinds(like_a, like_b, why_not_timed(a, b), f"bench.py run {slug}{full} --seed {a.plan.seed}")


# ---------------------------------------------------------------- one row


def _values(one: ConditionVerdict) -> ByPair:
    """The values by pair; by their order where the pairs were not stored."""
    if one.measured is None:
        return {}
    values = one.measured.values
    return dict(zip(one.measured.pairs or range(len(values)), values, strict=True))


def _unusable(one: ConditionVerdict, run: str) -> str:
    """Why this figure of a run says nothing, or ""."""
    if one.verdict == "invalid":
        return f"invalid in {run}: {one.reason}"
    if not _values(one):
        return f"{run}: {one.reason}"
    if not all(map(isfinite, _values(one).values())):
        return f"{run}: some requests were never answered"
    return ""


def _never_alike(a: ConditionVerdict, b: ConditionVerdict) -> bool:
    """Whether both figures are usable but for being "never", and the same in every pair."""
    return "invalid" not in (a.verdict, b.verdict) and bool(_values(a)) and _values(a) == _values(b)


def _runs_cannot_tell(a: ConditionVerdict, b: ConditionVerdict, runs: Sequence[StoredRun]) -> bool:
    """Whether a figure that says nothing is the runs' doing: a gate spoiled it, or only one of them has it, or has it without "never".

    What neither run can have (an overload, a refused metric) is the claim's own.
    """
    if "invalid" in (a.verdict, b.verdict) or (_values(a) and _values(b)):
        return True
    return bool(_unusable(a, runs[0].name)) != bool(_unusable(b, runs[1].name))


def _is_exact(claim: ClaimVerdict, kinds: Sequence[Sequence[ByPair]]) -> bool:
    """Whether a figure is compared exactly: a law about a count, or a count that several trials of each kind show not to vary."""
    families = {family_of(ref) for ref in MetricExpression.parse(claim.metric).refs}
    if not families <= EXACT_FAMILIES - {"memory"}:
        return False
    if claim.tolerance == 0 and claim.relation == "about":
        return True
    seen = [[value for run in kind for value in run.values()] for kind in kinds]
    return all(len(values) > 1 and len(set(values)) == 1 for values in seen)


def exact_change(a: Sequence[float], b: Sequence[float]) -> Change:
    """The word for two sets of values that are what they are."""
    if set(a) == set(b):
        return "same"
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return "unclear" if mean_a == mean_b else "higher" if mean_b > mean_a else "lower"


def change_of(shift: Shift, family: Family, size: float) -> Change:
    """The word for a figure that varies: inside the equivalence band, or on one side of "no change", else unclear."""
    if shift.within(EQUIVALENCE[family], size):
        return "same"
    if not shift.excludes_no_change:
        return "unclear"
    return "higher" if shift.value > (1.0 if shift.logarithmic else 0.0) else "lower"


def _same_load(a: Condition, b: Condition) -> bool:
    return all(
        getattr(a, name) == getattr(b, name)
        for name in ("load", "duration_s", "warmup_s", "duet", "server", "events", "upstream")
    )


def _of_kind(runs: Iterable[StoredRun], slug: str, claim: str, like: Condition) -> list[ByPair]:
    """The values of each run of a kind that measured this claim under this very condition."""
    found = []
    for run in runs:
        try:
            judged, plan = run.judged(slug), run.gotcha(slug)
        except StoreError:
            continue  # one of the stored runs is damaged; of the two themselves it was raised before
        there = next((one for one in plan.conditions if one.key == like.key), None) if plan else None
        if judged is None or there is None or not _same_load(there, like):
            continue
        verdicts = [c for one in judged.claims if one.id == claim for c in one.conditions if c.condition == like.key]
        found += [_values(one) for one in verdicts if not _unusable(one, run.name)]
    return found


@dataclass(frozen=True)
class Told:
    """What can be said of two usable figures: see ``Row``."""

    change: Change
    shift: Shift | None = None
    note: str = ""
    blocked: bool = False


def _told(
    claim: ClaimVerdict, own: Sequence[ByPair], kinds: Kinds, values: Sequence[Sequence[ByPair]],
    names: Sequence[str],
) -> Told:  # fmt: skip
    """The word for the usable figures ``own`` of two runs; ``values`` are those of all runs of each kind."""
    if own[0] == own[1]:
        return Told("same")
    if _is_exact(claim, values):
        return Told(exact_change(list(own[0].values()), list(own[1].values())))
    if kinds.blocked:
        return Told("not comparable", note=kinds.blocked, blocked=True)
    before, after = values
    if not enough(len(before), len(after)):
        have = f"{len(before)} like {names[0]} and {len(after)} like {names[1]} are stored"
        do = f"{runs_missing(len(before), len(after))} more of one: {kinds.again}"
        return Told("not comparable", note=f"the spread between runs is not known ({have}); {do}", blocked=True)
    if not shared_pairs([*before, *after]):
        return Told("not comparable", note="no pair was measured in all of the runs")
    shift = shift_of(before, after)
    family = family_of(MetricExpression.parse(claim.metric).numerator)
    return Told(change_of(shift, family, sum(own[0].values()) / len(own[0])), shift)


def _row(
    slug: str, claim: ClaimVerdict, a: ConditionVerdict, b: ConditionVerdict, kinds: Kinds, runs: Sequence[StoredRun],
) -> Row:  # fmt: skip
    conditions = [plan.condition(a.condition) for run in runs if (plan := run.gotcha(slug)) is not None]
    note = "" if _never_alike(a, b) else _unusable(a, runs[0].name) or _unusable(b, runs[1].name)
    told = Told("not comparable", note=note, blocked=bool(note) and _runs_cannot_tell(a, b, runs))
    if not note and not _same_load(*conditions):
        note = "its load or server was changed in between"
        told = Told("not comparable", note=note)
    if not note:
        of_kinds = zip((kinds.before, kinds.after), conditions, strict=True)
        values = [_of_kind(of, slug, claim.id, like) for of, like in of_kinds]
        told = _told(claim, (_values(a), _values(b)), kinds, values, [run.name for run in runs])
    before, after = (one.quotable.value if one.quotable else None for one in (a, b))
    return Row(slug, claim.id, claim.statement, a.condition, claim.unit, before, after, told.shift, told.change,
               a.verdict, b.verdict, told.note, told.blocked)  # fmt: skip


# ---------------------------------------------------------------- all rows


def _rows_of(a: StoredRun, b: StoredRun, stored: Sequence[StoredRun], slug: str) -> tuple[list[Row], list[str]]:
    """The rows of one gotcha that both runs have."""
    first, second = a.judged(slug), b.judged(slug)
    if first is None or second is None:
        return [], [f"{slug} was judged in one of the runs alone"]
    rows, only = [], []
    kinds = _kinds(a, b, stored, slug)
    claims: Mapping[str, ClaimVerdict] = {claim.id: claim for claim in second.claims}
    for claim in first.claims:
        there = {one.condition: one for one in claims[claim.id].conditions} if claim.id in claims else {}
        for one in claim.conditions:
            if one.condition in there:
                rows.append(_row(slug, claim, one, there[one.condition], kinds, (a, b)))
            else:
                only.append(f"{slug}: {claim.id} under {one.condition} is only in {a.name}")
    return rows, only


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with Holm's p over all that were tested."""
    tested = [(index, row.shift.p_value) for index, row in enumerate(rows) if row.shift is not None]
    holm = dict(zip((index for index, _ in tested), statistics.holm([p for _, p in tested]), strict=True))
    return tuple(replace(row, adjusted_p=holm.get(index)) for index, row in enumerate(rows))


def compare_runs(run_a: RunFolder, run_b: RunFolder, stored: Iterable[RunFolder] = ()) -> Difference:
    """Judge both and compare; ``stored`` are the runs among which A/A runs of the two are looked for.

    Raises UsageError where they have nothing in common, StoreError where one is damaged.
    """
    a, b = StoredRun(run_a), StoredRun(run_b)
    others = [
        StoredRun(run) for run in stored if run.path.resolve() not in (run_a.path.resolve(), run_b.path.resolve())
    ]
    slugs = {"a": [plan.slug for plan in a.plan.gotchas], "b": [plan.slug for plan in b.plan.gotchas]}
    only = [f"{slug} is only in {a.name}" for slug in slugs["a"] if slug not in slugs["b"]]
    only += [f"{slug} is only in {b.name}" for slug in slugs["b"] if slug not in slugs["a"]]
    rows: list[Row] = []
    for slug in (one for one in slugs["a"] if one in slugs["b"]):
        found, alone = _rows_of(a, b, [*others, a, b], slug)
        rows += found
        only += alone
    if not rows:
        raise UsageError(
            f"{a.name} and {b.name} have no claim under the same condition", "Run the same gotchas in both."
        )
    return Difference(a.name, b.name, _adjusted(rows), _surroundings(a, b), tuple(sorted(only)))


def document(found: Difference) -> dict[str, Any]:
    """The difference as ``diff --json`` prints it.

    format_version history
        1  first: ``ratio`` from the pairs inside the two runs
        2  ``shift`` from the spread between runs, with its p value; ``adjusted_p``, ``blocked`` and ``note``
    """
    from lab.words.codec import to_dict

    rows = [{**to_dict(row), "worse": row.worse, "moved": row.moved} for row in found.rows]
    return {
        "format_version": 2, "run_a": found.run_a, "run_b": found.run_b, "environment": list(found.environment),
        "only_one": list(found.only_one), "rows": rows,
    }  # fmt: skip
