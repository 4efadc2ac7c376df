"""A published run: plan, environment, verdicts and report of a run, without its raw samples; and the README's matrix made from it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.model import RunVerdicts
from analysis.report.build import build_report
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
from analysis.selftest import for_report
from analysis.yardstick import yardstick_of
from lab.store import ROOT, RunFolder
from lab.words.codec import from_json
from lab.words.errors import StoreError, UsageError

PUBLISHED = "published"
LIMIT_BYTES = 20_000_000


def verdicts_of(run: RunFolder) -> RunVerdicts:
    """The stored verdicts of a run.  Raises StoreError where there are none."""
    path = run.derived / "verdicts.json"
    try:
        return from_json(RunVerdicts, path.read_bytes(), str(path))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", "`bench.py report` makes it.") from error


def publish(run: RunFolder, results: Path, readme: Path, shown: Sequence[str]) -> Path:
    """Copy what is published of a judged run to ``results/published``; write the README's matrix, its first results (those of the gotchas
    ``shown``) and what each gotcha's README quotes.

    Raises UsageError where the run is partial or larger than ``LIMIT_BYTES``, StoreError where it cannot be read.
    """
    if run.partial:
        raise UsageError(f"{run.name} was interrupted: trials are missing", "Publish a whole run.")
    verdicts, plan = verdicts_of(run), run.plan
    target = results / PUBLISHED
    fresh = results / f".{PUBLISHED}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in ("plan.json", "environment.json", "added.json", "yardstick.json"):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, fresh / name)
    shutil.copytree(run.derived, fresh / "derived")
    # Again without the trials: the pages then have no links to raw data that is not published; the charts keep their stored numbers.
    seen = yardstick_of(run)
    build_report(fresh, ROOT, selftest=for_report(seen) if seen else None)
    size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
    if size > LIMIT_BYTES:
        shutil.rmtree(fresh)
        raise UsageError(
            f"{size / 1e6:.0f} MB are too much to publish (limit {LIMIT_BYTES / 1e6:.0f})", "Publish fewer gotchas."
        )
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    update_readme(readme, matrix_markdown(verdicts, plan.gotchas))
    update_readme(readme, results_markdown(verdicts, shown), (RESULTS_BEGIN, RESULTS_END))
    judged = {one.gotcha: one for one in verdicts.gotchas}
    for one in plan.gotchas:
        page = readme.parent / "targets" / one.slug / "README.md"
        if one.slug in judged and page.is_file():
            update_readme(
                page, measured_markdown(one, judged[one.slug], plan.created_at[:10]), (MEASURED_BEGIN, MEASURED_END)
            )
    return target
