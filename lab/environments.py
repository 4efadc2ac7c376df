"""Library versions and interpreters as a condition: an environment for the target only, built once by uv and kept outside the repository."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

from lab.errors import NotHereError
from lab.model import Condition

BASE = (
    "uvicorn[standard]",
    "gunicorn",
    "uvicorn-worker",
    "sqlalchemy[asyncio]",
    "asyncpg",
    "psycopg[binary]",
    "redis",
    "httpx",
    "httpx2",
    "anyio",
)
"""What a target's environment holds beside the packages that the condition names."""
BUILD_TIMEOUT_S = 300
_refused: dict[str, str] = {}
"""Why an environment could not be had, by its key: an index that cannot be reached is asked once a run, not once a trial."""


def target_python(condition: Condition) -> str:
    """The interpreter that runs the target under this condition.  Raises NotHereError with the reason where it cannot be had."""
    if not condition.packages and not condition.python:
        return sys.executable
    return str(environment_for(condition.packages, condition.python))


def environment_for(packages: Mapping[str, str], python: str = "") -> Path:
    """The interpreter of an environment with these packages pinned, built on first use.  Raises NotHereError."""
    uv = shutil.which("uv")
    if uv is None:
        raise NotHereError("library versions as a condition need uv on the PATH", "python3 -m pip install uv")
    wanted = {"fastapi": "", **packages}
    pins = sorted(f"{name}=={version}" if version else name for name, version in wanted.items())
    requirements = [*pins, *(one for one in BASE if one.split("[")[0] not in wanted)]
    key = hashlib.sha256("\n".join([python or sys.version, *requirements]).encode()).hexdigest()[:16]
    folder = user_cache_path("fastapi-gotcha-lab") / "environments" / key
    interpreter = folder / "bin" / "python"
    if (folder / "ready").is_file() and interpreter.exists():
        return interpreter
    if key not in _refused:
        _refused[key] = _build(folder, interpreter, python, requirements, uv)
    if _refused[key]:
        raise NotHereError(f"the environment for {python} {', '.join(pins)} cannot be had here: {_refused[key]}")
    return interpreter


def _build(folder: Path, interpreter: Path, python: str, requirements: list[str], uv: str) -> str:
    """Make the environment; returns why it could not be made, or ""."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # never a download of an interpreter: what is not on this machine is skipped with its reason
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    steps = (
        [uv, "venv", "-q", "--python", python or sys.executable, str(folder)],
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(interpreter), *requirements],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, env=env, timeout=BUILD_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            return (done.stderr.strip().splitlines() or ["no output"])[-1]
    (folder / "ready").write_text("\n".join(requirements))
    return ""
