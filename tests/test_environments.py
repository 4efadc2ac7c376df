"""Environments for other library versions: trusted only where they are ours, whole or not there, no password in a reason."""

import os
import sys
from pathlib import Path

import pytest

from lab.model import ClosedLoad, Condition, Server
from lab.target import interpreters as environments
from lab.target.interpreters import (
    environment_for,
    is_ready,
    reason_of,
    requirements_for,
    target_python,
    without_passwords,
)
from lab.words.errors import NotHereError

UV = """#!/bin/sh
echo "$@" >> "$UV_LOG"; pwd >> "$UV_LOG.folders"
last=""; for one in "$@"; do last="$one"; done
if [ "$1" = venv ]; then mkdir -p "$last/bin" && ln -s {python} "$last/bin/python"; exit 0; fi
if [ -n "$UV_FAILS" ]; then echo "error: $UV_FAILS" >&2; exit 1; fi
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of our own and a uv that only makes folders and writes down what it was asked."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text(UV.format(python=sys.executable))
    (tools / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(environments, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(environments, "_refused", {})
    (tmp_path / "log").touch()
    return tmp_path


def asked(cache: Path) -> list[str]:
    return (cache / "log").read_text().splitlines()


def test_an_environment_is_built_once_and_closed_to_others(cache: Path) -> None:
    first, again = environment_for({"fastapi": "0.117.1"}), environment_for({"fastapi": "0.117.1"})
    assert first == again and first.exists()
    venv, install = asked(cache)
    assert "--relocatable" in venv and "fastapi==0.117.1" in install and "uvicorn[standard]" in install
    folder = first.parent.parent
    assert folder.stat().st_mode & 0o077 == 0 and folder.parent.stat().st_mode & 0o077 == 0
    assert [one.name for one in folder.parent.iterdir()] == [folder.name], "nothing is left aside"
    assert environment_for({"fastapi": "0.118.0"}) != first


def test_the_pins_of_the_repository_are_not_the_targets(cache: Path) -> None:
    """uv reads pyproject.toml of the folder that it is started in, and of those above: FastAPI 0.105 could not be had with our pin."""
    environment_for({"fastapi": "0.105.0"})
    folders = {Path(line) for line in (cache / "log.folders").read_text().splitlines()}
    root = Path(environments.__file__).resolve().parents[2]
    assert folders and not any(folder.is_relative_to(root) for folder in folders)


def test_environments_differ_in_the_named_packages_alone() -> None:
    from importlib.metadata import version

    usual = ["uvicorn[standard]", "anyio", "no-such-driver"]
    one, other = (requirements_for({"fastapi": number}, usual, ours=True) for number in ("0.117.1", "0.118.0"))
    assert one == [
        "fastapi==0.117.1",
        f"uvicorn[standard]=={version('uvicorn')}",
        f"anyio=={version('anyio')}",
        "no-such-driver",
    ]
    assert other == ["fastapi==0.118.0", *one[1:]]
    named = requirements_for({"uvicorn": "0.30.0"}, usual, ours=False)
    assert named == ["fastapi", "uvicorn[standard]==0.30.0", "anyio", "no-such-driver"], (
        "a pin keeps what comes with it"
    )


def test_the_server_and_the_drivers_are_in_it(cache: Path) -> None:
    target_python(Condition("c", ClosedLoad(1), server=Server(kind="granian"), packages={"fastapi": "0.1"}), ("redis",))
    assert "granian==" in asked(cache)[1] and "redis==" in asked(cache)[1]
    assert target_python(Condition("c", ClosedLoad(1))) == sys.executable


def test_a_half_built_one_is_built_again(cache: Path) -> None:
    folder = environment_for({}).parent.parent
    (folder / "ready").unlink()
    assert environment_for({}).exists() and len(asked(cache)) == 4
    (folder / "ready").write_text("something else")
    assert environment_for({}).exists() and len(asked(cache)) == 6


def test_a_failed_build_leaves_nothing_and_is_asked_for_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FAILS", "https://me:hunter2@index.example/simple says no")
    for _ in range(2):
        with pytest.raises(NotHereError, match="says no") as caught:
            environment_for({"fastapi": "9.9"})
    assert "hunter2" not in str(caught.value) and len(asked(cache)) == 2
    assert list((cache / "cache" / "fastapi-gotcha-lab" / "environments").iterdir()) == []


@pytest.mark.parametrize("level", ["fastapi-gotcha-lab", "fastapi-gotcha-lab/environments"])
def test_a_folder_that_others_may_write_to_is_not_trusted(cache: Path, level: str) -> None:
    environment_for({})
    (cache / "cache" / level).chmod(0o777)
    with pytest.raises(NotHereError, match="written by others"):
        environment_for({})


def test_a_planted_link_is_not_trusted(cache: Path) -> None:
    (cache / "elsewhere").mkdir()
    (cache / "cache" / "fastapi-gotcha-lab").mkdir(parents=True, mode=0o700)
    (cache / "cache" / "fastapi-gotcha-lab" / "environments").symlink_to(cache / "elsewhere")
    with pytest.raises(NotHereError, match="link"):
        environment_for({})
    assert asked(cache) == []


def test_an_environment_that_became_writable_to_others_is_built_again(cache: Path) -> None:
    folder = environment_for({}).parent.parent
    folder.chmod(0o777)
    assert environment_for({}).parent.parent == folder and len(asked(cache)) == 4
    assert is_ready(folder, (folder / "ready").read_text().split("\n"))


def test_what_a_killed_build_left_is_swept_and_a_living_one_is_not(cache: Path) -> None:
    home = environment_for({}).parent.parent.parent
    dead, living = home / ".abc.4194999.00", home / f".abc.{os.getppid()}.00"  # above the largest pid of Linux
    dead.mkdir()
    living.mkdir()
    environment_for({"fastapi": "0.1"})
    assert not dead.exists() and living.exists()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://a:b@h/x and postgresql://c@d", "https://***@h/x and postgresql://***@d"),
        ("https://h/x@y", "https://h/x@y"),
    ],
)
def test_addresses_lose_what_may_be_a_password(text: str, clean: str) -> None:
    assert without_passwords(text) == clean


def test_a_reason_says_what_conflicts_with_what() -> None:
    said = "error: No solution found when resolving dependencies\n  cause: Because fastapi==0.105.0 depends on anyio<4.0.0\n  And because"
    assert reason_of(said) == (
        "error: No solution found when resolving dependencies: Because fastapi==0.105.0 depends on anyio<4.0.0"
    )
    assert reason_of("warning: slow\nerror: no such index\n") == "error: no such index"
    assert reason_of("") == "no output"
