"""PgBouncer before PostgreSQL, in transaction mode: the target's connections are PgBouncer's, the sessions in PostgreSQL are few.

The program is looked for on the PATH (Debian's package is ``pgbouncer``).  It knows one role, the targets', by the password that the role has in
PostgreSQL too.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from lab.ports import PortReservation, is_listening
from lab.processes import Child, unused_log, wait_until
from lab.redact import redacted
from lab.services.kind import Running, ServiceKind, Start
from lab.services.postgres_binaries import account
from lab.words.errors import NotHereError, ServerError, ServiceError

START_TIMEOUT_S = 10.0
POOL_SIZE = 20
CLIENTS = 2000
TOTALS = {"transactions": ("xact_count", 1.0), "queries": ("query_count", 1.0), "wait_s": ("wait_time", 1e-6)}
"""What is kept of SHOW STATS_TOTALS: our name, its column, and what makes the unit."""
CONSOLE = "pgbouncer"
"""The database that is PgBouncer's own console."""


class PgBouncer:
    """A PgBouncer of ours.  ``readings``: transactions, queries, seconds that clients waited for a session, and its sessions in PostgreSQL."""

    source = "system"

    def __init__(self, child: Child, port: int, postgres: Running, version: str, clean: Callable[[], None]) -> None:
        self.version = version
        self._child = child
        self._port = port
        self._postgres = postgres
        self._clean = clean
        self._before: Mapping[str, float] = {}

    def pids(self) -> list[int]:
        """The one process."""
        return [self._child.pid]

    def problem(self) -> str:
        """How it ended, or an empty string."""
        code = self._child.poll()
        return "" if code is None else f"pgbouncer died (code {code}): {self._child.log_tail(3)}"

    def address(self, database: str, lane: int | None) -> str:
        """The database's address, by way of PgBouncer."""
        parts = urlsplit(self._postgres.address(database, lane))
        credentials = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{credentials}@127.0.0.1:{self._port}").geturl()

    def begin_counting(self) -> None:
        """Count from now on: its totals are compared, not reset."""
        self._before = self._totals()

    def readings(self) -> Mapping[str, float]:
        """See the class."""
        found = {name: value - self._before.get(name, 0.0) for name, value in self._totals().items()}
        pools = [row for row in self._show("POOLS") if row["database"] != CONSOLE]
        servers = sum(int(row[state]) for row in pools for state in ("sv_active", "sv_idle", "sv_used"))
        return {**found, "server_connections": float(servers)}

    def stop(self) -> None:
        """Stop it; its files go."""
        self._child.stop(3.0)
        self._clean()

    def _totals(self) -> dict[str, float]:
        rows = [row for row in self._show("STATS_TOTALS") if row["database"] != CONSOLE]
        return {name: sum(unit * float(row[column]) for row in rows) for name, (column, unit) in TOTALS.items()}

    def _show(self, what: str) -> list[dict[str, Any]]:
        """A command of its console, which knows the simple protocol alone.  Raises ServerError."""
        try:
            with psycopg.connect(
                self.address(CONSOLE, None), autocommit=True, connect_timeout=5, cursor_factory=psycopg.ClientCursor
            ) as connection:
                cursor = connection.execute(f"SHOW {what}")
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except psycopg.Error as error:
            raise ServerError(f"PgBouncer does not say {what}: {redacted(str(error))}", "See pgbouncer.log.") from None


def start_pgbouncer(start: Start) -> PgBouncer:
    """PgBouncer before the PostgreSQL that is up.  Raises NotHereError where there is none on the PATH, ServiceError where it does not start."""
    program = shutil.which("pgbouncer")
    if program is None:
        raise NotHereError("pgbouncer is not on the PATH", "Install it: Debian's package is called pgbouncer.")
    postgres = start.up["postgres"]
    server = urlsplit(postgres.address("postgres", None))
    folder = start.guard.temporary_folder("pgbouncer-")
    user = account()
    with PortReservation() as reservation:
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": str(reservation.port), "unix_socket_dir": "", "auth_type": "scram-sha-256",
            "auth_file": str(folder / "users"), "admin_users": server.username or "", "pool_mode": "transaction",
            "default_pool_size": str(POOL_SIZE), "max_client_conn": str(CLIENTS), "ignore_startup_parameters": "extra_float_digits",
        }  # fmt: skip
        lines = ["[databases]", f"* = host={server.hostname} port={server.port or 5432}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        _write(folder / "pgbouncer.ini", "\n".join(lines) + "\n", user)
        _write(folder / "users", f'"{server.username}" "{server.password}"\n', user)
        if user is not None:
            shutil.chown(folder, user)
        log_path = unused_log(start.log_folder, "pgbouncer")
        child = start.guard.spawn(
            [program, str(folder / "pgbouncer.ini")], env={"PATH": os.environ.get("PATH", "")}, cwd=folder, log_path=log_path,
            name="pgbouncer", stop_signal=signal.SIGTERM, user=user,
        )  # fmt: skip
        try:
            wait_until(lambda: is_listening(reservation.port), START_TIMEOUT_S, child, "PgBouncer to listen")
        except ServerError as error:
            child.stop(2.0)
            start.guard.remove(folder)
            raise ServiceError(f"PgBouncer does not start: {error}", f"See {log_path.name}.") from error
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout
    number = re.search(r"PgBouncer (\S+)", said)
    version = f"PgBouncer {number[1] if number else 'of an unknown version'}"
    return PgBouncer(child, reservation.port, postgres, version, lambda: start.guard.remove(folder))


def _write(path: Path, text: str, user: str | None) -> None:
    """A file that only PgBouncer reads: a password is in it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
    if user is not None:
        shutil.chown(path, user)


KIND = ServiceKind("pgbouncer", start_pgbouncer, variable="DATABASE_URL", needs=("postgres",), between=True)
