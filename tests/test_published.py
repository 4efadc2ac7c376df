"""The published run and the README agree, and its pages stand on their own."""

import re
from pathlib import Path

import pytest

from analysis.origins import origins_of, stale_gotchas
from analysis.publish import PUBLISHED, verdicts_of
from analysis.report.matrix import BEGIN, END, RESULTS_BEGIN, RESULTS_END, matrix_markdown, results_markdown
from lab.cli.options import TOUR
from lab.store import RunFolder

ROOT = Path(__file__).resolve().parent.parent
RUN = RunFolder(ROOT / "results" / PUBLISHED)

pytestmark = pytest.mark.skipif(not RUN.path.is_dir(), reason="no run is published: `bench.py publish`")


def readme() -> str:
    return (ROOT / "README.md").read_text()


def test_the_readme_shows_the_published_verdicts() -> None:
    matrix = readme().partition(BEGIN)[2].partition(END)[0].strip()
    plans = RUN.plan.gotchas
    now = matrix_markdown(verdicts_of(RUN), plans, origins_of(RUN.path), stale_gotchas(RUN.path, plans, ROOT))
    assert matrix == now.strip(), "run `bench.py publish --refresh`"


def test_the_readme_begins_with_the_published_results() -> None:
    shown = readme().partition(RESULTS_BEGIN)[2].partition(RESULTS_END)[0].strip()
    assert shown == results_markdown(verdicts_of(RUN), TOUR).strip(), "run `bench.py publish`"
    assert len(shown.splitlines()) >= len(TOUR) + 4  # a line each, a header, the fences and the count


def test_every_picture_of_the_readme_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme())
    assert pictures, "the README has no chart"
    assert not [one for one in pictures if not (ROOT / one).is_file()]


def test_the_published_pages_link_to_nothing_that_is_not_published() -> None:
    report = RUN.derived / "report"
    for page in report.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#:?]+)["#?]', page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_nothing_published_names_a_machine() -> None:
    for path in RUN.path.rglob("*"):
        if path.suffix in (".json", ".html", ".log"):
            found = re.findall(r"(?<![\w.-])/(?:work|home|root|Users)/[\w./-]+", path.read_text(errors="replace"))
            assert not found, f"{path.name}: {found[:3]}"
