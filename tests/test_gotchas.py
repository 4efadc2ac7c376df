"""The rules of a pair, for every folder in targets/*/*: what a reader may rely on whichever gotcha is opened.

Scenarios are read by ``python -m lab.catalog.describe`` in a child, because ``import locust`` monkey-patches the process; targets are
imported in a child too, with no address in the environment, so that work at import shows.
"""

import ast
import difflib
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analysis.metrics import METRICS, family_of
from analysis.report.matrix import MEASURED_BEGIN, MEASURED_END
from analysis.report.prose import SECTIONS
from analysis.verdicts import EXACT_FAMILIES
from lab.catalog import known as catalogue_rows
from lab.model import CLAIM_KINDS, ClosedLoad, Condition, MetricExpression

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(one for one in (ROOT / "targets").glob("*/*") if one.is_dir() and one.name != "__pycache__")
SLUGS = [f"{one.parent.name}/{one.name}" for one in FOLDERS]
VARIANTS = [
    (slug, path.stem) for slug, folder in zip(SLUGS, FOLDERS, strict=True) for path in sorted(folder.glob("*.py"))
]
HEADINGS = list(SECTIONS)
MARKERS = (MEASURED_BEGIN, MEASURED_END)
THREADS_OF_LIBRARIES = {
    "rate_limiting/in_process_limiter/slowapi_memory": 1,
    "rate_limiting/in_process_limiter/with_fastapi_limiter": 1,
}
"""Their limiters are made at import, as their documentation has it: one's memory starts a timer at once, which may
have ended when the import has; the other's a thread that trims it."""
CATALOGUE = frozenset(row["id"] for row in [*catalogue_rows.catalogue(), *catalogue_rows.no_longer_true()])
"""Ids of the claims that are known and may be judged; a new one is added there."""
RELATIONS = ("about", "at_most", "at_least")
MAX_LINES = 130
SHARED = 0.4
"""The least share of naive.py's lines, docstring aside, that correct.py has as well: where a dictionary becomes a log in Redis it is 45 %,
elsewhere three quarters and more.  Below this the two are different programs, and a reader cannot see what the lesson is."""
CHILD = """
import importlib, json, sys, threading
out = {}
for slug, variant in json.load(sys.stdin):
    before = set(threading.enumerate())
    try:
        module = importlib.import_module(f"targets.{slug.replace('/', '.')}.{variant}")
    except Exception as error:
        out[f"{slug}/{variant}"] = {"error": f"{type(error).__name__}: {error}"}
        continue
    out[f"{slug}/{variant}"] = {
        "app": type(module.app).__name__, "openapi": module.app.openapi() if hasattr(module.app, "openapi") else None,
        "threads": len(set(threading.enumerate()) - before),
    }
print(json.dumps(out))
"""


def module_of(slug: str, variant: str) -> ast.Module:
    """A variant's syntax tree."""
    return ast.parse((ROOT / "targets" / slug / f"{variant}.py").read_text())


@cache
def described() -> dict[str, Any]:
    """What the describe child says: plans by slug, and the broken ones by slug under ``broken``."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.catalog.describe"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    plans = {one["slug"]: one for one in document["gotchas"]}
    return {**plans, "broken": {one["gotcha"]: one["error"] for one in document["broken"]}}


def plan_of(slug: str) -> dict[str, Any]:
    """The plan of a gotcha; fails with the scenario's own error where it is broken."""
    plans = described()
    assert slug not in plans["broken"], plans["broken"][slug]
    assert slug in plans, f"scenarios/{slug}.py is missing"
    plan: dict[str, Any] = plans[slug]
    return plan


@cache
def imported() -> dict[str, Any]:
    """Every variant imported in one child: kind of its ``app``, OpenAPI document, threads left running."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(VARIANTS), cwd=ROOT, capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def imported_one(slug: str, variant: str) -> dict[str, Any]:
    """One of them; the test of a target that cannot be imported fails, and no other."""
    seen: dict[str, Any] = imported()[f"{slug}/{variant}"]
    assert "error" not in seen, f"{variant}.py cannot be imported without services: {seen['error']}"
    return seen


def code_lines(slug: str, variant: str) -> list[str]:
    """A variant's lines without its docstring and without blank ones."""
    text = (ROOT / "targets" / slug / f"{variant}.py").read_text().splitlines()
    docstring = module_of(slug, variant).body[0]
    return [line for line in text[docstring.end_lineno or 0 :] if line.strip()]


def shared_share(one: list[str], other: list[str]) -> float:
    """The share of ``one``'s lines that also stand, in the same order, in ``other``."""
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(one)


def test_there_are_gotchas() -> None:
    assert SLUGS, "targets/ is empty"


def test_no_scenario_without_a_target() -> None:
    scenarios = {f"{one.parent.name}/{one.stem}" for one in (ROOT / "scenarios").glob("*/*.py")}
    assert scenarios == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_target_has_its_files(slug: str) -> None:
    folder = ROOT / "targets" / slug
    for name in ("README.md", "naive.py", "correct.py"):
        assert (folder / name).is_file(), f"{slug}/{name} is missing"
    strangers = [
        one.name for one in folder.iterdir() if one.suffix not in (".py", ".md", ".sql") and one.name != "__pycache__"
    ]
    assert not strangers, f"{slug}: {strangers} are neither a variant, the README nor the dataset"
    assert not (folder / "__init__.py").exists(), "targets are namespace packages"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_readme_has_the_headings(slug: str) -> None:
    lines = (ROOT / "targets" / slug / "README.md").read_text().splitlines()
    assert lines[0].startswith("# "), "the first line is the title"
    assert [line[3:] for line in lines if line.startswith("## ")] == HEADINGS
    for heading, following in zip(HEADINGS, [*HEADINGS[1:], None], strict=True):
        start = lines.index(f"## {heading}") + 1
        end = lines.index(f"## {following}") if following else len(lines)
        assert any(line.strip() for line in lines[start:end]), f"nothing stands under {heading!r}"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_readme_shows_the_mistake_and_the_fix_as_code_and_has_a_place_for_what_was_measured(slug: str) -> None:
    text = (ROOT / "targets" / slug / "README.md").read_text()
    assert [text.count(marker) for marker in MARKERS] == [1, 1]
    assert text.index(MARKERS[0]) < text.index("## Am I affected?")
    sections = dict(
        zip(
            HEADINGS,
            re.split("|".join(f"^## {re.escape(one)}$" for one in HEADINGS), text, flags=re.M)[1:],
            strict=True,
        )
    )
    for heading in ("The mistake", "The fix"):
        assert "```python" in sections[heading], f"no code under {heading!r}"
    assert f"bench.py run {slug.split('/')[1]}" in sections["Try it"]


@pytest.mark.parametrize("slug", SLUGS)
def test_the_readme_refers_only_to_what_a_reader_has(slug: str) -> None:
    folder = ROOT / "targets" / slug
    text, scenario = (folder / "README.md").read_text(), (ROOT / "scenarios" / f"{slug}.py").read_text()
    named = re.findall(r"[\w./-]+\.md\b", text + scenario)
    assert not [one for one in named if not ((folder / one).exists() or (ROOT / one).exists())]
    for way in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (folder / way).exists(), f"{slug}: the link {way} leads nowhere"


@pytest.mark.parametrize("slug", SLUGS)
def test_every_variant_has_a_label_and_the_page_can_be_found(slug: str) -> None:
    plan = plan_of(slug)
    variants = {path.stem for path in (ROOT / "targets" / slug).glob("*.py")}
    assert set(plan["labels"]) == variants
    assert all(2 <= len(label) <= 40 for label in plan["labels"].values())
    assert len(set(plan["labels"].values())) == len(variants)
    assert len(plan["symptoms"]) >= 3
    assert plan["title"] == (ROOT / "targets" / slug / "README.md").read_text().splitlines()[0][2:]
    assert plan["before_after"] is not None
    assert plan["survival"] is not None


@pytest.mark.parametrize(("slug", "variant"), VARIANTS)
def test_a_variant_says_in_one_line_what_it_does(slug: str, variant: str) -> None:
    docstring = ast.get_docstring(module_of(slug, variant), clean=False)
    assert docstring, "no docstring"
    assert "\n" not in docstring, "the docstring has more than one line"


@pytest.mark.parametrize(("slug", "variant"), VARIANTS)
def test_a_variant_is_a_complete_app_of_its_own(slug: str, variant: str) -> None:
    for node in ast.walk(module_of(slug, variant)):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import: a variant imports no other"
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] not in ("lab", "analysis", "scenarios", "targets", "locust"), f"imports {name}"
    assert len((ROOT / "targets" / slug / f"{variant}.py").read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize(("slug", "variant"), VARIANTS)
def test_a_variant_imports_without_services(slug: str, variant: str) -> None:
    seen = imported_one(slug, variant)
    assert seen["app"] == ("Starlette" if variant == "starlette" else "FastAPI")
    allowed = THREADS_OF_LIBRARIES.get(f"{slug}/{variant}", 0)
    assert seen["threads"] <= allowed, "a thread was started at import: work belongs into the lifespan"


@pytest.mark.parametrize("slug", SLUGS)
def test_all_variants_serve_one_contract(slug: str) -> None:
    documents = {variant: imported_one(slug, variant)["openapi"] for one, variant in VARIANTS if one == slug}
    documents = {variant: document for variant, document in documents.items() if document}  # bare Starlette describes nothing
    differing = [variant for variant, document in documents.items() if document != documents["naive"]]
    if plan_of(slug)["contract_differs"]:
        assert differing, "contract_differs is set, but the contracts are the same"
    else:
        assert not differing, (
            f"{differing} serve another OpenAPI document than naive; set contract_differs if that is the lesson"
        )


@pytest.mark.parametrize("slug", SLUGS)
def test_naive_and_correct_differ_in_one_thing(slug: str) -> None:
    share = shared_share(code_lines(slug, "naive"), code_lines(slug, "correct"))
    assert share >= SHARED, f"correct.py keeps only {share:.0%} of naive.py's lines"
    assert share < 1, "correct.py is naive.py"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_line_that_matters_has_a_comment_in_both(slug: str) -> None:
    for variant in ("naive", "correct"):
        other = set(code_lines(slug, "correct" if variant == "naive" else "naive"))
        own = [line for line in code_lines(slug, variant) if "# " in line and line not in other]
        assert own, f"{variant}.py: no comment of its own at the line that bites"


@pytest.mark.parametrize("slug", SLUGS)
def test_constants_of_the_theory_are_the_targets(slug: str) -> None:
    for name, value in plan_of(slug)["constants"].items():
        found = {}
        for one, variant in VARIANTS:
            for node in module_of(slug, variant).body if one == slug else []:
                targets = (
                    node.targets
                    if isinstance(node, ast.Assign)
                    else [node.target]
                    if isinstance(node, ast.AnnAssign)
                    else []
                )
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    found[variant] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        assert found, f"no variant has a module constant {name}"
        assert set(found.values()) == {value}, f"{name} is {value} in the scenario and {found} in the targets"


@pytest.mark.parametrize("slug", SLUGS)
def test_claims_are_well_formed(slug: str) -> None:
    plan = plan_of(slug)
    keys = {one["label"] for one in plan["conditions"]}
    ids = [claim["id"] for claim in plan["claims"]]
    assert len(keys) == len(plan["conditions"])
    assert len(set(ids)) == len(ids), "two claims have one id"
    for claim in plan["claims"]:
        assert claim["kind"] in CLAIM_KINDS
        assert claim["relation"] in RELATIONS
        assert claim["statement"] and claim["formula"] and claim["source"], (
            f"{claim['id']}: not said, not derived or no source"
        )
        assert claim["predictions"], f"{claim['id']}: no prediction"
        assert claim["headline"] in claim["predictions"]
        for ref in MetricExpression.parse(claim["metric"]).refs:
            assert ref.variant in plan["variants"], f"{claim['id']}: no variant {ref.variant}"
            assert ref.metric in METRICS, f"{claim['id']}: no metric {ref.metric}"


@pytest.mark.parametrize("slug", SLUGS)
def test_claims_tell_the_whole_story(slug: str) -> None:
    plan = plan_of(slug)
    kinds = {claim["kind"] for claim in plan["claims"]}
    assert kinds >= {"harm", "mechanism", "fix"}, f"missing: {set(CLAIM_KINDS) - kinds}"
    assert any(one["control"] for one in plan["conditions"]), "no condition is the negative control"
    assert any(one["quick"] for one in plan["conditions"])


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_scenario_names_exists(slug: str) -> None:
    plan = plan_of(slug)
    for one in plan["catalogue_ids"]:
        assert one in CATALOGUE, f"{one} is not an id of the catalogue"
    labels = [one["label"] for one in plan["conditions"]]
    for condition in plan["conditions"]:
        assert set(condition["variants"]) <= set(plan["variants"]), condition["label"]
    for chart in plan["charts"]:
        assert set(chart["conditions"]) <= set(labels), f"chart {chart['title']!r}: no such condition"
        assert set(chart["theory"]) <= {claim["id"] for claim in plan["claims"]}, (
            f"chart {chart['title']!r}: no such claim"
        )
    assert plan["answer"] and plan["probes"], "no answer sentence or no probe"


def test_the_share_of_lines_is_counted_in_order() -> None:
    assert shared_share(["a", "b", "c", "d"], ["a", "x", "c", "d"]) == 0.75
    assert shared_share(["a", "b"], ["x", "y"]) == 0


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_timed_has_pairs_enough_for_an_interval(slug: str) -> None:
    plan = plan_of(slug)
    pairs = {
        Condition(one["label"], ClosedLoad(1)).key: one["quick_pairs"] or plan["quick_pairs"]
        for one in plan["conditions"] if one["quick"]
    }  # fmt: skip
    for claim in plan["claims"]:
        families = {family_of(ref) for ref in MetricExpression.parse(claim["metric"]).refs}
        if (claim["tolerance"] == 0 and claim["relation"] != "about") or families <= EXACT_FAMILIES:
            continue  # a bound that holds in every trial, or a count, is judged as it stands
        alone = [key for key in claim["predictions"] if pairs.get(key, 2) < 2]
        assert not alone, f"claim {claim['id']} is timed and has one pair in a quick run under {alone}: it can only be inconclusive"
