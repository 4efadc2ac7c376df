"""Library versions and interpreters as a condition: an environment for the target only, built once by uv and kept outside the repository.

What lies in an environment is run, so it is trusted only in a folder that is ours and closed to others.  One is built aside and renamed
when it is whole: a reader never sees half of one, and what a killed lab left is built again.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from platformdirs import user_cache_path

from lab.model import Condition
from lab.private import private_folder, why_not_private
from lab.services.kind import kind_of as kind_of_service
from lab.target.servers import kind_of
from lab.words.errors import NotHereError, StoreError

BASE = ("uvicorn[standard]", "gunicorn", "uvicorn-worker", "anyio", "pyjwt")
"""What every target's environment holds beside the packages that the condition names: servers, and what targets import of no service."""
STANDARD = {"uvloop", "httptools", "h11"}
"""What uvicorn[standard] brings."""
BUILD_TIMEOUT_S = 300
_refused: dict[str, str] = {}
"""Why an environment could not be had, by its key: an index that cannot be reached is asked once a run, not once a trial."""


def target_python(condition: Condition, services: Sequence[str] = ()) -> str:
    """The interpreter that runs the target under this condition.  Raises NotHereError with the reason where it cannot be had."""
    needed = kind_of(condition.server.kind).requirements(condition.server)
    if not condition.packages and not condition.python and all(_our_version(one) for one in needed):
        return sys.executable
    known = {one.partition("[")[0] for one in BASE} | STANDARD
    return str(
        environment_for(condition.packages, condition.python, services, [one for one in needed if one not in known])
    )


def requirements_for(packages: Mapping[str, str], usual: Sequence[str], *, ours: bool) -> list[str]:
    """What uv is asked to install: the packages as pinned, FastAPI, and ``usual``.

    With ``ours`` (the lab's own interpreter) what is usual has the versions of the lab: two environments then differ in the packages that
    are named, whenever they were built.
    """
    wanted = {"fastapi": "", **packages}
    full = {one.split("[")[0]: one for one in usual}  # uvicorn[standard] by its name: a pin keeps what comes with it
    found = [f"{full.get(name, name)}=={version}" if version else name for name, version in sorted(wanted.items())]
    for name, one in full.items():
        version = _our_version(name) if ours else ""
        if name not in wanted:
            found.append(f"{one}=={version}" if version else one)
    return found


def _our_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def environment_for(
    packages: Mapping[str, str], python: str = "", services: Sequence[str] = (), servers: Sequence[str] = ()
) -> Path:
    """The interpreter of an environment with these packages pinned, the servers and the drivers of ``services``, built on first use.

    Raises NotHereError.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise NotHereError("library versions as a condition need uv on the PATH", "python3 -m pip install uv")
    usual = [*BASE, *servers, *(driver for service in services for driver in kind_of_service(service).drivers)]
    requirements = requirements_for(packages, usual, ours=not python)
    key = hashlib.sha256("\n".join([python or sys.version, *requirements]).encode()).hexdigest()[:16]
    home = user_cache_path("fastapi-gotcha-lab") / "environments"
    try:
        private_folder(home.parent)
        private_folder(home)
    except StoreError as error:
        raise NotHereError(f"library versions as a condition need a folder of our own: {error}", error.hint) from error
    folder = home / key
    if not is_ready(folder, requirements):
        reason = _refused.get(key) or _build(folder, python, requirements, uv)
        if reason:
            _refused[key] = reason
            named = [f"{name}=={version}" for name, version in packages.items()] or ["fastapi"]
            raise NotHereError(
                f"the environment for {' '.join(filter(None, (python, ', '.join(named))))} cannot be had here: {reason}"
            )
    return folder / "bin" / "python"


def is_ready(folder: Path, requirements: Sequence[str]) -> bool:
    """Whether the folder holds this very environment, whole and ours."""
    try:
        built_for = (folder / "ready").read_text()
    except OSError:
        return False
    return built_for == "\n".join(requirements) and (folder / "bin" / "python").exists() and not why_not_private(folder)


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


def _build(folder: Path, python: str, requirements: Sequence[str], uv: str) -> str:
    """Make the environment; returns why it could not be made, or ""."""
    _sweep(folder.parent)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        reason = _install(aside, python, requirements, uv)
        if reason:
            return reason
        aside.chmod(0o700)
        (aside / "ready").write_text("\n".join(requirements))
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another lab may have been faster: then its environment is taken
            aside.rename(folder)
        return "" if is_ready(folder, requirements) else f"{folder} cannot be replaced: remove it"
    except OSError as error:
        return without_passwords(str(error))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove what labs that were killed while they built have left."""
    for aside in home.glob(".*.*.*"):
        pid = aside.name.split(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(aside, ignore_errors=True)


def _install(aside: Path, python: str, requirements: Sequence[str], uv: str) -> str:
    """Create and fill an environment that may be renamed; returns what went wrong, or ""."""
    # never a download of an interpreter: what is not on this machine is skipped with its reason
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    steps = (
        [uv, "venv", "-q", "--relocatable", "--python", interpreter_for(python), str(aside)],
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(aside / "bin" / "python"), *requirements],
    )
    for step in steps:
        try:
            # In the repository uv would hold the target to the repository's own pins.
            done = subprocess.run(
                step, cwd=aside.parent, capture_output=True, text=True, env=env, timeout=BUILD_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return without_passwords(str(error))
        if done.returncode != 0:
            return without_passwords(reason_of(done.stderr))
    return ""


def reason_of(output: str) -> str:
    """What uv complained of in one line: the error and, where it says one, its cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first = lines[0] if lines else "no output"
    error = next((line for line in lines if "error" in line or "No " in line), first)
    cause = next((line.partition("cause:")[2].strip() for line in lines if line.startswith("cause:")), "")
    return f"{error}: {cause}" if cause else error


def without_passwords(text: str) -> str:
    """The text without user names and passwords in addresses: an index of packages may need them."""
    return re.sub(r"://[^/\s@]+@", "://***@", text)
