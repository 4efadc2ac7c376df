"""The pins of pyproject.toml: every dependency has one, none names where it comes from, and the script that makes them is right."""

import re
import tomllib
from pathlib import Path
from typing import Any

from scripts import renew_pins

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
REGISTRY = {"registry": "https://example.org/simple"}


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=;! ]", requirement)[0].lower().replace("_", "-")


def test_every_dependency_is_pinned() -> None:
    pinned = {name_of(one) for one in PROJECT["tool"]["uv"]["constraint-dependencies"]}
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    assert {name_of(one) for one in asked} <= pinned


def test_a_pin_is_a_name_a_version_and_at_most_a_python() -> None:
    for one in PROJECT["tool"]["uv"]["constraint-dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; (python_full_version|and|or|[<>=()' 0-9.*])+)?", one), one


def test_a_package_with_several_versions_is_pinned_for_each_python() -> None:
    linux = "implementation_name == 'cpython' and sys_platform == 'linux'"
    old = [f"python_full_version < '3.12' and {linux}"]
    new = [
        f"python_full_version >= '3.14' and {linux}",
        f"python_full_version >= '3.12' and python_full_version < '3.14' and {linux}",
    ]
    lock = {
        "package": [
            {"name": "numpy", "version": "2.4", "source": REGISTRY, "resolution-markers": old},
            {"name": "numpy", "version": "2.5", "source": REGISTRY, "resolution-markers": new},
            {"name": "fastapi", "version": "0.165.0", "source": REGISTRY},
            {"name": "the-lab-itself", "version": "0.1", "source": {"virtual": "."}},
        ]
    }
    assert renew_pins.pins(lock) == [
        "fastapi==0.165.0",
        "numpy==2.4 ; python_full_version < '3.12'",
        "numpy==2.5 ; python_full_version >= '3.14' or (python_full_version >= '3.12' and python_full_version < '3.14')",
    ]


def test_what_stands_around_the_pins_is_left_alone() -> None:
    text = f"a\n{renew_pins.BEGIN}\nold\n{renew_pins.END}\nb\n"
    once = renew_pins.written(text, ["x==1"])
    assert once == f'a\n{renew_pins.BEGIN}\nconstraint-dependencies = [\n    "x==1",\n]\n{renew_pins.END}\nb\n'
    assert renew_pins.written(once, ["x==1"]) == once
