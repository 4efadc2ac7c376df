"""The lab's own connections to PostgreSQL: none waits for ever, each says whose it is, and what a killed lab left is found by that."""

from contextlib import suppress
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.abc import RV, PQGen

PREFIX = "gotcha_lab_"
ANSWER_S = 120.0
"""No statement of the lab's own takes so long, a large dataset's included: the server is stopped or hangs."""


class Patient(psycopg.Connection[Any]):
    """A connection that gives up: one to a server that is stopped (SIGSTOP, a frozen machine) would wait for ever."""

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


def next_step(error: psycopg.Error, otherwise: str) -> str:
    """What to do about an error in SQL of a gotcha: nothing is wrong with the SQL where the server lacks room (class 53) or broke (58)."""
    if (error.sqlstate or "").startswith(("53", "58")):
        return "The server lacks room, or its disk broke: make room where its data lies (TMPDIR for the lab's own), and run again."
    return otherwise
