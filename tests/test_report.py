"""The report: built from stored data alone, complete without a script, escaped, and safe to build again."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from analysis.gates import GATES as ALL_GATES
from analysis.report import matrix, pages, prose
from analysis.report.build import STAMP, build_report, page_name
from analysis.report.code import comparisons
from analysis.report.words import GATES, LIMITATIONS, VERDICTS
from lab.words.errors import StoreError, UsageError
from tests.sample_run import BLOCKED, EVIL, HOSTILE, HOSTILE_TEXT, LIMITER, README, Sample, build

SELFTEST = {"at": "2026-11-22", "summary": "False alarms 5 %.", "checks": [
    {"name": "A/A", "passed": True, "detail": "5 % [2, 9]"}, {"name": HOSTILE, "passed": False, "figure": 3}, {"name": "wrk", "passed": None},
]}  # fmt: skip
VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """A page's elements: tags with their attributes in order, all text, and whether every element was closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, f"{path.name}: {self._open} not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"{self.path.name}: </{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return build(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def site(sample: Sample) -> Path:
    return build_report(sample.run.path, sample.root, selftest=SELFTEST).parent


@pytest.fixture(scope="module")
def index(site: Path) -> Page:
    return Page(site / "index.html")


@pytest.fixture(scope="module")
def blocked(site: Path) -> Page:
    return Page(site / page_name(BLOCKED))


@pytest.fixture(scope="module")
def evil(site: Path) -> Page:
    return Page(site / page_name(EVIL))


def pages_of(site: Path) -> Iterator[Page]:
    for path in sorted(site.rglob("*.html")):
        yield Page(path)


# ---------------------------------------------------------------- the whole site


def test_there_is_an_index_and_a_page_for_each_judged_gotcha(site: Path, sample: Sample) -> None:
    names = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert names == {"index.html", *(page_name(g.slug) for g in sample.plan.gotchas)}


def test_every_link_leads_somewhere(site: Path) -> None:
    for page in pages_of(site):
        ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
        for tag, attrs in page.tags:
            target = attrs.get("href") or attrs.get("src") or ""
            parts = urlsplit(target)
            if not target or parts.scheme in ("http", "https"):
                continue
            assert not parts.scheme, f"{page.path.name}: {tag} {target}"
            where = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert where.is_file(), f"{page.path.name}: {target}"
            if parts.fragment:
                known = ids if where == page.path else {a["id"] for _, a in Page(where).tags if "id" in a}
                assert parts.fragment in known, f"{page.path.name}: {target}"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in pages_of(site):
        for tag, attrs in page.tags:
            loaded = [attrs.get("src", "")] + ([attrs.get("href", "")] if tag in ("link", "use", "image") else [])
            assert not [one for one in loaded if urlsplit(one).scheme or one.startswith("//")], (
                f"{page.path.name}: {tag} {attrs}"
            )
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        assert not re.search(r"url\(['\"]?(https?:)?//|@import|fetch\(|XMLHttpRequest", path.read_text())


def test_ids_are_unique_and_labels_exist(site: Path) -> None:
    for page in pages_of(site):
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids)), sorted(one for one in ids if ids.count(one) > 1)[:5]
        for _, attrs in page.tags:
            for name in attrs.get("aria-labelledby", "").split():
                assert name in ids


def test_pages_have_landmarks_captions_and_names(site: Path) -> None:
    for page in pages_of(site):
        tags = [tag for tag, _ in page.tags]
        assert tags.count("main") == tags.count("h1") == 1
        assert {"header", "nav", "footer"} <= set(tags)
        assert page.all("html")[0]["lang"] == "en"
        assert any(a.get("class") == "skip" and a["href"] == "#main" for a in page.all("a"))
        tables = [a for a in page.all("table") if a.get("role") != "presentation"]
        assert tags.count("caption") == len(tables)
        assert all(a.get("scope") for a in page.all("th"))
        assert all(a.get("aria-label") for a in page.all("svg"))
        assert all("aria-label" in a or "aria-labelledby" in a for a in page.all("nav"))


def test_headings_never_skip_a_level(site: Path) -> None:
    for page in pages_of(site):
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels)), (page.path.name, levels)


# ---------------------------------------------------------------- hostile words


def test_no_text_becomes_markup(site: Path) -> None:
    for page in pages_of(site):
        scripts = page.all("script")
        assert [a.get("src", "").rpartition("/")[2] for a in scripts] == ["lab.js"]
        assert not page.all("img")
        assert not [a for _, a in page.tags for name in a if name.startswith("on")]


def test_hostile_words_are_shown_as_they_are(evil: Page, index: Page) -> None:
    title = next(i for i, word in enumerate(evil.words) if word == HOSTILE)
    assert title >= 0 and HOSTILE in index.text
    assert HOSTILE_TEXT in evil.text and HOSTILE_TEXT in " ".join(a["aria-label"] for a in evil.all("svg"))


def test_html_in_a_readme_is_text_and_links_into_the_repository_are_text(blocked: Page) -> None:
    assert "<b>HTML is text here</b>" in blocked.text
    hrefs = [a["href"] for a in blocked.all("a")]
    assert "https://fastapi.tiangolo.com/async/" in hrefs and "naive.py" not in hrefs


@pytest.mark.parametrize("markdown", ["[x](javascript:alert(1))", "<iframe></iframe>", "[x](file:///etc)"])
def test_markdown_lets_nothing_through(markdown: str) -> None:
    assert not re.search(r"<(a|img|iframe|script)\b", prose.render(markdown))


def test_an_image_in_a_readme_is_never_fetched() -> None:
    assert "<img" not in prose.render("![x](https://example.org/x.png)")


# ---------------------------------------------------------------- what a page says


def test_a_page_answers_with_numbers_and_says_how_sure_it_is(blocked: Page) -> None:
    text = blocked.text
    assert "With ten users the blocking call serves 20/s, awaited 198/s." in text
    assert "Reproduced" in text and VERDICTS["reproduced"].meaning in text and "A quick run." in text
    assert "Affects naive: 19.8 · fixed: 198 answers per second · 5 of 5 checks as predicted" in text
    assert "naive 19.8 → awaited 198" in text and "Ten users call a route that blocks." in text
    assert (
        "3 checks of harm and fix came out as predicted (0 of them exactly, up to 3 repeats)" in text
        and "1 doubt" in text
    )


def test_a_page_has_theory_beside_measurement(blocked: Page) -> None:
    text = blocked.text
    assert "W / T" in text and "Source: a queue with one server" in text
    assert re.search(r"predicted 20/s", text) and "19.8/s" in text and "at most 1.5×" in text and "1.2×" in text


def test_a_page_has_the_readme_the_code_and_the_command(blocked: Page) -> None:
    text = blocked.text
    for heading in (
        "Am I affected?",
        "The mistake",
        "Why it hurts",
        "The fix",
        "When the naive version is fine",
        "Sources",
    ):
        assert heading in text
    assert "uv run bench.py run event_loop/blocked_loop --seed 20261123" in text
    rows = [a.get("class") for a in blocked.all("tr") if a.get("class")]
    assert rows.count("changed") == 4  # the import and the line that bites, on both sides
    assert "Nothing is lost silently" in text


def test_a_page_links_to_the_raw_trials_that_exist(blocked: Page) -> None:
    links = [a["href"] for a in blocked.all("a") if a.get("href", "").endswith("trial.json")]
    assert len(links) == 6 * 3 * 2


def test_a_failed_gate_is_named_where_the_answer_is(evil: Page) -> None:
    assert (
        "1 measurement check failed" in evil.text
        and "✕ failed 1 of 1" in evil.text
        and "close other programs" in evil.text
    )


def test_a_chart_that_cannot_be_drawn_says_why_and_the_others_stand(evil: Page) -> None:
    assert "This chart cannot be drawn: there is no kind of chart 'no_such_kind'" in evil.text
    assert evil.all("svg")


def test_every_chart_can_be_had_as_svg_png_and_data(blocked: Page) -> None:
    files = [a["href"].rpartition(".")[2] for a in blocked.all("a") if "download" in a]
    assert files.count("svg") == files.count("png") == files.count("json") == 7 == len(blocked.all("svg"))


# ---------------------------------------------------------------- the index


def test_the_index_is_the_matrix(index: Page, sample: Sample) -> None:
    rows = [a for a in index.all("tr") if "data-verdict" in a]
    assert [a["data-topic"] for a in rows] == ["api_design", "caching", "event_loop"]
    assert {a["data-verdict"] for a in rows} == {"Reproduced", "Smaller", "Invalid"}
    assert rows[0]["data-part"] == "3 9"
    for word in VERDICTS.values():
        assert word.meaning in index.text
    assert all(one in index.text for one in LIMITATIONS)


def test_the_index_carries_the_selftest_and_does_without(index: Page, sample: Sample, tmp_path: Path) -> None:
    assert "False alarms 5 %." in index.text and "✓ passed" in index.text and "? not run" in index.text
    bare = Page(build_report(sample.run.path, sample.root, tmp_path / "site"))
    assert "No self-test is stored" in bare.text


def test_the_index_lists_what_the_source_claims_and_who_judges_it(index: Page, sample: Sample) -> None:
    found = pages.source_claims(sample.plan.gotchas, {g.gotcha: g.verdict for g in sample.verdicts.gotchas})
    assert {one.part for one in found} == set(range(1, 19))
    judged = {judge.slug for one in found for judge in one.judges}
    assert judged == {BLOCKED, LIMITER, EVIL}
    assert "not yet judged" in index.text and all(one.claim in index.text for one in found)


CATALOGUE = Path(__file__).resolve().parent.parent / "docs" / "catalogue"


def test_the_source_claims_name_entries_of_the_catalogue() -> None:
    ids = [one for claim in pages.source_claims([], {}) for one in claim.catalogue_ids]
    rows = [row for path in CATALOGUE.glob("*.json") for row in json.loads(path.read_text())]
    assert not set(ids) - {row["id"] for row in rows}
    assert all(claim.catalogue_ids for claim in pages.source_claims([], {}))


# ---------------------------------------------------------------- building


def test_a_second_build_is_the_same_and_keeps_the_pictures(sample: Sample, tmp_path: Path) -> None:
    first = build_report(sample.run.path, sample.root, tmp_path / "site").parent
    before = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    again = build_report(sample.run.path, sample.root, tmp_path / "site").parent
    after = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert before == after
    assert not [path for path in tmp_path.iterdir() if path.name != "site"], "nothing is left beside the report"


def test_stale_pages_go(sample: Sample, tmp_path: Path) -> None:
    site = build_report(sample.run.path, sample.root, tmp_path / "site").parent
    (site / "gotchas" / "gone.html").write_text("old")
    build_report(sample.run.path, sample.root, tmp_path / "site")
    assert not (site / "gotchas" / "gone.html").exists()


def test_a_published_run_keeps_its_charts_without_samples(sample: Sample, tmp_path: Path) -> None:
    run = tmp_path / "published"
    shutil.copytree(sample.run.path, run)
    site = build_report(run, sample.root).parent
    shutil.rmtree(run / "trials")
    numbers = (site / f"charts/{BLOCKED.replace('/', '.')}/2-percentiles.json").read_bytes()
    assert build_report(run, sample.root).parent == site
    page = Page(site / page_name(BLOCKED))
    assert len(page.all("svg")) == 7 and "The samples of this run are not stored beside this report" in page.text
    assert (site / f"charts/{BLOCKED.replace('/', '.')}/2-percentiles.json").read_bytes() == numbers


def test_a_run_without_samples_targets_or_environment_still_has_pages(tmp_path: Path) -> None:
    bare = build(tmp_path, with_samples=False)
    shutil.rmtree(bare.root)
    (bare.run.path / "environment.json").unlink()
    page = Page(build_report(bare.run.path, bare.root).parent / page_name(BLOCKED))
    assert "This chart cannot be drawn" in page.text and "Blocked: 20/s" in " ".join(
        a["aria-label"] for a in page.all("svg")
    )


def test_another_folder_is_never_overwritten(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an earlier report"):
        build_report(sample.run.path, sample.root, tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


def test_a_run_that_was_not_judged_says_what_to_do(tmp_path: Path) -> None:
    bare = build(tmp_path, with_samples=False)
    (bare.run.derived / "verdicts.json").unlink()
    with pytest.raises(StoreError, match="no verdicts") as caught:
        build_report(bare.run.path, bare.root)
    assert "bench.py verdict" in caught.value.hint


def test_the_data_beside_the_pages_is_the_stored_data(site: Path, sample: Sample) -> None:
    assert json.loads((site / "data/verdicts.json").read_text())["run"] == sample.verdicts.run
    assert json.loads((site / "data/plan.json").read_text())["seed"] == sample.plan.seed
    assert (site / STAMP).is_file()


# ---------------------------------------------------------------- parts


def test_code_is_aligned_line_beside_line(sample: Sample) -> None:
    (pair,) = comparisons(sample.root, BLOCKED, ("naive", "correct", "gone"))
    assert len(pair.left.lines) == len(pair.right.lines)
    assert (pair.left.changed, pair.right.changed) == (2, 2)
    for one, other in zip(pair.left.lines, pair.right.lines, strict=True):
        assert one.mark == other.mark or "filler" in (one.mark, other.mark)


def test_a_readme_is_split_at_its_headings_and_not_inside_code() -> None:
    parts = prose.split(README + "\n```\n## not a heading\n```\n")
    assert list(parts) == ["", *prose.SECTIONS]
    assert "## not a heading" in parts["Sources"]


def test_gates_have_words() -> None:
    assert list(GATES) == [gate.name for gate in ALL_GATES]


def test_the_command_names_what_differs_from_the_usual(sample: Sample) -> None:
    from dataclasses import replace

    full = replace(sample.plan, mode="full", pairs=8)
    assert pages.repeat_command(full, BLOCKED) == f"uv run bench.py run {BLOCKED} --seed 20261123 --full"
    assert pages.repeat_command(replace(full, pairs=4), BLOCKED).endswith("--full --pairs 4")


def test_the_matrix_for_the_readme(sample: Sample, tmp_path: Path) -> None:
    text = matrix.matrix_markdown(sample.verdicts, sample.plan.gotchas)
    lines = text.splitlines()
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert "harm: **35**, " in lines[2] and "◐ Smaller" in lines[2]
    assert any("**19.8 → 198 answers per second**" in line and "5 of 5 checks as predicted" in line for line in lines)
    assert "<script" not in text
    readme = tmp_path / "README.md"
    readme.write_text(f"# Lab\n\n{matrix.BEGIN}\nold\n{matrix.END}\n\nend\n")
    assert matrix.update_readme(readme, text) is True
    assert matrix.update_readme(readme, text) is False
    assert "old" not in readme.read_text() and readme.read_text().endswith("end\n") and lines[2] in readme.read_text()


def test_a_readme_without_the_markers_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Lab\n")
    with pytest.raises(StoreError, match="no place for what was measured"):
        matrix.update_readme(readme, "x")
    assert readme.read_text() == "# Lab\n"
