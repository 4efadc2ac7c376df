"""A running PostgreSQL: databases for trials, what the targets did there, the plans of their statements.

On a server of the user's everything has names of the lab's own with a random part, nothing that was there is changed, no statistics but the
lab's own are forgotten, and all is dropped at the end.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from lab.processes import Child
from lab.redact import keep_secret, redacted
from lab.services.plans import Explainer
from lab.services.postgres_session import PREFIX, Patient, drop_what_is_dead, next_step, refuse_leftovers, unreported
from lab.words.errors import ServerError, ServiceError
from lab.words.record import Statement

OLDEST = 150000
"""PostgreSQL 15 was the first whose idle connections report what they counted."""


class Postgres:
    """A running PostgreSQL.  Targets have a role of their own, which is no superuser: the reserved connections are not theirs."""

    def __init__(
        self, server_url: str, source: str, child: Child | None = None, log_path: Path | None = None,
        clean: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """``child``, ``log_path`` and ``clean``, which removes its files, belong to a server of ours."""
        parts = urlsplit(server_url)
        if not parts.hostname:
            raise ServiceError(
                "LAB_POSTGRES_URL names no host", "For example postgresql://me:secret@127.0.0.1:5432/postgres."
            )
        self.source = source
        self.log_path = log_path
        self._address = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._address += f":{parts.port or 5432}"
        self._url = server_url
        self._child = child
        self._clean = clean
        self._mark = PREFIX + secrets.token_hex(4)
        self._password = keep_secret(secrets.token_urlsafe(18))
        self._made: list[str] = []
        self._templates = 0
        self._backends: set[int] = set()
        self._sessions: dict[str, int] = {}
        self._forgotten = 0
        self._admin = self._connect()
        self.version = f"PostgreSQL {self._one('SHOW server_version')}"
        self.explainer = Explainer(self._admin, log_path) if child is not None and log_path is not None else None
        """Reads plans; None on a server of the user's, whose settings and log are not ours."""

    # ---- connections of the lab's own

    def _connect(self, database: str = "") -> "psycopg.Connection[dict[str, Any]]":
        url = urlsplit(self._url)._replace(path=f"/{database}").geturl() if database else self._url
        try:
            connection = Patient.connect(
                url, autocommit=True, row_factory=dict_row, connect_timeout=5, application_name=self._mark
            )
        except psycopg.Error as error:
            raise ServiceError(
                f"PostgreSQL does not answer: {redacted(str(error))}", "Check LAB_POSTGRES_URL, or unset it."
            ) from None  # the cause holds the address
        self._backends.add(connection.info.backend_pid)
        return connection

    @contextmanager
    def _connected(self, database: str, *, as_target: bool) -> Iterator["psycopg.Connection[Any]"]:
        """A connection to a database, as the targets' role or as the lab's, that no count takes for the target's."""
        url = self.url(database) if as_target else urlsplit(self._url)._replace(path=f"/{database}").geturl()
        self._sessions[database] = self._sessions.get(database, 0) + 1
        with Patient.connect(url, autocommit=True, connect_timeout=5, application_name=self._mark) as connection:
            pid = connection.info.backend_pid
            self._backends.add(pid)
            try:
                yield connection
            finally:
                self._backends.discard(pid)

    def own_backends(self) -> set[int]:
        """Pids of the server's processes that work for the lab itself: their CPU time and their connections are not the target's."""
        return set(self._backends)

    def _one(self, query: str, parameters: tuple[Any, ...] = ()) -> Any:
        row = self._admin.execute(query.encode(), parameters).fetchone()
        return None if row is None else next(iter(row.values()))

    def pids(self) -> list[int]:
        """The postmaster, where it is ours."""
        return [self._child.pid] if self._child else []

    def problem(self) -> str:
        """What is wrong with the server now, or an empty string."""
        if self._child is not None and (code := self._child.poll()) is not None:
            return f"postgres died (code {code}): {self._child.log_tail(3)}"
        try:
            self._admin.execute("SELECT 1")
        except psycopg.Error as error:
            return f"postgres died or cut the lab's own connection: {redacted(str(error)).strip()}"
        return ""

    # ---- before and after everything

    def prepare(self) -> None:
        """Make the role that targets use and, on a foreign server, a database for the lab itself.  Raises ServiceError."""
        try:
            if self._admin.info.server_version < OLDEST:
                raise ServiceError(f"{self.version} is too old", "LAB_POSTGRES_URL needs PostgreSQL 15 or later.")
            drop_what_is_dead(self._admin)
            refuse_leftovers(self._admin)
            # a verifier instead of the password: the statement may be logged
            verifier = self._admin.pgconn.encrypt_password(self._password.encode(), self._mark.encode()).decode()
            self._admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER PASSWORD {}").format(
                    sql.Identifier(self._mark), sql.Literal(verifier)
                )
            )
            if self._child is None:
                self._create(self._mark, "template1")
                first = self._admin  # closed after the next is open: it says to other labs that this one lives
                self._admin = self._connect(self._mark)
                self._backends.discard(first.info.backend_pid)
                first.close()
            self._admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self._admin.execute("SELECT count(*) FROM pg_stat_statements")
        except psycopg.Error as error:
            self.stop()
            raise ServiceError(f"PostgreSQL cannot be prepared: {redacted(str(error)).strip()}",
                               "LAB_POSTGRES_URL needs a superuser and pg_stat_statements in shared_preload_libraries.") from error  # fmt: skip

    def stop(self) -> None:
        """Stop ours; drop everything of ours on a foreign one.  Raises ServiceError where something had to be left there."""
        if self._child is not None:
            self._admin.close()
            self._child.stop(5.0)
            self._clean()
            return
        try:
            self._admin.close()
            self._admin = self._connect()
            for name in list(self._made):
                self.drop(name)
            self._admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(self._mark)))
        except (psycopg.Error, ServiceError) as error:
            raise ServiceError(
                f"not everything of {self._mark} could be dropped: {redacted(str(error)).strip()}",
                f"Drop the databases and the role whose names begin with {self._mark}.",
            ) from error
        finally:
            with suppress(psycopg.Error):
                self._admin.close()

    # ---- databases

    def url(self, database: str) -> str:
        """Where a target finds a database."""
        return f"postgresql://{self._mark}:{self._password}@{self._address}/{database}"

    def address(self, database: str, lane: int | None) -> str:
        """The same; "" where there is no database.  The arms of a duet have databases of their own."""
        return self.url(database) if database else ""

    def build_template(self, dataset: Path) -> str:
        """Build a template database from a dataset.sql, as the targets' role.  Raises ServiceError with PostgreSQL's message."""
        self._templates += 1
        name = f"{self._mark}_template_{self._templates}"
        self._create(name, "template1")
        try:
            with self._connected(name, as_target=True) as connection:
                connection.execute(dataset.read_text().encode())
            with self._connected(name, as_target=False) as connection:
                connection.execute("VACUUM (ANALYZE, FREEZE)")
        except psycopg.Error as error:
            raise ServiceError(
                f"{dataset.parent.name}/dataset.sql: {error}", next_step(error, "Mend the dataset and run again.")
            ) from error
        return name

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(self._mark)
        )
        if self._child is not None:  # copying files is fast and asks for a checkpoint: on ours that is nobody's loss
            statement += sql.SQL(" STRATEGY {}").format(sql.SQL("wal_log" if template == "template1" else "file_copy"))
        self._admin.execute(statement)
        self._made.append(name)

    def fresh_copy(self, template: str | None) -> str:
        """A new database, empty or a copy of the template; returns its name."""
        name = f"{self._mark}_trial_{secrets.token_hex(5)}"
        self._create(name, template or "template1")
        return name

    def drop(self, name: str) -> None:
        """Drop a database that we made, whoever is connected.  Raises ServerError for any other."""
        if name not in self._made:
            raise ServerError(f"{name} is no database of this lab", "Only databases that it made are dropped.")
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.remove(name)
        self._sessions.pop(name, None)

    def execute(self, database: str, text: str, *, as_target: bool = True) -> None:
        """Run statements in a database, as the targets' role or as the lab's.  Raises ServerError with PostgreSQL's message."""
        try:
            with self._connected(database, as_target=as_target) as connection:
                connection.execute(text.encode())
        except psycopg.Error as error:
            raise ServerError(
                f"SQL of the scenario: {error}", next_step(error, f"The statement was: {text[:200]}")
            ) from error

    def scalar(self, database: str, text: str) -> Any:
        """The first column of the first row, None for none.  Raises ServerError with PostgreSQL's message."""
        try:
            with self._connected(database, as_target=True) as connection:
                row = connection.execute(text.encode()).fetchone()
        except psycopg.Error as error:
            raise ServerError(
                f"SQL of the scenario: {error}", next_step(error, f"The statement was: {text[:200]}")
            ) from error
        return None if row is None else row[0]

    # ---- counters

    def reset_statements(self, database: str) -> None:
        """Forget what pg_stat_statements has seen of the targets' role in a database, and nothing else."""
        self._admin.execute(
            "SELECT pg_stat_statements_reset((SELECT oid FROM pg_roles WHERE rolname = %s),"
            " (SELECT oid FROM pg_database WHERE datname = %s), 0)",
            (self._mark, database),
        )
        self._forgotten = int(self._one("SELECT dealloc FROM pg_stat_statements_info"))

    def statements(self, database: str) -> list[Statement]:
        """What the targets' role has run in a database since the last reset.  Raises ServerError where statements were forgotten since."""
        rows = self._admin.execute(
            "SELECT query, calls, rows, shared_blks_hit + shared_blks_read AS blks, total_exec_time AS ms"
            " FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid"
            " WHERE d.datname = %s AND r.rolname = %s ORDER BY calls DESC",
            (database, self._mark),
        )
        found = [
            Statement(" ".join(row["query"].split()), row["calls"], row["rows"], row["blks"], row["ms"]) for row in rows
        ]
        if int(self._one("SELECT dealloc FROM pg_stat_statements_info")) != self._forgotten:
            raise ServerError("pg_stat_statements ran full and forgot statements", "Raise pg_stat_statements.max.")
        return found

    def activity(self, database: str) -> dict[str, int]:
        """Connections of a database by state, now, without the lab's own."""
        rows = self._admin.execute(
            "SELECT coalesce(state, 'starting') AS state, count(*) AS n FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' AND pid <> ALL(%s) GROUP BY 1",
            (database, list(self._backends)),
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
        """Sessions that a database has seen so far, without the lab's own."""
        self._admin.execute("SELECT pg_stat_clear_snapshot()")
        seen = int(self._one("SELECT sessions FROM pg_stat_database WHERE datname = %s", (database,)) or 0)
        return seen - self._sessions.get(database, 0)

    def table_rows_read(self, database: str) -> dict[str, int]:
        """Rows read per table, by scans and by index: exact where ``unreported`` has said that nothing is missing."""
        with self._connected(database, as_target=False) as connection:
            rows = connection.execute(
                "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
            ).fetchall()
        return {name: int(count) for name, count in rows}

    def unreported(self, database: str) -> str:
        """Which connections may still hold back counts of tables, or an empty string where every one has reported."""
        return unreported(self._admin, database, list(self._backends))
