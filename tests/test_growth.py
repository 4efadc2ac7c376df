"""How many files something new needs: counted by where the newest of each kind is named.  docs/architecture.md says the same in a table."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from analysis.charts import KINDS
from analysis.metrics import METRICS
from lab.services.kind import kinds as services
from lab.target.servers import kinds as servers
from lab.words.loads import SHAPES

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted([*(ROOT / "lab").rglob("*.py"), *(ROOT / "analysis").rglob("*.py"), ROOT / "bench.py"])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@cache
def words(path: Path) -> frozenset[str]:
    """What a file names in its code: identifiers, and strings of one word; not its documentation, comments or messages."""
    tree = ast.parse(path.read_text())
    documented = {
        node.body[0].value for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    documented |= {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return frozenset(word for node in ast.walk(tree) if node not in documented for word in _named(node))


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from re.findall(r"^[\w-]+$", node.value)


def where(*names: str) -> set[str]:
    """The files that name one of these."""
    return {str(path.relative_to(ROOT)) for path in CODE if words(path) & {*names}}


@pytest.mark.parametrize("name", ["granian", "hypercorn"])
def test_a_server_is_one_file(name: str) -> None:
    assert name in servers()
    assert where(name) == {f"lab/target/servers/{name}.py"}


@pytest.mark.parametrize("name", ["pgbouncer", "PgBouncer", "AMQP_URL"])
def test_a_service_is_one_file(name: str) -> None:
    assert {"pgbouncer", "rabbitmq"} <= set(services())
    assert len(where(name)) == 1


@pytest.mark.parametrize("name", ["thread_hops"])
def test_an_observer_is_one_file(name: str) -> None:
    assert (ROOT / "lab" / "target" / "inside" / "observers" / f"{name}.py").is_file()
    assert where(name) == set(), "a condition names it, the engine never"


def test_a_load_shape_is_its_class_and_how_it_is_driven() -> None:
    """Who makes a load names its shape; who is handed one asks it."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
                if asked & {shape.__name__ for shape in SHAPES}:
                    assert path == ROOT / "lab" / "generator" / "drive.py", path
    assert where("journey") - {"lab/generator/users.py", "lab/generator/duet.py"} == {
        "lab/words/loads.py",
        "lab/generator/drive.py",
    }


@pytest.mark.parametrize("name", ["cpu_marginal_s_per_request", "offered_rps", "ok_per_burst"])
def test_a_metric_is_its_name_its_function_and_its_row_in_the_docs(name: str) -> None:
    assert name in METRICS
    assert len({one for one in where(name) if one.startswith("analysis/metrics/")}) == 1
    assert not {
        one for one in where(name) if not one.startswith(("analysis/metrics/", "lab/selftest/", "lab/words/metrics.py"))
    }


@pytest.mark.parametrize("kind", ["heatmap", "scaling", "percentiles", "ecdf", "timeline"])
def test_a_chart_is_its_row_and_its_functions(kind: str) -> None:
    assert kind in KINDS
    assert len(where(kind)) <= 2


def test_the_table_says_so() -> None:
    for what, files in (
        ("server", "1"),
        ("service", "1"),
        ("observer", "1"),
        ("load shape", "2"),
        ("metric", "2"),
        ("chart", "2"),
        ("remote target", "0"),
        ("own application", "0"),
    ):
        assert re.search(rf"^\| {what} \| {files} \|", ARCHITECTURE, re.MULTILINE), what
