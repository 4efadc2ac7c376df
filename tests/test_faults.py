"""The fault matrix: which faults a scenario has, what each remedy must hold, the four numbers, and the proxy's ways to fail."""

import math
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.frames import CENSORED, HTTP_ERROR, OK, RESET, TIMEOUT, memory_trial
from analysis.gates import Cell, check_gates
from analysis.judge import judge_run
from analysis.metrics import Refusal, measure
from analysis.survival import holds_document, survival_table, survived_text
from lab.catalog.faults import BEGINS_S, LASTS_S, faults_of, survival_of
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, Scenario, Survival
from lab.observe.probes import send
from lab.processes import Guard
from lab.run.plan import make_plan, pairs_of
from lab.services.proxy import start_proxy
from lab.services.upstream import start_upstream
from lab.words.record import EventSeen, GeneratorSeen, TrialRecord
from tests.fakes import START_NS, claim_plan, gotcha_plan

SECOND = 1_000_000_000
BEGIN_NS, END_NS = START_NS + 2 * SECOND, START_NS + 4 * SECOND
COLUMNS = ("planned_ns", "sent_ns", "done_ns", "outcome")
SURVIVAL = Survival("Steady", answer_within_s=1.0, recover_within_s=2.0, ledger={"lost": "final[lost]"})


def scenario(*services: Any, survival: Survival | None = SURVIVAL) -> Scenario:
    """A scenario of which only services and survival matter here."""
    return Scenario(
        "t", "c", (1,), (), (Condition("users", ClosedLoad(1)),), (), (), (), "", services=services, survival=survival,
    )  # fmt: skip


# ---------------------------------------------------------------- which faults there are


def test_services_and_server_decide_which_faults_there_are() -> None:
    names = {one.name for one in faults_of(scenario("postgres"))}
    assert names == {"PostgreSQL refuses", "PostgreSQL stalls", "PostgreSQL cuts", "worker killed", "client leaves"}
    more = {
        one.name for one in faults_of(scenario("redis", "celery", survival=replace(SURVIVAL, also=("pool", "poison"))))
    }
    assert {
        "Redis swallows connects",
        "Celery worker killed",
        "Celery child killed",
        "pool process killed",
        "poison job",
    } <= more
    assert not any(name.startswith("PostgreSQL") for name in more)
    less = {one.name for one in faults_of(scenario("postgres", survival=replace(SURVIVAL, without=("worker killed",))))}
    assert less == names - {"worker killed"}
    assert faults_of(scenario("postgres", survival=None)) == ()


def test_each_fault_is_a_condition_that_begins_ends_and_leaves_time_to_recover() -> None:
    conditions, _ = survival_of(scenario("postgres", "redis"))
    for one in conditions:
        assert one.fault == one.label
        assert one.variants == ("naive", "correct")
        assert one.workers == 2
        assert [event.at_s for event in one.events] == sorted(event.at_s for event in one.events)
        assert one.events[0].at_s == BEGINS_S
        assert one.duration_s > one.events[-1].at_s + SURVIVAL.recover_within_s
        if any(event.action == "fault" for event in one.events):
            assert one.proxy is not None
            assert one.events[-1].statement == "pass"
    every, _ = survival_of(scenario("postgres", "upstream"))
    assert all(one.upstream is not None for one in every), "an app that speaks to an upstream cannot start without it"
    stalls = next(one for one in conditions if one.fault == "Redis stalls")
    assert stalls.events[-1].at_s - stalls.events[0].at_s == LASTS_S
    assert stalls.proxy is not None and stalls.proxy.where == "redis"


def test_claims_leave_out_the_limits_that_the_page_names_and_only_those() -> None:
    named = replace(SURVIVAL, limits={"correct: PostgreSQL stalls": "the driver has no time-out"})
    conditions, claims = survival_of(scenario("postgres", survival=named))
    spoken = {claim.id: {c.fault for c in conditions if claim.predict(c) is not None} for claim in claims}
    assert set(spoken) == {"correct_answers", "correct_recovers", "correct_lost", "correct_seen"}
    every = {c.fault for c in conditions} - {"PostgreSQL stalls"}
    assert spoken["correct_answers"] == spoken["correct_recovers"] == spoken["correct_lost"] == every
    assert spoken["correct_seen"] == {"PostgreSQL refuses"}  # what is over in an instant need not be logged
    assert all(claim.kind == "hold" for claim in claims)
    with pytest.raises(ValueError, match="PostgreSQL stals"):
        survival_of(scenario("postgres", survival=replace(SURVIVAL, limits={"correct: PostgreSQL stals": "misspelt"})))


def test_a_fault_may_be_said_not_to_meet_a_variant_and_only_one_that_there_is() -> None:
    two = replace(SURVIVAL, variants=("correct", "other"), also=("pool",), without=("correct: pool process killed",))
    conditions, claims = survival_of(scenario("postgres", survival=two))
    killed = next(one for one in conditions if one.fault == "pool process killed")
    assert killed.variants == ("naive", "other")
    spoken = {claim.id for claim in claims if claim.predict(killed) is not None}
    assert spoken == {"other_answers", "other_recovers", "other_lost"}
    with pytest.raises(ValueError, match="pool killed"):
        survival_of(scenario("postgres", survival=replace(two, without=("correct: pool killed",))))


def test_quick_runs_have_no_faults_full_runs_have_each_once() -> None:
    fault = Condition("f", ClosedLoad(1), fault="f", quick=False)
    usual = Condition("u", ClosedLoad(1))
    plan = gotcha_plan(conditions=(fault, usual))
    counts = {mode: [pairs_of(c, plan, mode, None) for c in (fault, usual)] for mode in ("quick", "full", "faults")}
    assert counts == {"quick": [0, 3], "full": [1, 8], "faults": [1, 0]}
    assert pairs_of(fault, plan, "full", 5) == 1


# ---------------------------------------------------------------- the four numbers


def trial_of(
    rows: Sequence[tuple[float, float, int]], *, lines: int | None = 3, variant: str = "correct", lost: float = 0.0
) -> Any:
    """A trial under a fault from 2 s to 4 s; rows are (sent, done, outcome), in seconds of the load."""
    at = np.array(
        [[START_NS + round(s * SECOND), START_NS + round(d * SECOND) if d else 0] for s, d, _ in rows], dtype=np.int64
    )
    outcome = np.array([one for _, _, one in rows], dtype=np.int64)
    record = TrialRecord(
        "event_loop/example", "f", 0, variant, 1, "ok", load_started_ns=START_NS, load_ended_ns=START_NS + 8 * SECOND,
        events=(EventSeen("f", "fault", BEGIN_NS), EventSeen("f: over", "fault", END_NS)), final_reads={"lost": lost},
        extra={} if lines is None else {"log_lines": lines},
    )  # fmt: skip
    columns = {"planned_ns": at[:, 0], "sent_ns": at[:, 0], "done_ns": at[:, 1], "outcome": outcome}
    return memory_trial(record, columns)


FAULT = Condition("f", ClosedLoad(1), duration_s=8.0, fault="f", quick=False, variants=("naive", "correct"))


def numbers(trial: Any) -> list[float | Refusal]:
    return [measure(trial, gotcha_plan(), FAULT, name) for name in ("hold_answer_s", "hold_recovery_s", "hold_signs")]


def test_answers_of_any_kind_count_and_the_last_failure_after_the_fault_is_the_recovery() -> None:
    rows = [(0.5, 0.6, OK), (2.5, 3.2, HTTP_ERROR), (3.9, 4.5, RESET), (4.6, 4.75, HTTP_ERROR), (5.0, 5.1, OK)]
    assert numbers(trial_of(rows)) == pytest.approx([0.7, 0.75, 3 + 3])


def test_a_hang_is_never_answered_whichever_way_it_ends() -> None:
    for outcome in (TIMEOUT, CENSORED):
        rows = [(0.5, 0.6, OK), (2.5, 9.0 if outcome == TIMEOUT else 0.0, outcome), (5.0, 5.1, OK)]
        assert numbers(trial_of(rows))[0] == math.inf


def test_a_load_that_ends_in_failures_has_not_recovered() -> None:
    assert numbers(trial_of([(0.5, 0.6, OK), (4.2, 4.3, OK), (5.0, 5.1, HTTP_ERROR)]))[1] == math.inf
    assert numbers(trial_of([(0.5, 0.6, OK)]))[1] == math.inf  # nothing was asked after the fault
    assert numbers(trial_of([(0.5, 0.6, OK), (4.1, 4.2, OK)]))[1] == 0.0


def test_an_outage_that_nobody_could_see_has_no_sign_and_an_uncounted_log_is_refused() -> None:
    quiet = [(0.5, 0.6, HTTP_ERROR), (2.5, 2.6, OK), (5.0, 5.1, OK)]
    assert numbers(trial_of(quiet, lines=0))[2] == 0.0  # what failed before the fault is no sign of it
    assert isinstance(numbers(trial_of(quiet, lines=None))[2], Refusal)
    outside = measure(trial_of(quiet), gotcha_plan(), Condition("f", ClosedLoad(1)), "hold_answer_s")
    assert isinstance(outside, Refusal)


def test_gates_do_not_ask_of_requests_that_are_meant_to_be_lost() -> None:
    assert all(one.passed is None for one in check_gates(Cell(FAULT, [], (), None)))


# ---------------------------------------------------------------- from trials to the table


class Memory:
    """A run in memory: what ``judge_run`` needs."""

    def __init__(self, plan: GotchaPlan, trials: Sequence[Any]) -> None:
        self.plan = make_plan("run", "now", [plan], "faults", 1)
        self._trials = trials

    @property
    def environment(self) -> Any:
        from lab.words.errors import StoreError

        raise StoreError("none", "")

    def trials(self, gotcha: str) -> Sequence[Any]:
        return self._trials


def _bound(claim: Claim, condition: Condition) -> float | None:
    return claim.predict(replace(condition, fault="PostgreSQL refuses"))


def judged(*trials: Any, survival: Survival = SURVIVAL) -> tuple[GotchaPlan, Any]:
    conditions = (FAULT,)
    _, claims = survival_of(scenario("postgres", survival=survival))
    # the claims speak of a fault by its name; here it is called f
    held = [replace(one, predict=partial(_bound, one)) for one in claims]
    base = gotcha_plan(conditions=conditions)
    plan = replace(
        base, claims=tuple(claim_plan(one, *conditions) for one in held), survival=survival, labels={"correct": "a fix"}
    )
    verdicts = judge_run(Memory(plan, trials))
    return plan, verdicts.gotchas[0]


GOOD = [(0.5, 0.6, OK), (2.5, 2.6, HTTP_ERROR), (5.0, 5.1, OK)]
HUNG = [(0.5, 0.6, OK), (2.5, 5.5, TIMEOUT), (6.0, 6.1, OK)]


def test_the_table_has_a_row_for_each_variant_and_the_naive_app_claims_nothing() -> None:
    plan, verdict = judged(trial_of(HUNG, variant="naive"), trial_of(GOOD))
    naive, correct = survival_table(plan, verdict)
    assert (naive.variant, naive.answered_s, naive.word) == ("naive", math.inf, "")
    assert (correct.label, correct.ledger, correct.recovered_s, correct.signs) == ("a fix", {"lost": 0.0}, 0.0, 4.0)
    assert correct.answered_s == pytest.approx(0.1)
    assert correct.holds and verdict.verdict == "reproduced"
    assert survived_text([naive, correct]) == "1 of 1 faults held"
    twice = [correct, replace(correct, variant="other")]
    assert survived_text(twice) == "2 of 2 faults over 2 remedies held"
    one = holds_document([correct])[0]
    assert {"kind": "hold", "fault": "f", "variant": "correct"}.items() <= one.items()


@pytest.mark.parametrize(
    ("trial", "claim"),
    [
        (trial_of(HUNG), "correct_answers"), (trial_of(GOOD, lost=1.0), "correct_lost"),
        (trial_of([(0.5, 0.6, OK), (6.5, 6.6, HTTP_ERROR), (7.0, 7.1, OK)]), "correct_recovers"),
        (trial_of([(0.5, 0.6, OK), (5.0, 5.1, OK)], lines=0), "correct_seen"),
    ],
)  # fmt: skip
def test_each_hole_is_found_by_its_own_claim(trial: Any, claim: str) -> None:
    plan, verdict = judged(trial_of(GOOD, variant="naive"), trial)
    bad = [one.id for one in verdict.claims if one.verdict != "reproduced"]
    assert bad == [claim]
    row = survival_table(plan, verdict)[1]
    assert not row.holds and row.reason
    assert survived_text([row]) == "0 of 1 faults held"


def test_a_row_that_was_lost_under_a_fault_is_no_answer_in_time() -> None:
    """Four requests were sent and three rows are there: the fourth may have hung."""
    trial = trial_of(GOOD)
    counted = GeneratorSeen(4, 4, 0, (), 0.0, 0.0, "", rows=4, never_sent=0)
    lost = memory_trial(replace(trial.record, generator=counted), {name: trial.column(name) for name in COLUMNS})
    _, verdict = judged(trial_of(GOOD, variant="naive"), lost)
    answers = next(one for one in verdict.claims if one.id == "correct_answers")
    assert answers.verdict == "invalid" and "G10" in answers.conditions[0].reason
    whole = replace(counted, planned=3, sent=3, rows=3)
    kept = memory_trial(replace(trial.record, generator=whole), {name: trial.column(name) for name in COLUMNS})
    _, verdict = judged(trial_of(GOOD, variant="naive"), kept)
    assert verdict.verdict == "reproduced"


# ---------------------------------------------------------------- the proxy


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as running:
        yield running


def asked(port: int) -> int:
    """The status of one request; 0 where there was no answer."""
    return send(f"http://127.0.0.1:{port}", "GET", "/items/1").status


@pytest.mark.services
def test_a_swallowed_connect_gets_no_answer_and_passes_again_afterwards(guard: Guard, tmp_path: Path) -> None:
    with start_upstream(guard, 0.0, tmp_path) as upstream, start_proxy(guard, tmp_path, seed=1, mode="pass") as proxy:
        proxy.point_at("127.0.0.1", upstream.port)
        assert asked(proxy.port) == 200
        proxy.set_mode("swallow")
        with socket.socket() as waiting:
            waiting.settimeout(0.4)
            with pytest.raises(TimeoutError):
                waiting.connect(("127.0.0.1", proxy.port))
        proxy.set_mode("pass")
        deadline = time.monotonic() + 60  # the kernel takes the fillers off its queue; how long that takes says nothing
        while (seen := asked(proxy.port)) != 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen == 200


@pytest.mark.services
def test_an_answer_of_500_comes_whatever_is_asked(guard: Guard, tmp_path: Path) -> None:
    with (
        start_upstream(guard, 0.0, tmp_path) as upstream,
        start_proxy(guard, tmp_path, seed=1, mode="answer_500") as proxy,
    ):
        proxy.point_at("127.0.0.1", upstream.port)
        assert asked(proxy.port) == 500
        proxy.set_mode("pass")
        assert asked(proxy.port) == 200
