"""Library versions and interpreters as a condition: an environment for the target only, built once by uv and kept outside the repository."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from lab.errors import NotHereError
from lab.model import Condition, Service

BASE = ("uvicorn[standard]", "gunicorn", "uvicorn-worker", "anyio")
"""What every target's environment holds beside the packages that the condition names."""
DRIVERS: Mapping[Service, tuple[str, ...]] = {
    "postgres": ("sqlalchemy[asyncio]", "asyncpg", "psycopg[binary]"),
    "redis": ("redis",),
    "upstream": ("httpx", "httpx2"),
    "celery": ("celery",),
}
"""What it holds besides where the gotcha uses the service: some drivers have no wheels for every interpreter (3.14t)."""
BUILD_TIMEOUT_S = 300
_refused: dict[str, str] = {}
"""Why an environment could not be had, by its key: an index that cannot be reached is asked once a run, not once a trial."""


def target_python(condition: Condition, services: Sequence[Service] = ()) -> str:
    """The interpreter that runs the target under this condition.  Raises NotHereError with the reason where it cannot be had."""
    if not condition.packages and not condition.python:
        return sys.executable
    return str(environment_for(condition.packages, condition.python, services))


def environment_for(packages: Mapping[str, str], python: str = "", services: Sequence[Service] = ()) -> Path:
    """The interpreter of an environment with these packages pinned and the drivers of ``services``, built on first use.

    Raises NotHereError.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise NotHereError("library versions as a condition need uv on the PATH", "python3 -m pip install uv")
    wanted = {"fastapi": "", **packages}
    pins = sorted(f"{name}=={version}" if version else name for name, version in wanted.items())
    usual = [*BASE, *(driver for service in services for driver in DRIVERS[service])]
    requirements = [*pins, *(one for one in usual if one.split("[")[0] not in wanted)]
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


def interpreter_for(python: str) -> str:
    """What uv is asked for: ours, a path, or a version.

    A version is looked for among pyenv's first: its shims stand on the PATH for every version that is installed and refuse all but the
    selected ones, and uv gives up at the first that refuses.
    """
    if not python:
        return sys.executable
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*versions.glob(f"{python}/bin/python"), *versions.glob(f"{python}.*/bin/python")]
    # 3.14t is another build than 3.14, which a pattern of 3.14.* would take for the same
    found = [one for one in found if one.parent.parent.name.endswith("t") == python.endswith("t")]
    return str(max(found, key=_release)) if found else python


def _release(interpreter: Path) -> list[int]:
    return [int(part) for part in interpreter.parent.parent.name.rstrip("t").split(".") if part.isdigit()]


def _build(folder: Path, interpreter: Path, python: str, requirements: list[str], uv: str) -> str:
    """Make the environment; returns why it could not be made, or ""."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # never a download of an interpreter: what is not on this machine is skipped with its reason
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    steps = (
        [uv, "venv", "-q", "--python", interpreter_for(python), str(folder)],
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(interpreter), *requirements],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, env=env, timeout=BUILD_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return next(
                (line for line in lines if "error" in line or "No " in line), lines[0] if lines else "no output"
            )
    (folder / "ready").write_text("\n".join(requirements))
    return ""
