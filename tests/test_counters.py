"""What the services counted: a number that was not read is refused, never 0; a pattern that matches nothing anywhere is found."""

from dataclasses import replace
from typing import Any

import pytest

from analysis.frames import Trial, memory_trial
from analysis.metrics import Refusal, measure
from analysis.metrics.database import like, unmatched_patterns
from lab.model import ClosedLoad, Condition, GotchaPlan
from lab.words.record import PlanSeen, ProcessUse, Statement, TrialRecord
from tests.fakes import gotcha_plan

CONDITION = Condition("one", ClosedLoad(1))


def trial(variant: str = "naive", **record: Any) -> Trial:
    return memory_trial(TrialRecord("event_loop/example", "one", 0, variant, 1, **{"status": "ok", **record}), {})


def plan(**queries: str) -> GotchaPlan:
    return replace(gotcha_plan(conditions=(CONDITION,)), services=("postgres", "redis"), queries=queries)


def measured(name: str, arg: str = "", of: GotchaPlan | None = None, **record: Any) -> float | str:
    """The value, or the kind of the refusal."""
    found = measure(trial(**record), of or plan(), CONDITION, name, arg)
    return found.kind if isinstance(found, Refusal) else found


def ran(query: str, calls: int = 1) -> Statement:
    return Statement(query, calls, 10 * calls, 100 * calls, 0.5)


@pytest.mark.parametrize(
    ("metric", "arg", "record", "expected"),
    [
        ("rows_read", "", {}, "missing"),
        ("rows_read", "users", {}, "missing"),
        ("rows_read", "users", {"tables": {"items": 3}}, "unknown"),
        ("rows_read", "items", {"tables": {"items": 3, "users": 4}}, 3.0),
        ("rows_read", "", {"tables": {"items": 3, "users": 4}}, 7.0),
        ("rows_read", "items", {"tables": {"items": 0}}, 0.0),
        ("connections_peak", "", {}, "missing"),
        ("connections_peak", "total", {"activity": {"idle": 5}}, "missing"),
        ("connections_peak", "", {"activity": {"total": 6, "idle": 5}}, 6.0),
        ("connections_peak", "active", {"activity": {"total": 6, "idle": 5}}, 0.0),
        ("connections_peak", "idle_in_transaction", {"activity": {"total": 6, "idle in transaction": 2}}, 2.0),
        ("connections_peak", "idle in transactoin", {"activity": {"total": 6, "idle in transaction": 2}}, "unknown"),
        ("sessions_opened", "", {"sessions_opened": 0}, 0.0),
        ("sessions_opened", "", {"sessions_opened": -3}, "missing"),
        ("redis_calls", "GET", {"redis_commands": {"get": 4, "set": 1}}, 4.0),
        ("redis_calls", "", {"redis_commands": {"get": 4, "set": 1}}, 5.0),
        ("redis_calls", "get", {"redis_commands": {}}, 0.0),
        ("redis_memory_bytes", "", {}, "missing"),
        ("redis_memory_bytes", "", {"redis_memory_bytes": 900}, 900.0),
        (
            "redis_memory_bytes",
            "",
            {"redis_memory_bytes": 900, "processes": {"server": ProcessUse(1, 1, 1)}},
            "missing",
        ),
        ("redis_memory_bytes", "", {"redis_memory_bytes": 900, "processes": {"redis": ProcessUse(1, 1, 1)}}, 900.0),
        ("plan_rows_visited", "page", {}, "missing"),
        ("plan_rows_visited", "page", {"plans": (PlanSeen("other", 0.0, "q", 5, 5, 1, ()),)}, "missing"),
        ("plan_rows_visited", "page", {"plans": (PlanSeen("page", 0.0, "q", 5, 5, 1, ()),)}, 5.0),
        ("final", "kept", {}, "missing"),
        ("final", "kept", {"final_reads": {"kept": 0.0}}, 0.0),
        ("observed", "seen", {}, "missing"),
        ("sql_calls_per_request", "", {"statements": (ran("SELECT 1"),)}, "missing"),  # nothing was answered
    ],
)
def test_what_was_not_read_is_refused(metric: str, arg: str, record: dict[str, Any], expected: float | str) -> None:
    assert measured(metric, arg, **record) == expected


@pytest.mark.parametrize(
    "metric", ["sql_calls", "rows_read", "connections_peak", "sessions_opened", "redis_calls", "redis_memory_bytes"]
)
def test_a_service_that_the_gotcha_does_not_use_is_refused(metric: str) -> None:
    full: dict[str, Any] = {
        "statements": (ran("x"),),
        "tables": {"a": 1},
        "activity": {"total": 1},
        "redis_commands": {"get": 1},
        "redis_memory_bytes": 1,
    }
    assert measured(metric, **full) != "missing"
    assert measured(metric, of=replace(plan(), services=()), **full) == "missing"


def test_statements_are_counted_by_pattern() -> None:
    seen = (ran("SELECT a\n FROM t", 3), ran("SELECT b FROM t", 4), ran("INSERT INTO t", 5))
    of = plan(reads="select % from t", a="SELECT _ FROM t", none="DELETE%")
    assert measured("sql_calls", "reads", of, statements=seen) == 7
    assert measured("sql_rows", "a", of, statements=seen) == 70
    assert measured("sql_blks", "", of, statements=seen) == 1200
    assert measured("sql_calls", "none", of, statements=seen) == 0, "in one trial 0 may be right"
    assert measured("sql_calls", "typo", of, statements=seen) == "unknown"
    assert measured("sql_calls", "reads", of, statements=seen, extra={"missing": ["pg_stat_statements"]}) == "missing"
    assert like("100\\%").fullmatch("100%") and not like("100\\%").fullmatch("1000")


def test_a_pattern_that_matches_nothing_in_any_arm_is_named() -> None:
    of = plan(reads="SELECT%", deletes="DELETE%", typo="SELCT%")
    arms = [trial("naive", statements=(ran("SELECT a"),)), trial("correct", statements=(ran("DELETE FROM t"),))]
    assert unmatched_patterns(of, arms) == ["typo"]
    assert unmatched_patterns(of, arms[:1]) == ["deletes", "typo"]
    assert unmatched_patterns(of, [trial()]) == ["reads", "deletes", "typo"], "read, and nothing was there"


@pytest.mark.parametrize("record", [{"status": "failed"}, {"extra": {"missing": ["pg_stat_statements"]}}])
def test_trials_whose_statements_were_not_read_blame_no_pattern(record: dict[str, Any]) -> None:
    of = plan(reads="SELECT%")
    assert unmatched_patterns(of, [trial(**record)]) == []
    assert unmatched_patterns(of, [trial(statements=(ran("SELECT a"),), **record), trial()]) == ["reads"]
    assert unmatched_patterns(of, []) == []
    assert unmatched_patterns(replace(of, services=()), [trial()]) == []
