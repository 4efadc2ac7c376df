"""What is read from the services and the target around the load of one trial, so that nothing of the lab's own is in it.

In this order: counters begin after the first probes; they are read when the load has ended, before anything else is asked of the services
or the target; explained requests and final reads come after that, the second probes last.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.model import FinalRead, GotchaPlan
from lab.observe.probes import read_pointer, run_probe, send
from lab.services.kind import Counting
from lab.services.plans import Explainer
from lab.services.postgres_session import REPORTED_AFTER_S
from lab.services.supervisor import Services
from lab.target.protocol import Target
from lab.words.errors import ServerError
from lab.words.record import EventSeen, PlanSeen, ProbeSeen, ProcessUse, Statement

COUNTED = ("sql_", "redis_calls", "rows_read", "sessions_opened", "connections_peak")
"""Metrics that count what the services did: beside them no bystander asks for anything, for nobody could tell its part from the load's."""
ROWS = "rows_read"
SETTLED_S = REPORTED_AFTER_S + 5.0
LOOK_S = 0.1
REDIS_SOURCES = ("redis",)
"""As analysis.metrics.database calls what it reads of Redis."""


def asks_for(gotcha: GotchaPlan, *names: str) -> bool:
    """Whether a claim or a chart of the gotcha reads one of these metrics."""
    asked = [claim.metric for claim in gotcha.claims] + [chart.metric for chart in gotcha.charts]
    return any(name in metric for metric in asked for name in names)


@dataclass
class Reads:
    """What is read around and after the load; filled step by step.  ``notes`` say what could not be read or kept, and why."""

    probes: list[ProbeSeen] = field(default_factory=list)
    statements: tuple[Statement, ...] = ()
    activity: dict[str, int] = field(default_factory=dict)
    series: list[tuple[int, ...]] = field(default_factory=list)
    sessions: int = 0
    redis_commands: Mapping[str, int] = field(default_factory=dict)
    redis_memory: int = 0
    processes: Mapping[str, ProcessUse] = field(default_factory=dict)
    cpu_series: list[tuple[int, ...]] = field(default_factory=list)
    plans: tuple[PlanSeen, ...] = ()
    final: dict[str, float] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    events: list[EventSeen] = field(default_factory=list)
    noise: Mapping[str, float] = field(default_factory=dict)
    bystander: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    services: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Reader:
    """Reads the services of one trial into ``reads``."""

    def __init__(
        self, services: Services, gotcha: GotchaPlan, database: str, lane: int | None = None, besides: Sequence[str] = ()
    ) -> None:  # fmt: skip
        """``lane`` is the arm's number in a duet: what Redis counts cannot be told from the other arm's there, so it is not read."""
        self._gotcha = gotcha
        self._database = database
        self._postgres = services.postgres if database else None
        self._redis = services.redis if lane is None else None
        self.in_duet = lane is not None
        used = () if self.in_duet else (*gotcha.services, *besides)
        up = {name: services.up[name] for name in used if name in services.up}
        self._counting = {name: one for name, one in up.items() if isinstance(one, Counting)}
        self._sessions = 0
        self._rows: Mapping[str, int] = {}
        self.reads = Reads()

    @property
    def extra(self) -> dict[str, Any]:
        """What the record says besides: notes, and which sources were not read."""
        notes = {"notes": self.reads.notes} if self.reads.notes else {}
        return {**notes, "duet": True, "missing": list(REDIS_SOURCES)} if self.in_duet else notes

    # ---- counters

    def begin(self) -> None:
        """Count from now on."""
        if self._postgres and asks_for(self._gotcha, ROWS):
            self._rows = self._settled_rows()
        for counting in self._counting.values():
            counting.begin_counting()
        if self._redis:
            self._redis.begin_counting()
        if self._postgres:
            self._postgres.reset_statements(self._database)
            self._sessions = self._postgres.sessions_opened(self._database)

    def look_at_activity(self) -> None:
        """The connections of the moment: peaks and a row of the series."""
        assert self._postgres is not None
        seen = self._postgres.activity(self._database)
        seen = {**seen, "total": sum(seen.values())}
        for state, count in seen.items():
            self.reads.activity[state] = max(self.reads.activity.get(state, 0), count)
        row = (seen.get(state, 0) for state in ("total", "active", "idle", "idle in transaction"))
        self.reads.series.append((time.monotonic_ns(), *row))

    def end(self) -> None:
        """Read what was counted since ``begin``.  Where rows read in tables are asked for this takes ten seconds."""
        reads = self.reads
        reads.services = {name: dict(one.readings()) for name, one in self._counting.items()}
        if self._redis:
            reads.redis_commands = self._redis.commandstats()
            reads.redis_memory = self._redis.memory_bytes()
        if self._postgres:
            reads.statements = tuple(self._postgres.statements(self._database))
            reads.sessions = self._postgres.sessions_opened(self._database) - self._sessions
            if asks_for(self._gotcha, ROWS):
                rows = self._settled_rows()
                reads.tables = {name: count - self._rows.get(name, 0) for name, count in rows.items()}

    def _settled_rows(self) -> Mapping[str, int]:
        """Rows read per table once every connection has reported what it counted.  Raises ServerError where one does not."""
        assert self._postgres is not None
        deadline = time.monotonic() + SETTLED_S
        while problem := self._postgres.unreported(self._database):
            if time.monotonic() > deadline:
                raise ServerError(f"rows read cannot be counted: {problem}", "Close transactions before the load ends.")
            time.sleep(LOOK_S)
        return self._postgres.table_rows_read(self._database)

    # ---- after the load

    def after(self, server: Target, variant: str) -> None:
        """Explained requests, final reads and the second probes, on the server that has just carried the load.  Raises ServerError."""
        reads = self.reads
        if self._postgres and self._postgres.explainer:
            reads.plans = tuple(self._explain(self._postgres.explainer, server, variant))
        elif self._postgres and self._gotcha.explained:
            reads.notes.append("plans: they can only be read from a PostgreSQL that the lab started")
        for read in self._gotcha.final_reads:
            self._final(server, read)
        reads.probes += [run_probe(server.address, probe, "after") for probe in self._gotcha.probes if probe.after]

    def _final(self, server: Target, read: FinalRead) -> None:
        try:
            value = self._value(server, read)
        except (TypeError, ValueError) as error:
            raise ServerError(
                f"final read {read.name}: {error}", "Check it in the scenario, and server.log."
            ) from error
        if value is None or math.isnan(value):
            self.reads.notes.append(f"final read {read.name}: there is nothing")
        else:
            self.reads.final[read.name] = value

    def _value(self, server: Target, read: FinalRead) -> float | None:
        """The number, or None where the database or Redis has nothing there, which is not the same as 0."""
        if read.path:
            answer = send(server.address, "GET", read.path)
            if answer.problem or answer.status >= 400:
                raise ServerError(f"final read {read.name}: {answer.problem or answer.status}", "See server.log.")
            return read_pointer(answer.body, read.pointer)
        found = None
        if read.sql and self._postgres:
            found = self._postgres.scalar(self._database, read.sql)
        elif read.redis and self._redis:
            found = self._redis.command(*read.redis)
        return None if found is None else float(found)

    def _explain(self, explainer: Explainer, server: Target, variant: str) -> Iterator[PlanSeen]:
        for asked in self._gotcha.explained:
            if variant not in asked.paths:
                continue
            explainer.begin()
            answer = send(server.address, "GET", asked.paths[variant])
            entries = explainer.collect()
            if answer.problem or answer.status >= 400:
                problem = answer.problem or f"status {answer.status}"
                raise ServerError(f"explained request {asked.name}: {problem}", "Check its path in the scenario.")
            for entry in entries:
                yield PlanSeen(**{**vars(entry), "name": asked.name, "level": asked.level})
