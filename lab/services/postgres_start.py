"""A PostgreSQL of the lab's own from initdb to its first answer, or the one that the user names."""

import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab.ports import PortReservation
from lab.processes import Child, Guard, unused_log, wait_until
from lab.redact import keep_secret, keep_secret_in
from lab.services.kind import ServiceKind
from lab.services.postgres import Postgres
from lab.services.postgres_binaries import Binaries, account, system_binaries, wheel_binaries
from lab.words.errors import ServerError, ServiceError

START_TIMEOUT_S = 20.0
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "1000", "shared_buffers": "256MB",
    "shared_preload_libraries": "pg_stat_statements,auto_explain", "pg_stat_statements.track_utility": "on",
    "pg_stat_statements.max": "10000",
    # durability is not under test, and a checkpoint or autovacuum in the middle of a trial would be noise
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "4GB",
    "checkpoint_timeout": "1h", "jit": "off",
    # one query = one process: rows read and CPU per request stay comparable on machines of any width
    "max_parallel_workers_per_gather": "0", "track_functions": "none", "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ", "file_copy_method": "clone", "log_temp_files": "-1",
}  # fmt: skip


def _initdb(binaries: Binaries, data: Path, password_file: Path, user: str | None) -> None:
    identity: dict[str, Any] = (
        {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    )
    command = [str(binaries.folder / "initdb"), "-D", str(data), "-U", "lab", "-A", "scram-sha-256", "--pwfile", str(password_file),
               "--no-sync", "-E", "UTF8", "--no-locale"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **identity)
    if done.returncode != 0:
        raise ServiceError(f"initdb failed: {done.stderr.strip()[-400:]}", "Try --services system or LAB_POSTGRES_URL.")


def _password_file(folder: Path, password: str, user: str | None) -> Path:
    """A file that initdb reads, written while the folder is closed to everybody but us: nobody can have put a link in its place."""
    path = folder / "password"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(password)
    if user is not None:
        entry = pwd.getpwnam(user)
        for one in (path, folder):
            os.chown(one, entry.pw_uid, entry.pw_gid)
    return path


def start_postgres(guard: Guard, log_folder: Path, mode: str, settings: Mapping[str, str]) -> Postgres:
    """A PostgreSQL of our own, or the one that LAB_POSTGRES_URL names (a superuser's URL).  Raises ServiceError."""
    named = os.environ.get("LAB_POSTGRES_URL")
    if named:
        keep_secret_in(named)
        theirs = Postgres(named, "LAB_POSTGRES_URL")
        theirs.prepare()
        return theirs
    folders: list[Path] = []

    def scratch(prefix: str) -> Path:
        folders.append(guard.temporary_folder(prefix))
        return folders[-1]

    def clean() -> None:
        for folder in folders:
            guard.remove(folder)

    with ExitStack() as undo:
        undo.callback(clean)
        user = account()
        binaries = system_binaries() if mode == "system" else wheel_binaries(user, scratch)
        folder = scratch("postgres-")
        password = keep_secret(secrets.token_urlsafe(18))
        password_file = _password_file(folder, password, user)
        _initdb(binaries, folder / "data", password_file, user)
        password_file.unlink()
        child, port, log_path = _start(guard, binaries, folder, unused_log(log_folder, "postgres"), settings, user)
        undo.callback(child.stop, 2.0)
        url = f"postgresql://lab:{password}@127.0.0.1:{port}/postgres"
        ours = Postgres(url, binaries.source, child, log_path, clean)
        ours.prepare()
        undo.pop_all()
    return ours


def _start(
    guard: Guard, binaries: Binaries, folder: Path, log_path: Path, settings: Mapping[str, str], user: str | None
) -> tuple[Child, int, Path]:  # fmt: skip
    """The server on a free port, once it accepts connections.  Raises ServiceError."""
    options = [part for name, value in {**SETTINGS, **settings}.items() for part in ("-c", f"{name}={value}")]
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    with PortReservation() as reservation:
        command = [str(binaries.folder / "postgres"), "-D", str(folder / "data"), "-p", str(reservation.port), *options]
        child = guard.spawn(
            command, env=env, cwd=folder, log_path=log_path, name="postgres", stop_signal=signal.SIGINT, user=user
        )
        try:
            wait_until(lambda: _accepts(log_path), START_TIMEOUT_S, child, "PostgreSQL to accept connections")
        except ServerError as error:
            child.stop(2.0)
            raise ServiceError(
                f"PostgreSQL does not start: {error}", f"See {log_path.name}; or set LAB_POSTGRES_URL."
            ) from error
    return child, reservation.port, log_path


def _accepts(log_path: Path) -> bool:
    try:
        return "ready to accept connections" in log_path.read_text(errors="replace")
    except OSError:
        return False


KIND = ServiceKind(
    "postgres",
    lambda start: start_postgres(start.guard, start.log_folder, start.mode, start.settings),
    variable="DATABASE_URL",
    drivers=("sqlalchemy[asyncio]", "asyncpg", "psycopg[binary]"),
)
