"""What PostgreSQL, Redis and the scenario itself counted, over the whole load."""

import re
from collections.abc import Callable, Iterable
from functools import cache

from analysis.metrics.base import Context, Metric, answered_count, need_source, refuse
from lab.model import Burst
from lab.record import PlanSeen, Statement


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


def statements(context: Context) -> list[Statement]:
    """The statements that the pattern of this name in ``GotchaPlan.queries`` matches; all of them where no name is given."""
    need_source(context, "pg_stat_statements", "postgres")
    every = context.trial.record.statements
    if not context.arg:
        return list(every)
    if context.arg not in context.plan.queries:
        known = ", ".join(context.plan.queries) or "none"
        raise refuse(f"the scenario has no query named {context.arg!r}", f"Its queries: {known}.", "unknown")
    pattern = like(context.plan.queries[context.arg])
    return [one for one in every if pattern.fullmatch(" ".join(one.query.split()))]


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
    # A state that nobody was ever in has no row: that is a count of zero, not a gap.
    return float(activity.get((context.arg or "total").replace("_", " "), 0))


def sessions_opened(context: Context) -> float:
    """Connections that were opened to the database."""
    need_source(context, "pg_stat_database", "postgres")
    return float(context.trial.record.sessions_opened)


def redis_calls(context: Context) -> float:
    """Calls of the command in brackets, or of all commands."""
    need_source(context, "redis", "redis")
    commands = {name.lower(): calls for name, calls in context.trial.record.redis_commands.items()}
    return float(commands.get(context.arg.lower(), 0) if context.arg else sum(commands.values()))


def redis_memory(context: Context) -> float:
    """Memory that Redis held after the load."""
    need_source(context, "redis", "redis")
    return float(context.trial.record.redis_memory_bytes)


def _kept(field: str, what: str) -> Callable[[Context], float]:
    def value(context: Context) -> float:
        kept = getattr(context.trial.record, field)
        if context.arg not in kept:
            raise refuse(
                f"no {what} named {context.arg!r}", f"There are: {', '.join(sorted(kept)) or 'none'}.", "missing"
            )
        return float(kept[context.arg])

    return value


def per_request(count: Callable[[Context], float]) -> Callable[[Context], float]:
    """A count divided by the answers of any status."""
    return lambda context: count(context) / answered_count(context)


def per_burst(count: Callable[[Context], float]) -> Callable[[Context], float]:
    """A count divided by the number of bursts."""

    def value(context: Context) -> float:
        if not isinstance(context.condition.load, Burst):
            raise refuse("the load is not a burst", "Use the plain count, or the one per request.")
        return count(context) / context.condition.load.repeats

    return value


def _family(name: str, count: Callable[[Context], float], argument: str, needed: bool = False) -> Iterable[Metric]:
    yield Metric(name, "count", count, argument, needed)
    yield Metric(f"{name}_per_request", "count", per_request(count), argument, needed)
    yield Metric(f"{name}_per_burst", "count", per_burst(count), argument, needed)


QUERY = "name of a query"
EXPLAINED = "name of an explained request"
METRICS = [
    *_family("sql_calls", _sql("calls"), QUERY),
    *_family("sql_rows", _sql("rows"), QUERY),
    *_family("sql_blks", _sql("shared_blks"), QUERY),
    *_family("redis_calls", redis_calls, "command"),
    *_family("rows_read", rows_read, "table"),
    Metric("plan_rows_visited", "count", _plan("rows_visited"), EXPLAINED),
    Metric("plan_rows_returned", "count", _plan("rows_returned"), EXPLAINED),
    Metric("plan_blks", "count", _plan("shared_blks"), EXPLAINED),
    Metric("plan_temp_blks", "count", _plan("temp_blks"), EXPLAINED),
    Metric("sessions_opened", "count", sessions_opened),
    Metric("connections_peak", "count", connections_peak, "state"),
    Metric("redis_memory_bytes", "memory", redis_memory),
    *_family("final", _kept("final_reads", "final read"), "name of a final read", needed=True),
    *_family("observed", _kept("observed", "observed count"), "name the user class gave", needed=True),
    Metric("events_count", "count", lambda context: float(len(context.trial.record.events))),
]
