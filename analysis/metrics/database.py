"""What PostgreSQL, Redis and the scenario itself counted, over the whole load."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Protocol

from analysis.metrics.base import Context, Metric, answered_count, need_source, refuse
from lab.model import GotchaPlan
from lab.words.record import PlanSeen, Statement, TrialRecord

STATEMENTS = "pg_stat_statements"
STATES = frozenset({
    "total", "starting", "active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled",
})  # fmt: skip
"""What pg_stat_activity knows (PostgreSQL 18, table 27.3), and the lab's own: all of them, and those that have no state yet."""


@cache
def like(pattern: str) -> re.Pattern[str]:
    """A SQL LIKE pattern (% any text, _ any character, backslash escapes) as a regular expression without regard to case."""
    parts, literal = [], False
    for char in " ".join(pattern.split()):
        if literal:
            parts.append(re.escape(char))
            literal = False
        elif char == "\\":
            literal = True
        else:
            parts.append({"%": ".*", "_": "."}.get(char) or re.escape(char))
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


class _HasRecord(Protocol):
    @property
    def record(self) -> TrialRecord: ...


def _matches(pattern: str, statement: Statement) -> bool:
    return bool(like(pattern).fullmatch(" ".join(statement.query.split())))


def unmatched_patterns(plan: GotchaPlan, trials: Iterable[_HasRecord]) -> list[str]:
    """Names in ``GotchaPlan.queries`` whose pattern matches no statement of any trial: a count of 0 then says nothing but that.

    In one arm, or under one condition, 0 may be the truth.  Trials whose statements were not read say nothing; where there is no other,
    no pattern is blamed.
    """
    read = [
        one.record
        for one in trials
        if one.record.status == "ok" and STATEMENTS not in one.record.extra.get("missing", ())
    ]
    if not read or "postgres" not in plan.services:
        return []
    seen = [statement for record in read for statement in record.statements]
    return [name for name, pattern in plan.queries.items() if not any(_matches(pattern, one) for one in seen)]


def statements(context: Context) -> list[Statement]:
    """The statements that the pattern of this name in ``GotchaPlan.queries`` matches; all of them where no name is given."""
    need_source(context, STATEMENTS, "postgres")
    every = context.trial.record.statements
    if not context.arg:
        return list(every)
    if context.arg not in context.plan.queries:
        known = ", ".join(context.plan.queries) or "none"
        raise refuse(f"the scenario has no query named {context.arg!r}", f"Its queries: {known}.", "unknown")
    return [one for one in every if _matches(context.plan.queries[context.arg], one)]


def _sql(field: str) -> Callable[[Context], float]:
    return lambda context: float(sum(getattr(one, field) for one in statements(context)))


def _plans(context: Context) -> list[PlanSeen]:
    need_source(context, "auto_explain", "postgres")
    plans = context.trial.record.plans
    found = [one for one in plans if not context.arg or one.name == context.arg]
    if not found:
        names = ", ".join(sorted({one.name for one in plans})) or "none"
        raise refuse(f"nothing was explained as {context.arg or 'anything'}", f"Explained: {names}.", "missing")
    return found


def _plan(field: str) -> Callable[[Context], float]:
    return lambda context: float(sum(getattr(one, field) for one in _plans(context)))


def rows_read(context: Context) -> float:
    """Rows that scans read from the table in brackets, or from all tables."""
    need_source(context, "pg_stat_user_tables", "postgres")
    tables = context.trial.record.tables
    if not tables:
        raise refuse(
            "the rows that scans read were not counted", "They are where a claim or a chart asks for them.", "missing"
        )
    if not context.arg:
        return float(sum(tables.values()))
    if context.arg not in tables:
        raise refuse(f"no table {context.arg!r}", f"Tables: {', '.join(sorted(tables)) or 'none'}.", "unknown")
    return float(tables[context.arg])


def connections_peak(context: Context) -> float:
    """The most connections at one time in the state in brackets (``active``, ``idle in transaction``), or in all."""
    need_source(context, "pg_stat_activity", "postgres")
    activity = {state.replace("_", " "): count for state, count in context.trial.record.activity.items()}
    if not activity:
        raise refuse("pg_stat_activity was not read", "The load was too short, or the watcher was off.", "missing")
    state = (context.arg or "total").replace("_", " ")
    if state not in STATES:
        raise refuse(f"no state {state!r} of a connection", f"States: {', '.join(sorted(STATES))}.", "unknown")
    if state == "total" and state not in activity:
        raise refuse("pg_stat_activity was not summed", "Name a state.", "missing")
    # A state that nobody was ever in has no row: that is a count of zero, not a gap.
    return float(activity.get(state, 0))


def sessions_opened(context: Context) -> float:
    """Connections that were opened to the database."""
    need_source(context, "pg_stat_database", "postgres")
    opened = context.trial.record.sessions_opened
    if opened < 0:
        raise refuse(
            "the database counts fewer sessions than before", "Its statistics were reset: run again.", "missing"
        )
    return float(opened)


def redis_calls(context: Context) -> float:
    """Calls of the command in brackets, or of all commands."""
    need_source(context, "redis", "redis")
    commands = {name.lower(): calls for name, calls in context.trial.record.redis_commands.items()}
    return float(commands.get(context.arg.lower(), 0) if context.arg else sum(commands.values()))


def redis_memory(context: Context) -> float:
    """Memory that Redis held after the load.  Only of the lab's own: another may hold anything besides."""
    need_source(context, "redis", "redis")
    record = context.trial.record
    if record.processes and "redis" not in record.processes:
        raise refuse(
            "the Redis is not the lab's: its memory is not the target's alone", "Unset LAB_REDIS_URL.", "missing"
        )
    if record.redis_memory_bytes <= 0:
        raise refuse("the memory of Redis was not read", "Look at redis.log of the run.", "missing")
    return float(record.redis_memory_bytes)


def _kept(field: str, what: str) -> Callable[[Context], float]:
    def value(context: Context) -> float:
        kept = getattr(context.trial.record, field)
        if context.arg not in kept:
            there = f"there are: {', '.join(sorted(kept)) or 'none'}"
            zero = f"; `self.count({context.arg!r}, 0)` says that it was 0" if field == "observed" else ""
            raise refuse(f"no {what} named {context.arg!r}; {there}{zero}", "", "missing")
        return float(kept[context.arg])

    return value


def service_reading(context: Context) -> float:
    """What a service itself counted during the load: "pgbouncer.server_connections"."""
    service, _, name = context.arg.partition(".")
    kept = context.trial.record.services.get(service, {})
    if name not in kept:
        raise refuse(
            f"{service} says no {name!r}; it says {', '.join(sorted(kept)) or 'nothing'}",
            "Write service_reading[service.name]; the service belongs to the condition or the gotcha.",
            "missing",
        )
    return float(kept[name])


def per_request(count: Callable[[Context], float]) -> Callable[[Context], float]:
    """A count divided by the answers of any status."""
    return lambda context: count(context) / answered_count(context)


def per_burst(count: Callable[[Context], float]) -> Callable[[Context], float]:
    """A count divided by the number of bursts."""

    def value(context: Context) -> float:
        if not context.condition.load.bursts:
            raise refuse("the load is not a burst", "Use the plain count, or the one per request.")
        return count(context) / context.condition.load.bursts

    return value


def _family(name: str, count: Callable[[Context], float]) -> Iterable[Metric]:
    yield Metric(name, "count", count)
    yield Metric(f"{name}_per_request", "count", per_request(count))
    yield Metric(f"{name}_per_burst", "count", per_burst(count))


METRICS = [
    *_family("sql_calls", _sql("calls")),
    *_family("sql_rows", _sql("rows")),
    *_family("sql_blks", _sql("shared_blks")),
    *_family("redis_calls", redis_calls),
    *_family("rows_read", rows_read),
    Metric("plan_rows_visited", "count", _plan("rows_visited")),
    Metric("plan_rows_returned", "count", _plan("rows_returned")),
    Metric("plan_blks", "count", _plan("shared_blks")),
    Metric("plan_temp_blks", "count", _plan("temp_blks")),
    Metric("sessions_opened", "count", sessions_opened),
    Metric("connections_peak", "count", connections_peak),
    Metric("redis_memory_bytes", "memory", redis_memory),
    *_family("service_reading", service_reading),
    *_family("final", _kept("final_reads", "final read")),
    *_family("observed", _kept("observed", "observed count")),
    Metric("events_count", "count", lambda context: float(len(context.trial.record.events))),
]
