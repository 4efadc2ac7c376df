"""What is published: each gotcha from the best run that there is of it, without raw samples; and what READMEs quote from it.

``results/published`` looks like one run's folder (plan.json, derived/verdicts.json, derived/report), put together from several:
``origins.json`` says which gotcha comes from which, and ``environments/`` has the machine and versions of each of these runs.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.combined import Part, combined
from analysis.model import GotchaVerdict, RunVerdicts
from analysis.origins import FILE, Mode, Origin, Origins, origins_of, stale_gotchas
from analysis.report.build import STAMP, build_report
from analysis.report.matrix import (
    MEASURED_BEGIN,
    MEASURED_END,
    RESULTS_BEGIN,
    RESULTS_END,
    matrix_markdown,
    measured_markdown,
    results_markdown,
    update_readme,
)
from analysis.report.pages import repeat_command
from analysis.selftest import for_report
from analysis.yardstick import yardstick_of
from lab.model import GotchaPlan, RunPlan, TrialPlan
from lab.store import YARDSTICK, RunFolder, write_bytes
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError, UsageError

PUBLISHED = "published"
LIMIT_BYTES = 60_000_000
RANKS: tuple[Mode, ...] = ("faults", "quick", "full")
"""Modes of a run, the poorer before the richer: a poorer one does not take the place of a richer one by itself.  Faults add to either."""


@dataclass(frozen=True)
class Published:
    """What came of publishing: the folder, the gotchas that were taken, and why others of the run were left, by slug."""

    path: Path
    taken: tuple[str, ...]
    left: Mapping[str, str]


@dataclass(frozen=True)
class _Entry:
    """One gotcha as it will be published; ``folder`` is the run that its environment and charts are copied from."""

    part: Part
    origin: Origin
    folder: RunFolder
    environments: Mapping[str, Path]
    """By their places in the published folder."""

    @property
    def plan(self) -> GotchaPlan:
        """What was planned."""
        return self.part.plan

    @property
    def trials(self) -> tuple[TrialPlan, ...]:
        """The trials of the plan."""
        return self.part.trials

    @property
    def verdict(self) -> GotchaVerdict:
        """What came of it."""
        return self.part.verdict

    @property
    def charts(self) -> Path:
        """Where its pictures and their numbers are."""
        return self.folder.derived / "report" / "charts" / self.plan.slug.replace("/", ".")


def verdicts_of(run: RunFolder) -> RunVerdicts:
    """The stored verdicts of a run.  Raises StoreError where there are none."""
    path = run.derived / "verdicts.json"
    try:
        return from_json(RunVerdicts, path.read_bytes(), str(path))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", "`bench.py report` makes it.") from error


def publish(
    run: RunFolder, results: Path, readme: Path, shown: Sequence[str], only: Sequence[str] = (), replace_richer: bool = False
) -> Published:  # fmt: skip
    """Take the gotchas of a judged run (``only`` these, where any are named) into ``results/published`` and renew what READMEs quote.

    Left are a gotcha with missing trials, and one of which a richer run is published and still of today (a full one, while this is
    quick), unless ``replace_richer``.  Raises UsageError where nothing can be taken or it is more than ``LIMIT_BYTES``, StoreError
    where something cannot be read or written.
    """
    before = RunFolder(results / PUBLISHED)
    if run.path.resolve() == before.path.resolve():
        raise UsageError("this is the published set itself", "`bench.py publish --refresh` builds its pages again.")
    entries, root = _stored(before, readme.parent), readme.parent
    stale = stale_gotchas(before.path, tuple(one.plan for one in entries.values()), root)
    taken, left = [], {}
    for slug, entry in _entries(run, _single_origins(run)).items():
        if only and slug not in only:
            continue
        old = entries.get(slug)
        if why := _why_left(run, entry, old, slug in stale or replace_richer):
            left[slug] = why
        else:
            entries[slug] = _joined(entry, old)
            taken.append(slug)
    if unknown := [slug for slug in only if slug not in taken and slug not in left]:
        raise UsageError(f"{run.name} has no verdict on {unknown[0]}", "`bench.py verdict RUN` says what it has.")
    if not taken:
        reasons = "; ".join(f"{slug}: {why}" for slug, why in left.items()) or "it has no verdicts"
        raise UsageError(f"nothing of {run.name} can be published: {reasons}", "Run the gotcha to its end.")
    published = _put(entries, before, root, run.path / YARDSTICK)
    _quote(published, readme, shown)
    return Published(published.path, tuple(taken), left)


def refresh(results: Path, readme: Path, shown: Sequence[str]) -> Path:
    """Build the published pages and what READMEs quote again, from what is published: marks what has changed since.  Raises StoreError."""
    before = RunFolder(results / PUBLISHED)
    published = _put(_stored(before, readme.parent), before, readme.parent, before.path / YARDSTICK)
    _quote(published, readme, shown)
    return published.path


def _why_left(run: RunFolder, new: _Entry, old: _Entry | None, may_replace: bool) -> str:
    missing = [t for t in new.trials if not run.trial(t.gotcha, t.condition, t.pair, t.variant).exists]
    if missing:
        return f"{len(missing)} of {len(new.trials)} trials are missing"
    same = old is not None and old.plan.content_hash == new.plan.content_hash
    if old is not None and old.part.has_claims and not new.part.has_claims:
        return (
            ""
            if same
            else "its faults were tried on other code than what is published: publish a run of its claims first"
        )
    if old is not None and not may_replace and RANKS.index(new.origin.mode) < RANKS.index(old.origin.mode):
        return f"this run is {new.origin.mode}, the published one of {old.origin.day} is {old.origin.mode}"
    return ""


def _joined(new: _Entry, old: _Entry | None) -> _Entry:
    """The new one; what it has no part of is kept from the old one, as long as that is of the same files."""
    if old is None or old.plan.content_hash != new.plan.content_hash:
        return new
    if new.part.has_claims and not new.part.has_faults and old.part.has_faults:
        main, survival = new, old
    elif new.part.has_faults and not new.part.has_claims and old.part.has_claims:
        main, survival = old, new
    else:
        return new
    tried = survival.origin.faults or replace(survival.origin, faults=None)
    environments = {**main.environments, tried.environment: survival.environments[tried.environment]}
    return _Entry(combined(main.part, survival.part), replace(main.origin, faults=tried), main.folder, environments)


def _single_origins(run: RunFolder) -> dict[str, Origin]:
    """The origin of every gotcha of one run."""
    plan = run.plan
    return {
        one.slug: Origin(
            plan.run, plan.mode, plan.seed, plan.created_at, repeat_command(plan, one.slug), f"environments/{plan.run}.json"
        )
        for one in plan.gotchas
    }  # fmt: skip


def _entries(run: RunFolder, origins: Mapping[str, Origin]) -> dict[str, _Entry]:
    judged = {one.gotcha: one for one in verdicts_of(run).gotchas}
    every = (*run.plan.trials, *run.added)
    found = {}
    for plan in run.plan.gotchas:
        if plan.slug in judged:
            origin = origins[plan.slug]
            places = [one.environment for one in (origin, origin.faults) if one is not None]
            environments = {
                place: run.path / place if (run.path / place).is_file() else run.path / "environment.json"
                for place in places
            }
            part = Part(plan, tuple(trial for trial in every if trial.gotcha == plan.slug), judged[plan.slug])
            found[plan.slug] = _Entry(part, origin, run, environments)
    return found


def _stored(published: RunFolder, root: Path) -> dict[str, _Entry]:
    """What is published, without gotchas that the lab no longer has; also from a folder that holds one run (the older form)."""
    if not (published.path / "plan.json").is_file():
        return {}
    origins = origins_of(published.path) or _single_origins(published)
    entries = _entries(published, origins)
    return {slug: entry for slug, entry in entries.items() if (root / "scenarios" / f"{slug}.py").is_file()}


def _put(entries: Mapping[str, _Entry], target: RunFolder, root: Path, yardstick: Path) -> RunFolder:
    """Write the set aside, build its pages, and put it in the place of the one before, which is returned as it then is."""
    fresh = RunFolder(target.path.with_name(f".{target.path.name}.new"))
    shutil.rmtree(fresh.path, ignore_errors=True)
    try:
        _assemble(entries, target, fresh, root, yardstick)
        size = sum(path.stat().st_size for path in fresh.path.rglob("*") if path.is_file())
        if size > LIMIT_BYTES:
            raise UsageError(
                f"{size / 1e6:.0f} MB are too much to publish (limit {LIMIT_BYTES / 1e6:.0f})", "Publish fewer gotchas."
            )
        shutil.rmtree(target.path, ignore_errors=True)
        fresh.path.rename(target.path)
        return RunFolder(target.path)
    finally:
        shutil.rmtree(fresh.path, ignore_errors=True)


def _assemble(entries: Mapping[str, _Entry], before: RunFolder, fresh: RunFolder, root: Path, yardstick: Path) -> None:
    ordered = [entries[slug] for slug in sorted(entries)]
    newest = max((one.origin for one in ordered), key=lambda origin: origin.created_at)
    plan = RunPlan(
        PUBLISHED, max((one.origin.mode for one in ordered), key=RANKS.index), newest.seed, newest.created_at,
        tuple(one.plan for one in ordered), tuple(trial for one in ordered for trial in one.trials),
        max(trial.pair for one in ordered for trial in one.trials) + 1,
    )  # fmt: skip
    fresh.write_plan(plan)
    write_bytes(fresh.path / FILE, to_json(Origins({one.plan.slug: one.origin for one in ordered})))
    write_bytes(fresh.derived / "verdicts.json", to_json(RunVerdicts(PUBLISHED, tuple(one.verdict for one in ordered))))
    report = fresh.derived / "report"
    painters = set()
    for one in ordered:
        for place, path in one.environments.items():
            if path.is_file() and not (fresh.path / place).is_file():
                (fresh.path / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, fresh.path / place)
        if one.charts.is_dir():
            shutil.copytree(one.charts, report / "charts" / one.charts.name)
            painters.add(_painter(one.folder))
    environments = list((fresh.path / "environments").glob("*.json"))
    if len(environments) == 1:  # else the set as a whole has none, and a comparison with it says so
        shutil.copyfile(environments[0], fresh.path / "environment.json")
    if yardstick.is_file() or (yardstick := before.path / YARDSTICK).is_file():
        shutil.copyfile(yardstick, fresh.path / YARDSTICK)
    if (kept := before.path / "stability").is_dir():
        shutil.copytree(kept, fresh.path / "stability")
    # The pages are built without trials, so that they link to nothing that is not published; charts keep their stored numbers, and are
    # painted again where they were not all painted by the same code.
    painter = painters.pop() if len(painters) == 1 else ""
    write_bytes(report / STAMP, json.dumps({"format_version": 1, "run": PUBLISHED, "painter": painter}).encode())
    seen = yardstick_of(fresh)
    build_report(fresh.path, root, selftest=for_report(seen) if seen else None)


def _painter(run: RunFolder) -> str:
    stamp: dict[str, str] = json.loads((run.derived / "report" / STAMP).read_text(encoding="utf-8"))
    return stamp.get("painter", "")


def _quote(published: RunFolder, readme: Path, shown: Sequence[str]) -> None:
    """Renew the README's matrix and first results, and what each gotcha's README says of its run."""
    root = readme.parent
    verdicts, plans, origins = verdicts_of(published), published.plan.gotchas, origins_of(published.path)
    update_readme(readme, matrix_markdown(verdicts, plans, origins, stale_gotchas(published.path, plans, root)))
    update_readme(readme, results_markdown(verdicts, shown), (RESULTS_BEGIN, RESULTS_END))
    judged = {one.gotcha: one for one in verdicts.gotchas}
    for plan in plans:
        page = root / "targets" / plan.slug / "README.md"
        if page.is_file():
            text = measured_markdown(plan, judged[plan.slug], origins[plan.slug].day)
            update_readme(page, text, (MEASURED_BEGIN, MEASURED_END))
