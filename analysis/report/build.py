"""The report: one folder of pages that works from a file and from any static host, made from stored data alone."""

import json
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape

from analysis import summary
from analysis.charts.model import ChartData
from analysis.charts.style import page_css, token_of
from analysis.charts.units import human
from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts
from analysis.origins import Origin, environment_of, origins_of, stale_gotchas
from analysis.report import pages, prose, words
from analysis.report.code import code_css, comparisons
from analysis.report.costs import cost, how_sure
from analysis.report.figures import value_text
from analysis.report.matrix import figures, lead
from analysis.report.pictures import draw_all, mechanism_index, painter_hash
from analysis.survival import survival_table, survived_text
from lab.model import GotchaPlan, RunPlan
from lab.store import RunFolder, TrialFolder, write_bytes
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError, UsageError
from lab.words.record import Environment

HERE = Path(__file__).parent
STAMP = "report.json"
"""Says that a folder is a report, and by which painter its charts were made: only such a folder is ever replaced."""


@dataclass(frozen=True)
class Site:
    """What every page of one report is made from.  ``raw`` is the way from the report's root to the run, "" where it stands elsewhere.

    ``origins`` has the run of each gotcha where they come from several (the published set), ``stale`` what has changed since, by slug.
    """

    run: RunFolder
    plan: RunPlan
    environment: Environment | None
    verdicts: RunVerdicts
    root: Path
    raw: str
    selftest: Mapping[str, Any] | None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)


def seen(claim: ClaimVerdict) -> str:
    """What was measured where the claim's verdict comes from."""
    return value_text(claim.speaking.quotable, claim.unit)


def page_name(slug: str) -> str:
    """A gotcha's page below the report's root."""
    return f"gotchas/{slug.replace('/', '.')}.html"


def templates() -> Templates:
    """The pages' templates with their filters; everything is escaped."""
    found = Templates(
        loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters.update(finding=lambda seen: summary.line(seen).replace(" -> ", " → "), cost=cost)
    found.filters.update(human=human, topic=words.topic_words, page=page_name, figures=figures, seen=seen)
    found.globals.update(
        VERDICTS=words.VERDICTS,
        KINDS=words.KINDS,
        SURVIVES=words.SURVIVES,
        survived=_survived,
        token_of=token_of,
        lead=lead,
        standing_of=summary.standing_of,
    )
    return found


def _load(run_path: Path) -> tuple[RunFolder, RunVerdicts, Environment | None]:
    run = RunFolder(run_path)
    path = run.derived / "verdicts.json"
    if not path.is_file():
        raise StoreError(f"{run_path} has no verdicts", f"Judge it first: `bench.py verdict {run_path.name}`.")
    environment = run.environment if (run_path / "environment.json").is_file() else None
    return run, from_json(RunVerdicts, path.read_bytes(), str(path)), environment


def load_site(run: RunFolder, project_root: Path, report: Path) -> Site:
    """What a further page of a built report is made from.  Raises StoreError where the run was not judged."""
    run, verdicts, environment = _load(run.path.resolve())
    raw = "../" * len(report.resolve().relative_to(run.path).parts)
    return Site(run, run.plan, environment, verdicts, project_root, raw, None)


def build_report(
    run_path: Path, project_root: Path, out: Path | None = None, selftest: Mapping[str, Any] | None = None
) -> Path:
    """Build the pages of a run and return their index.html.

    ``out`` is ``derived/report`` unless given.  ``selftest`` is the newest self-test: ``{"at", "summary", "checks": [{"name",
    "passed", "figure", "detail"}]}``, each key optional.  The new folder takes the old one's place when it is complete.  Raises
    StoreError where the run is damaged or nothing can be written, UsageError where ``out`` is a folder with something else in it.
    """
    run, verdicts, environment = _load(run_path.resolve())
    target = (out or run.derived / "report").resolve()
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / STAMP).is_file())):
        raise UsageError(f"{target} is not an earlier report", "Name a folder that does not exist yet.")
    inside = target.is_relative_to(run.path)
    raw = "../" * len(target.relative_to(run.path).parts) if inside else ""
    stale = stale_gotchas(run.path, run.plan.gotchas, project_root)
    site = Site(run, run.plan, environment, verdicts, project_root, raw, selftest, origins_of(run.path), stale)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.mkdir(parents=True)
        _write(site, aside, _earlier(target, run))
        _swap(aside, target)
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror}", "Choose another folder.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target / "index.html"


def _earlier(target: Path, run: RunFolder) -> Path | None:
    """A report whose chart numbers may stand in for samples that are gone."""
    return next((one for one in (target, run.derived / "report") if (one / STAMP).is_file()), None)


def _swap(new: Path, target: Path) -> None:
    old = new.with_suffix(".old")
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _painted_by(old: Path | None) -> str:
    if old is None:
        return ""
    try:
        return str(json.loads((old / STAMP).read_text(encoding="utf-8")).get("painter", ""))
    except (ValueError, AttributeError):
        return ""


def _write(site: Site, out: Path, old: Path | None) -> None:
    pages_of, painter = templates(), painter_hash()
    repaint = _painted_by(old) != painter
    static = out / "static"
    shutil.copytree(HERE / "static", static, ignore=shutil.ignore_patterns("__pycache__"))
    write_bytes(static / "colors.css", (page_css() + "\n" + code_css()).encode())
    data = out / "data"
    write_bytes(data / "verdicts.json", to_json(site.verdicts))
    write_bytes(data / "plan.json", to_json(site.plan))
    if site.environment:
        write_bytes(data / "environment.json", to_json(site.environment))
    judged = {one.gotcha: one for one in site.verdicts.gotchas}
    for plan in site.plan.gotchas:
        if plan.slug in judged:
            html = _gotcha_page(site, pages_of, plan, judged[plan.slug], out, old, repaint)
            write_bytes(out / page_name(plan.slug), html.encode())
    write_bytes(out / "index.html", _index_page(site, pages_of).encode())
    stamp = {"format_version": 1, "run": site.verdicts.run, "painter": painter}
    write_bytes(out / STAMP, (json.dumps(stamp, indent=1) + "\n").encode())


def _index_page(site: Site, pages_of: Templates) -> str:
    judged = {one.gotcha: one for one in site.verdicts.gotchas}
    plans = sorted(site.plan.gotchas, key=lambda one: (words.topic_words(one.topic), one.title))
    rows = [(plan, judged[plan.slug]) for plan in plans if plan.slug in judged]
    counts = [(word, sum(v.verdict == name for _, v in rows)) for name, word in words.VERDICTS.items()]
    return pages_of.get_template("index.html").render(
        root="", site=site, rows=rows, counts=[(word, count) for word, count in counts if count],
        unjudged=[plan for plan in plans if plan.slug not in judged],
        source=pages.source_claims(plans, {slug: one.verdict for slug, one in judged.items()}),
        limitations=words.LIMITATIONS, topics=sorted({plan.topic for plan, _ in rows}, key=words.topic_words),
        parts=sorted({part for plan, _ in rows for part in plan.parts}),
        regime=_shared_regime([verdict for _, verdict in rows]), runs=_runs(site.origins),
    )  # fmt: skip


def _runs(origins: Mapping[str, Origin]) -> list[tuple[Origin, int]]:
    """The runs that a published set comes from, newest first, each with how many gotchas are from it."""
    by_run = {origin.run: origin for origin in origins.values()}
    counted = Counter(origin.run for origin in origins.values())
    return [(by_run[run], counted[run]) for run in sorted(by_run, key=lambda run: by_run[run].created_at, reverse=True)]


def _shared_regime(verdicts: list[GotchaVerdict]) -> dict[str, str]:
    """What all gotchas of the run have in common."""
    if not verdicts:
        return {}
    first = verdicts[0].regime
    return {name: text for name, text in first.items() if all(one.regime.get(name) == text for one in verdicts)}


def _gotcha_page(
    site: Site, pages_of: Templates, plan: GotchaPlan, verdict: GotchaVerdict, out: Path, old: Path | None, repaint: bool
) -> str:  # fmt: skip
    labels = {c.key: c.label for c in plan.conditions}
    origin = site.origins.get(plan.slug)
    environment = environment_of(site.run.path, origin) if origin else site.environment
    folders = site.run.trials(plan.slug)
    drawn = draw_all(ChartData(plan, verdict, lambda: folders), out, old, repaint=repaint)
    mechanism = mechanism_index(plan)
    shown = {0, mechanism} | {i for i, one in enumerate(drawn) if one.is_forest}
    columns, conditions = pages.condition_table(verdict, plan)
    hold_columns, holds = pages.survival_rows(plan, verdict)
    source = pages.source_claims([plan], {plan.slug: verdict.verdict})
    return pages_of.get_template("gotcha.html").render(
        root="../", site=site, plan=plan, verdict=verdict, word=words.VERDICTS[verdict.verdict], labels=labels,
        tone=summary.tone(verdict), symbol=summary.SYMBOLS[summary.tone(verdict)], badge_text=summary.badge(verdict),
        seen=verdict.seen, factor=summary.factor(verdict.seen), number=summary.number, cost=cost(verdict), sure=how_sure(verdict),
        standing=_capital(summary.standing_of(verdict.claims).text), differ=any(c.verdict != "reproduced" for c in verdict.claims),
        claims=pages.claim_views(verdict, plan), surety=pages.surety(verdict),
        prose=prose.sections(site.root, plan.slug), code=comparisons(site.root, plan.slug, plan.variants),
        first=drawn[0], mechanism=drawn[mechanism] if mechanism else None,
        forest=next((one for one in drawn if one.is_forest), None),
        more=[one for i, one in enumerate(drawn) if i not in shown], columns=columns, conditions=conditions,
        gates=pages.gate_rows(verdict.gates, labels), source=[one for one in source if one.judges],
        command=origin.command if origin else pages.repeat_command(site.plan, plan.slug), environment=environment,
        origin=origin, stale=site.stale.get(plan.slug, ""), trials=_raw_links(site, folders, labels),
        neighbours=_neighbours(site, plan.slug), hold_columns=hold_columns, holds=holds, survived=survived_text(survival_table(plan, verdict)),
    )  # fmt: skip


def _survived(plan: GotchaPlan, verdict: GotchaVerdict) -> str:
    return survived_text(survival_table(plan, verdict))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _neighbours(site: Site, slug: str) -> tuple[GotchaPlan | None, GotchaPlan | None]:
    judged = {one.gotcha for one in site.verdicts.gotchas}
    plans = sorted(
        (p for p in site.plan.gotchas if p.slug in judged), key=lambda p: (words.topic_words(p.topic), p.title)
    )
    place = [p.slug for p in plans].index(slug)
    return plans[place - 1] if place else None, plans[place + 1] if place + 1 < len(plans) else None


def _raw_links(
    site: Site, folders: list[TrialFolder], labels: Mapping[str, str]
) -> list[tuple[str, str, list[tuple[int, str, list[tuple[str, str]]]]]]:
    """Condition, variant and, per pair, its status and the files that exist, as links from a gotcha's page."""
    if not site.raw:
        return []
    found: dict[tuple[str, str], list[tuple[int, str, list[tuple[str, str]]]]] = {}
    for folder in folders:
        record = folder.record
        way = f"../{site.raw}{folder.path.relative_to(site.run.path).as_posix()}"
        files = [(one.name, f"{way}/{one.name}") for one in sorted(folder.path.iterdir()) if one.is_file()]
        key = (labels.get(record.condition, record.condition), record.variant)
        found.setdefault(key, []).append((record.pair, record.status, files))
    return [(condition, variant, sorted(pairs)) for (condition, variant), pairs in found.items()]
