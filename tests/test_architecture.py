"""The import arrows of docs/architecture.md, held by reading every file."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("lab", "analysis", "scenarios", "targets", "bench", "tests")
MAX_LINES = 300


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, whether at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def touches(path: Path, *names: str) -> set[str]:
    return {found for found in imports(path) for name in names if found == name or found.startswith(f"{name}.")}


def in_generator(path: Path) -> bool:
    return "generator" in path.parts or path == ROOT / "lab" / "selftest" / "users.py"


@pytest.mark.parametrize("path", files("targets"), ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_import_nothing_of_ours(path: Path) -> None:
    assert not touches(path, *OURS, "locust")


@pytest.mark.parametrize("path", files("lab"), ids=lambda path: str(path.relative_to(ROOT)))
def test_lab_imports_no_scenario_no_target_no_framework_and_no_analysis_but_in_the_command_line(path: Path) -> None:
    ours = ("scenarios", "targets", "bench") if "cli" in path.parts else ("scenarios", "targets", "bench", "analysis")
    assert not touches(path, *ours, "fastapi", "starlette", "pandas", "matplotlib")
    if not in_generator(path):
        assert not touches(path, "locust", "gevent")


@pytest.mark.parametrize("path", files("lab/generator"), ids=lambda path: path.name)
def test_the_load_generator_knows_the_words_and_little_else(path: Path) -> None:
    if path.name == "engine.py":  # the orchestrator's side of it
        return
    ours = {name for name in touches(path, *OURS) if name != "lab"}
    allowed = (
        "lab.model",
        "lab.words.loads",
        "lab.words.lengths",
        "lab.words.codec",
        "lab.words.errors",
        "lab.generator",
        "lab.target.address",
    )
    assert not {name for name in ours if not name.startswith(allowed)}


@pytest.mark.parametrize("path", files("scenarios"), ids=lambda path: str(path.relative_to(ROOT)))
def test_scenarios_import_the_words_the_users_and_locust(path: Path) -> None:
    assert not {
        name for name in touches(path, *OURS) if not name.startswith(("lab.model", "lab.words", "lab.generator"))
    }


@pytest.mark.parametrize("path", files("analysis"), ids=lambda path: str(path.relative_to(ROOT)))
def test_analysis_starts_nothing(path: Path) -> None:
    allowed = (
        "lab.model",
        "lab.words",
        "lab.target.inside.rows",
        "lab.run.grid",
        "lab.catalog.faults",
        "lab.catalog.hashes",
        "lab.run.attempts",
        "lab.store",
        "lab.locate",
        "lab.selftest.apps",
        "lab.selftest.plan",
    )
    assert not {
        name
        for name in touches(path, "lab", "scenarios", "targets", "bench")
        if name != "lab" and not name.startswith(allowed)
    }
    assert not touches(path, "locust", "gevent", "fastapi", "subprocess")


RANKS = (
    ("target.inside",), ("words", "model"), ("guard", "locate", "ports", "private", "redact"), ("processes", "store"), ("catalog", "services"),
    ("target",), ("generator",), ("observe",), ("run",), ("terminal",), ("selftest",), ("commands",), ("cli",),
)  # fmt: skip
"""The rooms of docs/architecture.md from the bottom up: a file imports from its own and from those below."""


def room_of(module: str) -> str:
    parts = module.split(".")
    return "target.inside" if parts[1:3] == ["target", "inside"] else parts[1]


def test_every_import_points_down_from_room_to_room() -> None:
    rank = {room: number for number, rooms in enumerate(RANKS) for room in rooms}
    upward = []
    for path in files("lab"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "lab":
            continue
        for name in imports(path):
            if name.startswith("lab.") and rank[room_of(name)] > rank[room_of(module)]:
                upward.append(f"{module} imports {name}")
    assert upward == []


def test_the_words_need_only_the_standard_library() -> None:
    import sys

    for name in (
        "model.py",
        *(f"words/{name}.py" for name in ("loads", "references", "record", "errors", "surroundings", "survival")),
    ):
        roots = {found.split(".")[0] for found in imports(ROOT / "lab" / name)}
        assert not {root for root in roots if root not in sys.stdlib_module_names} - {"lab"}


@pytest.mark.parametrize(
    "path", [*files("lab", "analysis"), ROOT / "bench.py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_the_arrows_have_no_circles() -> None:
    """Module-level imports only: an import inside a function is how a rare, heavy path is kept off the common one."""
    graph: dict[str, set[str]] = {}
    for path in files("lab", "analysis"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        tops = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {n.module for n in tops if isinstance(n, ast.ImportFrom) and n.module}
        names |= {f"{n.module}.{a.name}" for n in tops if isinstance(n, ast.ImportFrom) for a in n.names}
        graph[module] = names
    graph = {module: {name for name in names if name in graph and name != module} for module, names in graph.items()}

    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        queue = list(graph[start])
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += graph[name]
        return seen

    assert [module for module in graph if module in reaches(module)] == []


def test_no_path_of_a_machine_and_no_registry_host_is_tracked() -> None:
    machine = re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm|root)/")
    for path in [
        *files("lab", "analysis", "targets", "scenarios", "tests", "scripts", "benchmarks"),
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
    ]:
        if path != Path(__file__).resolve():
            assert not machine.search(path.read_text()), path
