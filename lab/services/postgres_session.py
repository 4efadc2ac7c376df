"""The lab's own connections to PostgreSQL: each has a time-out, each says whose it is, and what a killed lab left is found by that."""

from contextlib import suppress
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.abc import RV, PQGen

from lab.services.disposable import may_be_emptied
from lab.words.errors import ServiceError

PREFIX = "gotcha_lab_"
ANSWER_S = 120.0
"""No statement of the lab's own takes so long, a large dataset's included: the server is stopped or hangs."""
REPORTED_AFTER_S = 10.0
"""When a connection that has fallen idle reports what it counted in tables at the latest (PGSTAT_IDLE_INTERVAL of pgstat.c).

It reports at once only where its last report is a second old.
"""


class Patient(psycopg.Connection[Any]):
    """A connection that gives up: one to a server that is stopped (SIGSTOP, a frozen machine) would wait without end."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, for ``ANSWER_S`` at most.  Raises OperationalError then, and the connection is closed."""
        try:
            return super().wait(gen, interval, ANSWER_S if timeout is None else timeout)
        except errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {ANSWER_S:.0f} s") from error


def drop_what_is_dead(admin: "psycopg.Connection[Any]") -> None:
    """Drop what labs that were killed left on the server.

    A lab has a role with a random name, databases that belong to it, and a connection that bears that name from before the role is made
    until after it is dropped.  So a role of such a name without any connection is a dead lab's.  Anything else of a like name is left.
    """
    rows = admin.execute(
        "SELECT rolname AS name FROM pg_roles r WHERE rolname ~ %(mark)s AND NOT rolsuper AND NOT EXISTS ("
        "SELECT FROM pg_stat_activity a WHERE a.application_name = r.rolname OR a.usename = r.rolname"
        " OR a.datname = r.rolname OR starts_with(a.datname, r.rolname || '_'))",
        {"mark": f"^{PREFIX}[0-9a-f]{{8}}$"},
    ).fetchall()
    for mark in [row["name"] for row in rows]:
        owned = admin.execute(
            "SELECT datname AS name FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = %(mark)s"
            " AND (datname = %(mark)s OR starts_with(datname, %(mark)s || '_'))",
            {"mark": mark},
        ).fetchall()
        # somebody has come to use it in this moment, or has given the role something: it stays, and is named in a refusal
        with suppress(errors.ObjectInUse, errors.DependentObjectsStillExist):
            for name in [row["name"] for row in owned]:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(mark)))


def refuse_leftovers(admin: "psycopg.Connection[Any]") -> None:
    """Raises ServiceError where something of a lab's name is on the server, unless it may be emptied."""
    rows = admin.execute(
        "SELECT datname AS name FROM pg_database WHERE starts_with(datname, %(prefix)s)"
        " UNION SELECT rolname FROM pg_roles WHERE starts_with(rolname, %(prefix)s) ORDER BY 1",
        {"prefix": PREFIX},
    )
    found = [row["name"] for row in rows]
    if found and not may_be_emptied():
        raise ServiceError(
            f"the server has databases or roles of a lab already: {', '.join(found[:6])}",
            "Another lab uses it, or one was killed: drop them, or go on beside them with LAB_SERVICES_DISPOSABLE=1.",
        )


def unreported(admin: "psycopg.Connection[Any]", database: str, own: list[int]) -> str:
    """Which connections besides the lab's ``own`` may still hold back counts of tables, or an empty string where every one has reported."""
    row = admin.execute(
        "SELECT count(*) FILTER (WHERE state IS DISTINCT FROM 'idle') AS busy,"
        " coalesce(min(extract(epoch FROM clock_timestamp() - state_change)), 'infinity') AS idle_s FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend' AND pid <> ALL(%s)",
        (database, own),
    ).fetchone()
    assert row is not None
    if row["busy"]:
        return f"{row['busy']} connection(s) are in a statement or a transaction"
    return "" if row["idle_s"] > REPORTED_AFTER_S else f"a connection has been idle for {row['idle_s']:.1f} s only"


def next_step(error: psycopg.Error, otherwise: str) -> str:
    """What to do about an error in SQL of a gotcha: nothing is wrong with the SQL where the server lacks room (class 53) or broke (58)."""
    if (error.sqlstate or "").startswith(("53", "58")):
        return "The server lacks room, or its disk broke: make room where its data lies (TMPDIR for the lab's own), and run again."
    return otherwise
