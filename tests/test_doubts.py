"""Doubts: each one is raised by what it warns of, and not without it."""

from dataclasses import replace

import pytest

from analysis.doubting import doubts_of, merged
from analysis.doubts import DOUBTS, doubt
from analysis.facts import TrialFacts
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, OpenLoad, Server
from lab.words.metrics import Notation
from lab.words.record import GeneratorSeen, ProbeSeen, ProcessUse, TrialRecord
from tests.fakes import gotcha_plan

CLOSED = Condition("c", ClosedLoad(4), duration_s=2.0)
OPEN = Condition("c", OpenLoad(100.0), duration_s=2.0)
TWO_WORKERS = replace(CLOSED, server=Server(workers=2))
SEEN = GeneratorSeen(200, 200, 0, (0.1,), 0.0005, 0.002, "a")


def plan_with(metric: str, condition: Condition) -> GotchaPlan:
    claim = Claim("x", "harm", "s", Notation(metric), lambda c: 1.0, formula="1", source="x")
    return gotcha_plan(claim, conditions=(condition,))


def trial(variant: str = "naive", *, pair: int = 0, generator: GeneratorSeen = SEEN, values: dict[str, float] | None = None,
          record: dict[str, object] | None = None, **facts: object) -> TrialFacts:  # fmt: skip
    seen = TrialRecord(
        "event_loop/example", "c", pair, variant, 1, "ok", loop="uvloop", generator=generator, **(record or {}),  # type: ignore[arg-type]
    )  # fmt: skip
    whole: dict[str, object] = {"requests": 200, "window_s": 2.0, "mean_in_flight": 4.0, "pids": (1,), **facts}
    return TrialFacts(seen, f"{pair}-{variant}", values or {}, **whole)  # type: ignore[arg-type]


def raised(condition: Condition, *trials: TrialFacts, metric: str = "naive.latency_p50_s") -> set[str]:
    plan = plan_with(metric, condition)
    return {one.id for one in doubts_of(plan, {condition.key: trials}, (), None)}


def test_a_trial_like_any_other_raises_none() -> None:
    assert raised(CLOSED, trial(), trial("correct")) == set()


@pytest.mark.parametrize(("name", "condition", "facts"), [
    ("overload", OPEN, {"overloaded": True}),
    ("unanswered", OPEN, {"unanswered": 3}),
    ("errors", OPEN, {"values": {"error_share": 0.02}}),
    ("not_steady", OPEN, {"drift": 0.4}),
    ("reconnects", CLOSED, {"generator": replace(SEEN, reconnects=3)}),
    ("generator_gap", CLOSED, {"mean_in_flight": 3.5}),
    ("wrong_loop", replace(OPEN, server=Server(loop="asyncio")), {}),
    ("probe_failed", OPEN, {"record": {"probes": (ProbeSeen("GET /", "after", 500, "status 500 instead of 200"),)}}),
    ("idle_worker", TWO_WORKERS, {}),
    ("uneven_workers", TWO_WORKERS, {"pids": (1, 2), "values": {"requests_per_pid_min": 10.0, "requests_per_pid_max": 30.0}}),
])  # fmt: skip
def test_each_is_raised_by_what_it_warns_of(name: str, condition: Condition, facts: dict[str, object]) -> None:
    assert raised(condition, trial(**facts), metric="naive.throughput_rps") == {name}  # type: ignore[arg-type]


@pytest.mark.parametrize("facts", [
    {"values": {"error_share": 0.005}},
    {"drift": 0.2},
    {"mean_in_flight": 3.7},
    {"generator": replace(SEEN, reconnects=2)},
])  # fmt: skip
def test_none_is_raised_below_its_limit(facts: dict[str, object]) -> None:
    assert raised(CLOSED, trial(**facts)) == set()  # type: ignore[arg-type]


@pytest.mark.parametrize("facts", [{"values": {"error_share": 0.9}}, {"drift": 2.0}])
def test_where_only_counts_are_claimed_refusals_and_drift_are_no_doubt(facts: dict[str, object]) -> None:
    assert raised(CLOSED, trial(**facts), metric="naive.status_count[200]") == set()  # type: ignore[arg-type]
    assert raised(CLOSED, trial(**facts), metric="naive.cpu_s_per_request") != set()  # type: ignore[arg-type]


def test_users_that_wait_on_purpose_are_no_doubt_where_no_rate_is_read() -> None:
    assert raised(CLOSED, trial(mean_in_flight=1.0), metric="naive.latency_p50_s") == set()


def test_a_reconnecting_load_may_reconnect() -> None:
    wanted = replace(CLOSED, load=ClosedLoad(4, reconnect=True))
    assert raised(wanted, trial(generator=replace(SEEN, reconnects=200))) == set()


def test_arms_of_a_pair_that_saw_other_arrivals() -> None:
    other = replace(SEEN, trace_hash="b")
    assert raised(OPEN, trial(), trial("correct", generator=other)) == {"traces_differ"}
    assert raised(OPEN, trial(), trial("correct", pair=1, generator=other)) == set()


def test_versions_that_changed_within_a_condition() -> None:
    new = {"record": {"versions": {"fastapi": "2"}}}
    old = {"record": {"versions": {"fastapi": "1"}}}
    assert raised(OPEN, trial(**new), trial("correct", **old)) == {"mixed_versions"}  # type: ignore[arg-type]


def test_cpu_of_a_server_that_was_too_busy() -> None:
    busy = {"record": {"processes": {"server": ProcessUse(1_500_000_000, 0, 1, 1)}}}
    assert raised(OPEN, trial(**busy), metric="naive.cpu_s_per_request") == {"busy_server"}  # type: ignore[arg-type]
    assert raised(OPEN, trial(**busy)) == set()  # type: ignore[arg-type]


def test_the_worst_of_a_kind_stands_for_it_and_the_others_are_counted() -> None:
    same = [doubt("errors", "a", 0.1), doubt("errors", "b", 0.5), doubt("unanswered", "c", 0.2)]
    kept = merged(same)
    assert [(one.id, one.seen) for one in kept] == [("errors", "b (1 more like this)"), ("unanswered", "c")]


def test_every_doubt_has_an_advice() -> None:
    assert all(advice.endswith((".", "folder.")) for advice in DOUBTS.values())
    with pytest.raises(KeyError):
        doubt("no_such_doubt", "")
