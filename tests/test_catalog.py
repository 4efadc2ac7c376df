"""Finding gotchas by name, and what happens when one is broken."""

import shutil
from pathlib import Path

import pytest

from lab import catalog as catalog_module
from lab.catalog import Catalog
from lab.catalog.hashes import content_hash, measured_files
from lab.catalog.scaffold import scaffold
from lab.cli.options import selected
from lab.model import Server
from lab.words.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the lab and one scaffolded gotcha."""
    shutil.copytree(ROOT / "lab", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "targets").mkdir()
    scaffold("caching/my-gotcha", tmp_path)
    return tmp_path


def test_dashes_underscores_topics_and_prefixes_all_name_a_gotcha(catalog: Catalog) -> None:
    slug = "rate_limiting/in_process_limiter"
    for name in (
        slug,
        "in_process_limiter",
        "in-process-limiter",
        "rate-limiting/in-process-limiter",
        "in_process_l",
        "rate_limiting/in_p",
    ):
        assert catalog.resolve(name) == slug


def test_an_unknown_name_suggests_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.resolve("ofset_pagination")
    assert "offset_pagination" in caught.value.hint


def test_the_series_parts_and_topics_select(catalog: Catalog) -> None:
    assert "caching/cache_without_lock" in catalog.select(topic="caching")
    assert "rate_limiting/in_process_limiter" in catalog.select(part=4)
    with pytest.raises(UsageError):
        catalog.select(topic="cooking")


def test_a_scaffolded_gotcha_is_found_without_touching_anything_else(tree: Path) -> None:
    catalog = Catalog(tree, cache=tree / "cache")
    assert [one["slug"] for one in catalog.gotchas] == ["caching/my_gotcha"]
    assert catalog.broken == {}
    (plan,) = catalog.plans(["caching/my_gotcha"])
    assert plan.claims[0].predictions == {"users=10": 50.0}


def test_a_broken_scenario_is_named_with_its_line_and_the_rest_is_listed(tree: Path) -> None:
    scaffold("caching/other", tree)
    path = tree / "scenarios" / "caching" / "other.py"
    path.write_text(path.read_text() + "\nraise RuntimeError('half edited')\n")
    catalog = Catalog(tree, cache=tree / "cache")
    assert [one["slug"] for one in catalog.gotchas] == ["caching/my_gotcha"]
    assert "half edited" in catalog.broken["caching/other"]
    assert "line" in catalog.broken["caching/other"]
    with pytest.raises(UsageError, match="half edited"):
        catalog.resolve("other")


def test_a_target_without_a_scenario_is_reported(tree: Path) -> None:
    (tree / "scenarios" / "caching" / "my_gotcha.py").unlink()
    assert "no scenarios/caching/my_gotcha.py" in Catalog(tree, cache=tree / "cache").broken["caching/my_gotcha"]


def test_the_description_is_cached_until_a_file_changes(tree: Path) -> None:
    first = Catalog(tree, cache=tree / "cache")
    assert first.gotchas
    (cached,) = (tree / "cache").glob("*.json")
    cached.write_text('{"gotchas": [], "broken": []}')
    assert Catalog(tree, cache=tree / "cache").gotchas == []
    path = tree / "scenarios" / "caching" / "my_gotcha.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert len(Catalog(tree, cache=tree / "cache").gotchas) == 1


def test_other_servers_give_other_conditions_and_predictions(tree: Path) -> None:
    (plan,) = Catalog(tree, cache=tree / "cache").plans(
        ["caching/my_gotcha"], [Server(workers=1), Server("gunicorn", 2)]
    )
    assert [c.key for c in plan.conditions] == ["users=10-on-uvicorn-x1", "users=10-on-gunicorn-x2"]
    assert plan.conditions[1].params["workers"] == 2


@pytest.mark.parametrize(
    ("last_line", "said"),
    [("import sys; sys.exit('bye')", "SystemExit: bye"), ("print('{}')", ""), ("import atexit; atexit.register(print, 'late')", "")],
)  # fmt: skip
def test_a_scenario_that_prints_or_ends_its_process_takes_no_other_with_it(
    tree: Path, last_line: str, said: str
) -> None:
    scaffold("caching/other", tree)
    with (tree / "scenarios" / "caching" / "my_gotcha.py").open("a") as file:
        file.write(f"\n{last_line}\n")
    catalog = Catalog(tree, cache=tree / "cache")
    assert "caching/other" in [one["slug"] for one in catalog.gotchas]
    assert said in catalog.broken.get("caching/my_gotcha", "") and bool(catalog.broken) is bool(said)


def test_a_scenario_that_never_ends_is_the_scenarios_fault(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "DESCRIBE_TIMEOUT_S", 0.01)  # Python alone takes longer to start
    with pytest.raises(UsageError, match="does not end when it is imported"):
        _ = Catalog(tree, cache=tree / "cache").gotchas


def test_a_broken_gotcha_is_never_left_out_of_all_in_silence(tree: Path) -> None:
    scaffold("caching/other", tree)
    (tree / "scenarios" / "caching" / "my_gotcha.py").write_text("def (")
    catalog = Catalog(tree, cache=tree / "cache")
    for topic in ("", "caching"):
        with pytest.raises(UsageError, match="caching/my_gotcha: SyntaxError"):
            selected(catalog, [], topic, 0, not topic)
    assert selected(catalog, ["other"], "", 0, False) == ["caching/other"]


def test_what_a_readme_says_is_no_part_of_what_is_measured(tmp_path: Path) -> None:
    scenario, target = tmp_path / "a.py", tmp_path / "a"
    target.mkdir()
    for path in (scenario, target / "naive.py", target / "table.sql", target / "README.md"):
        path.write_text("x")
    before = content_hash(measured_files(scenario, target))
    (target / "README.md").write_text("found: 400 of 100")
    assert content_hash(measured_files(scenario, target)) == before
    (target / "table.sql").write_text("y")
    assert content_hash(measured_files(scenario, target)) != before
