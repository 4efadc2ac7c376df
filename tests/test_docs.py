"""What the documentation promises, held to the code."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import bench
from analysis.charts import KINDS
from analysis.doubts import DOUBTS
from analysis.gates import GATES, THRESHOLDS
from analysis.metrics import METRICS
from lab.words.metrics import QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
VERDICTS = (ROOT / "docs" / "verdicts.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_metric_doubt_gate_threshold_and_chart_is_documented_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z0-9_]+)` \|", VERDICTS, re.MULTILINE))
    assert listed == set(METRICS) | set(DOUBTS) | set(KINDS) | set(THRESHOLDS)
    assert set(re.findall(r"^\| (G\d+) \|", VERDICTS, re.MULTILINE)) == {gate.name for gate in GATES}


def test_thresholds_in_the_docs_are_the_ones_in_force() -> None:
    for name, threshold in THRESHOLDS.items():
        assert re.search(rf"^\| `{name}` \| {re.escape(f'{threshold.value:g}')}\b", VERDICTS, re.MULTILINE), name


def test_every_command_is_in_the_readme() -> None:
    for name, command in get_command(bench.app).commands.items():  # type: ignore[attr-defined]
        if not command.hidden:
            assert f"bench.py {name}" in README, name


def test_the_readmes_test_command_is_what_ci_calls() -> None:
    assert "    uv run --group dev pytest\n" in README
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("uv run --group dev pytest")


def test_every_module_of_the_lab_has_a_room_in_the_architecture() -> None:
    for path in (ROOT / "lab").iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert f"`lab/{path.name}`" in ARCHITECTURE, path.name
        elif path.is_dir() and path.name != "__pycache__":
            assert f"`lab/{path.name}/`" in ARCHITECTURE, path.name


def test_the_files_that_the_architecture_names_are_there() -> None:
    named = re.findall(r"`((?:lab|analysis|scripts|tests)/[\w./]+)`", ARCHITECTURE)
    assert len(named) > 30
    assert not [one for one in named if not (ROOT / one).exists()]


def test_what_the_code_refers_to_is_a_document_and_a_section_of_it() -> None:
    method = (ROOT / "docs" / "method.md").read_text()
    sections = set(re.findall(r"^## (\d)\.", method, re.MULTILINE)) | set(
        re.findall(r"^\| (G\d+) \|", method, re.MULTILINE)
    )
    seen = set()
    for folder in ("lab", "analysis", "scripts", "benchmarks", "scenarios", "targets"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for name in re.findall(r"\bdocs/[\w/-]+\.md\b", text):
                assert (ROOT / name).is_file(), (path.name, name)
            assert not re.search(r"(?<![\w/])(?:method|claims|source|services|design)\.md", text), path.name
            seen |= set(re.findall(r"docs/method\.md,?(?: section)? (G\d+|\d)", text))
    assert seen and seen <= sections, seen - sections
    assert {gate.name for gate in GATES} <= sections


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_compose_names_the_services_and_checks_their_health() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert {"postgres", "redis", "target", "locust-master", "locust-worker"} <= set(compose["services"])
    for name, service in compose["services"].items():
        assert "healthcheck" in service or name == "dataset", name


def test_compose_passes_its_own_check() -> None:
    commands = [["docker", "compose"], ["docker-compose"]]
    usable = [
        c
        for c in commands
        if shutil.which(c[0]) and subprocess.run([*c, "version"], capture_output=True).returncode == 0
    ]
    if not usable:
        pytest.skip("no compose binary on the PATH")
    done = subprocess.run(
        [*usable[0], "-f", str(ROOT / "docker-compose.yml"), "config"], capture_output=True, text=True,
        env={**os.environ, "LAB_PASSWORD": "0123456789abcdef"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_docs_have_each_metrics_unit_and_argument() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \|$", VERDICTS, re.MULTILINE))
    for name, metric in METRICS.items():
        quantity = QUANTITIES[name]
        unit, family, argument = (cell.strip() for cell in rows[name].split("|"))
        assert (unit, family) == (quantity.unit or "count", metric.family), name
        assert argument.removesuffix(" (needed)") == str(quantity.argument or ""), name
