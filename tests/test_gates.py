"""Each gate tripped and passed.

By a real load where its outcome does not hang on how busy the machine is: a held hub (G1, G4), rows against the generator's own counts
(G5, G10), a null target (G6), a neighbour (G9).  By numbers constructed exactly where it would: connections of ours (G2), the generator's
CPU (G3), a plateau (G7), a bystander (G8), the quiet side of G1 and G4, the workers' counters (G10), warm-up (G11) and spread (G12).
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import HTTP_ERROR, OK, Ints, Trial, memory_trial, open_trial
from analysis.gates import GATES, THRESHOLDS, Cell, check_gates, spoiled_by, spoiled_pairs
from analysis.metrics import STANDARD, Family, Refusal, measure
from analysis.model import GateResult
from analysis.spoiled import spoiled
from lab.generator.engine import job_of, load_child
from lab.model import (
    SAMPLE_COLUMNS,
    Burst,
    Claim,
    ClosedLoad,
    Condition,
    Event,
    GotchaPlan,
    Load,
    OpenLoad,
    Probe,
    Proxy,
    Server,
    Stage,
    StagedLoad,
)  # fmt: skip
from lab.observe.bystander import FEWEST, Bystander, bystander_of
from lab.observe.machine import noise_between, noise_snapshot
from lab.ports import PortReservation, is_listening
from lab.processes import Guard, wait_until
from lab.run.plan import make_plan
from lab.run.runner import run_trials
from lab.store import new_run
from lab.words.metrics import Notation
from lab.words.record import GeneratorSeen, ProcessUse, TrialRecord
from tests.fakes import START_NS, FakeExecutor, gotcha_plan

ROOT = Path(__file__).resolve().parent.parent
SECOND = 1_000_000_000
WANTED = tuple((name, "") for name in (*STANDARD, "loop_lag_p50_s", "threads_borrowed_max", "server_in_flight_max"))
USERS = """
import time

from locust import task

from lab.generator.users import LabUser

def hold_the_hub(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Reader(LabUser):
    @task
    def read(self):
        self.get("/")

class Hog(LabUser):
    # A user class that computes between its requests: the others' answers wait in their sockets meanwhile.
    @task
    def read(self):
        self.get("/")
        hold_the_hub(float(self.params["held_s"]))
"""
SERVER = """
import asyncio, sys
from asyncio import Semaphore, sleep

async def main(port, at_once, seconds):
    permits = Semaphore(at_once)
    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\\r\\n\\r\\n"):
                async with permits:
                    await sleep(seconds)
                writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        await asyncio.Event().wait()

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
"""


class Bench:
    """A generator and a small server that serves ``at_once`` requests at a time, each in ``seconds``."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.folder, self.guard, self.count = folder, guard, 0
        (folder / "users.py").write_text(USERS)
        (folder / "server.py").write_text(SERVER)

    def serve(self, at_once: int, seconds: float) -> str:
        """Start a server; its address."""
        with PortReservation() as reservation:
            port = reservation.port
            child = self.guard.spawn(
                [sys.executable, str(self.folder / "server.py"), str(port), str(at_once), str(seconds)], env=dict(os.environ),
                cwd=ROOT, log_path=self.folder / f"server-{port}.log", name="server",
            )  # fmt: skip
            wait_until(lambda: is_listening(port), 10, child, "the server to listen")
        return f"http://127.0.0.1:{port}"

    def load(self, url: str, load: Load, duration_s: float, user: str = "Reader", **params: float) -> Trial:
        """The trial of one load, as the lab would store it."""
        self.count += 1
        condition = Condition("one", load, duration_s, user=user, params=params, drain_s=0.5)
        with load_child(self.guard, self.folder / f"load-{self.count}", {}) as generator:
            job = job_of(self.folder / "users.py", condition, "naive", url, 5)
            done = generator.run(job, 30.0, lambda at_ns: None, lambda message: None)
        rows = np.load(done.samples)
        record = TrialRecord(
            "event_loop/example", condition.key, 0, "naive", 5, "ok", load_started_ns=done.started_ns, load_ended_ns=done.ended_ns,
            request_names=done.request_names, generator=done.generator,
        )  # fmt: skip
        return memory_trial(record, columns_of(rows))


def columns_of(rows: Ints) -> dict[str, Ints]:
    return {name: rows[:, index] for index, name in enumerate(SAMPLE_COLUMNS)}


def matrix_of(trial: Trial) -> Ints:
    return np.stack([trial.column(name) for name in SAMPLE_COLUMNS], axis=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Guard() as guard:
        yield Bench(tmp_path_factory.mktemp("gates"), guard)


@pytest.fixture(scope="module")
def real(bench: Bench) -> Trial:
    """A closed load of one second at a server that takes 10 ms."""
    return bench.load(bench.serve(64, 0.01), ClosedLoad(4), 1.0)


def facts(trial: Trial, condition: Condition) -> TrialFacts:
    return reduce_trial(trial, gotcha_plan(conditions=(condition,)), condition, WANTED)


def gate(name: str, cell: Cell) -> GateResult:
    return next(one for one in check_gates(cell) if one.gate == name)


def judged(name: str, trial: Trial, load: Load, duration_s: float, **cell: object) -> GateResult:
    condition = Condition("one", load, duration_s)
    return gate(name, replace(Cell(condition, [facts(trial, condition)]), **cell))  # type: ignore[arg-type]


def made(
    load: Load, count: int, *, took_s: float = 0.01, lag_s: float = 0.0, duration_s: float = 2.0, pair: int = 0, variant: str = "naive",
    server: dict[str, Ints] | None = None, extra: dict[str, object] | None = None, **generator: Any,
) -> Trial:  # fmt: skip
    """A trial constructed exactly: ``count`` requests at even instants, each late by ``lag_s`` and answered after ``took_s``."""
    planned = START_NS + (np.arange(count) * duration_s * SECOND / max(count, 1)).astype(np.int64)
    sent = planned + round(lag_s * SECOND)
    done = sent + round(took_s * SECOND)
    whole: dict[str, object] = {
        "planned": count, "sent": count, "reconnects": 0, "cpu_windows": (0.1,), "jitter_p99_s": 0.001, "jitter_max_s": 0.002,
        "trace_hash": "x", "rows": count, "never_sent": 0, "in_flight_s": float((done - sent).sum()) / SECOND, "jitter_samples": 180,
    }  # fmt: skip
    record = TrialRecord(
        "event_loop/example", "one", pair, variant, 5, "ok", load_started_ns=START_NS, request_names=("GET /",),
        load_ended_ns=START_NS + round(duration_s * SECOND), generator=GeneratorSeen(**{**whole, **generator}), extra=extra or {},
    )  # fmt: skip
    rows = {"planned_ns": planned, "dispatched_ns": sent, "sent_ns": sent, "done_ns": done,
            "status": np.full(count, 200), "pid": np.full(count, 7)}  # fmt: skip
    return memory_trial(record, rows, server)


def counters(requests: int, own: int = 0) -> dict[str, Ints]:
    """The last row of one worker, shut down after the load."""
    row = {
        "start_ns": START_NS,
        "t_ns": START_NS + 5 * SECOND,
        "pid": 7,
        "ending": 1,
        "requests": requests,
        "answered": requests,
        "own": own,
    }
    return {name: np.array([value]) for name, value in row.items()}


# ---------------------------------------------------------------- G1 dispatch lag


def test_g1_a_stalled_dispatcher(bench: Bench) -> None:
    load = OpenLoad(60.0, connections=16)
    trial = bench.load(bench.serve(64, 0.0), load, 1.0, user="Hog", held_s=0.01)
    result = judged("G1", trial, load, 1.0)
    assert result.passed is False, result.detail
    assert spoiled_by("time", [result]) and not spoiled_by("count", [result])


@pytest.mark.parametrize(("took_s", "lag_s", "passed"), [
    (0.0004, 0.00006, True),  # what an idle machine gives beside a fast target: it failed at 13 % of the median time
    (0.0004, 0.0002, False),
    (0.010, 0.0009, True),  # below a tenth of 10 ms
    (0.010, 0.0015, False),
    (0.100, 0.005, True),  # a tail of 5 ms is nothing in a time of 100 ms
    (0.100, 0.015, False),
])  # fmt: skip
def test_g1_is_about_what_the_lag_can_change(took_s: float, lag_s: float, passed: bool) -> None:
    load = OpenLoad(500.0)
    assert judged("G1", made(load, 1000, took_s=took_s, lag_s=lag_s), load, 2.0).passed is passed


def test_g1_below_the_timers_floor_the_arms_are_compared_with_each_other() -> None:
    condition = Condition("one", OpenLoad(500.0), 2.0)

    def both(other_s: float) -> GateResult:
        arms = {"naive": 0.00004, "correct": other_s}
        trials = [
            facts(made(condition.load, 1000, took_s=0.0004, lag_s=lag, variant=v), condition) for v, lag in arms.items()
        ]
        return gate("G1", Cell(condition, trials))

    assert both(0.00006).passed is True
    assert both(0.00012).passed is False and "differ" in both(0.00012).detail


def test_g1_one_late_request_of_a_hundred_is_no_p99() -> None:
    load = OpenLoad(50.0)
    trial = made(load, 100)

    def with_late(count: int) -> GateResult:
        sent = trial.column("sent_ns") + np.where(np.arange(100) < count, 20_000_000, 0)
        rows = {**{name: trial.column(name) for name in SAMPLE_COLUMNS}, "dispatched_ns": sent, "sent_ns": sent,
                "done_ns": sent + 10_000_000}  # fmt: skip
        return judged("G1", memory_trial(trial.record, rows), load, 2.0)

    assert with_late(1).passed is True and with_late(3).passed is True
    assert with_late(4).passed is False, "P(4 or more of 100 at 1 %) = 1.8 %"


# ---------------------------------------------------------------- G2 offered = sent


def test_g2_a_throttled_generator_fails_in_an_overload_too() -> None:
    load = OpenLoad(500.0)
    condition = Condition("one", load, 2.0)
    seen = facts(made(load, 1000, never_sent=21, sent=979), condition)
    for overloaded in (False, True):
        result = gate("G2", Cell(condition, [replace(seen, overloaded=overloaded)]))
        assert result.passed is False and result.figure == pytest.approx(0.021)
    assert judged("G2", made(load, 1000, never_sent=20, sent=980), load, 2.0).passed is True


def test_g2_a_pool_of_ours_is_never_the_targets_limit() -> None:
    """500/s at a target that answers after 1 s with any concurrency, over 128 connections: it was "overloaded, capacity 126/s"."""
    load = OpenLoad(500.0)
    condition = Condition("one", load, 4.0)
    trial = made(
        load, 2000, duration_s=4.0, took_s=1.0, connections_short=1300, connection_problem="Too many open files"
    )
    turn = np.arange(2000)  # 128 at a time, each second
    done = START_NS + (turn // 128 + 1) * SECOND
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    queued = memory_trial(trial.record, {**rows, "done_ns": np.maximum(done, rows["done_ns"])})
    result = judged("G2", queued, load, 4.0)
    assert result.passed is False and "the generator ran out of connections (Too many open files)" in result.detail
    plan = gotcha_plan(conditions=(condition,))
    for name in ("capacity_rps", "time_to_breach_s"):
        refused = measure(queued, plan, condition, name)
        assert isinstance(refused, Refusal) and "ran out of connections" in refused.reason
    assert not facts(queued, condition).overloaded
    enough = memory_trial(replace(trial.record, generator=replace(trial.record.generator, connections_short=0)), {  # type: ignore[type-var]
        **rows, "done_ns": np.maximum(done, rows["done_ns"])})  # fmt: skip
    assert facts(enough, condition).overloaded, "the same backlog where no connection was missing is the target's"


def test_g2_an_older_record_in_an_overload_is_skipped_not_passed() -> None:
    condition = Condition("one", OpenLoad(500.0), 2.0)
    old = facts(made(condition.load, 1000, rows=None, never_sent=None), condition)
    assert gate("G2", Cell(condition, [replace(old, overloaded=True)])).passed is None
    assert gate("G2", Cell(condition, [old])).passed is True


def test_g2_a_connection_that_the_target_refused_is_not_ours() -> None:
    load = OpenLoad(50.0)
    trial = made(load, 100, sent=90, never_sent=10)
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    last = np.arange(100) >= 90

    def ended(code: int) -> GateResult:
        found = {**rows, "sent_ns": np.where(last, 0, rows["sent_ns"]), "outcome": np.where(last, code, 0)}
        return judged("G2", memory_trial(trial.record, found), load, 2.0)

    assert ended(4).passed is True and ended(5).passed is False


# ---------------------------------------------------------------- G3 generator CPU, G4 jitter


def test_g3_a_saturated_core() -> None:
    load = ClosedLoad(8)
    assert judged("G3", made(load, 100, cpu_windows=(0.2, 0.81, 0.1)), load, 2.0).passed is False
    assert judged("G3", made(load, 100, cpu_windows=(0.2, 0.79, 0.1)), load, 2.0).passed is True
    assert judged("G3", made(load, 100, cpu_windows=()), load, 2.0).passed is None


def test_g4_a_hub_that_is_held(bench: Bench) -> None:
    load = ClosedLoad(8)
    trial = bench.load(bench.serve(64, 0.0), load, 1.0, user="Hog", held_s=0.12)
    assert judged("G4", trial, load, 1.0).passed is False


def test_g4_fails_short_loads_by_how_many_sleeps_were_late() -> None:
    load = ClosedLoad(8)

    def short(late: int, samples: int) -> bool | None:
        return judged(
            "G4",
            made(load, 100, jitter_late=late, jitter_samples=samples, jitter_p99_s=0.05, jitter_max_s=0.05),
            load,
            1.0,
        ).passed

    assert short(1, 20) is True and short(2, 20) is False
    assert short(3, 100) is True and short(4, 100) is False
    assert short(0, 5) is True
    whole: dict[str, Any] = {"jitter_samples": 400, "jitter_late": 4}
    assert judged("G4", made(load, 100, jitter_p99_s=0.0049, jitter_max_s=0.05, **whole), load, 4.0).passed is True
    assert judged("G4", made(load, 100, jitter_p99_s=0.0051, jitter_max_s=0.05, **whole), load, 4.0).passed is False
    assert judged("G4", made(load, 100, jitter_max_s=0.11), load, 2.0).passed is False
    assert judged("G4", made(load, 100, jitter_samples=None), load, 2.0).passed is None


def test_the_generator_counts_sleeps_as_late_by_the_gates_threshold() -> None:
    # Its module patches this process when it is imported: the constant is read.
    text = "".join(path.read_text() for path in (ROOT / "lab" / "generator").glob("*.py"))
    assert re.findall(r"^JITTER_LATE_S = ([0-9.]+)", text, re.MULTILINE) == [str(THRESHOLDS["jitter_p99_s"].value)]


# ---------------------------------------------------------------- G5 Little's law and G10 rows, against what others counted


def test_a_real_loads_rows_are_what_its_generator_counted(real: Trial) -> None:
    for name in ("G5", "G10"):
        result = judged(name, real, ClosedLoad(4), 1.0)
        assert result.passed is True, f"{name}: {result.detail}"


@pytest.mark.parametrize("change", ["one lost", "one invented", "one doubled", "all lost"])
def test_g10_one_row_lost_invented_or_doubled(real: Trial, change: str) -> None:
    rows = matrix_of(real)
    invented = rows[:1].copy() + 1
    changed = {
        "one lost": rows[1:], "one invented": np.concatenate([rows, invented]), "one doubled": np.concatenate([rows, rows[-1:]]),
        "all lost": rows[:0],
    }[change]  # fmt: skip
    result = judged("G10", memory_trial(real.record, columns_of(changed)), ClosedLoad(4), 1.0)
    assert result.passed is False, result.detail
    for family in ("time", "rate", "share", "count", "cpu"):
        assert spoiled_by(family, [result])


def test_with_two_fifths_of_the_rows_deleted_both_gates_fail(real: Trial) -> None:
    rows = matrix_of(real)
    left = memory_trial(real.record, columns_of(rows[np.arange(len(rows)) % 5 > 1]))
    results = [judged(name, left, ClosedLoad(4), 1.0) for name in ("G5", "G10")]
    assert [one.passed for one in results] == [False, False]
    assert spoiled_by("rate", results[:1]), "Little's law alone sees it: it does not read the same rows twice"


def test_g5_every_row_twice_or_times_that_are_not_true(real: Trial) -> None:
    rows = matrix_of(real)
    assert (
        judged("G5", memory_trial(real.record, columns_of(np.concatenate([rows, rows]))), ClosedLoad(4), 1.0).passed
        is False
    )
    columns = columns_of(rows)
    halved = (columns["sent_ns"] + columns["done_ns"]) // 2
    assert judged("G5", memory_trial(real.record, {**columns, "done_ns": halved}), ClosedLoad(4), 1.0).passed is False


def test_g10_planned_is_sent_and_never_sent() -> None:
    load = OpenLoad(50.0)
    assert judged("G10", made(load, 100, planned=101), load, 2.0).passed is False
    short = made(load, 100, sent=99, never_sent=1)
    assert judged("G10", short, load, 2.0).passed is False, (
        "a row says that it was sent, and the generator that it was not"
    )
    rows = {name: short.column(name) for name in SAMPLE_COLUMNS}
    last = np.arange(100) == 99
    never = {
        **rows,
        "sent_ns": np.where(last, 0, rows["sent_ns"]),
        "outcome": np.where(last, 5, 0),
        "pid": np.where(last, 0, 7),
    }
    assert judged("G10", memory_trial(short.record, never), load, 2.0).passed is True


def test_g10_rows_that_cannot_be() -> None:
    load = ClosedLoad(4)
    trial = made(load, 100)
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    first = np.arange(100) == 0
    for wrong in ({"planned_ns": np.where(first, 0, rows["planned_ns"])}, {"outcome": np.where(first, 9, 0)},
                  {"done_ns": np.where(first, rows["planned_ns"] - 1, rows["done_ns"])}):  # fmt: skip
        assert judged("G10", memory_trial(trial.record, {**rows, **wrong}), load, 2.0).passed is False, wrong


@pytest.mark.parametrize(("handled", "passed"), [(99, False), (100, True), (101, False)])
def test_g10_the_workers_handled_what_was_answered(handled: int, passed: bool) -> None:
    load = ClosedLoad(4)
    result = judged("G10", made(load, 100, server=counters(handled, own=6)), load, 2.0)
    assert result.passed is passed, result.detail
    assert "workers" in result.detail


def broken(trial: Trial, count: int) -> Trial:
    """The last ``count`` requests were reset: nobody knows whether they reached a worker."""
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    last = np.arange(len(rows["pid"])) >= len(rows["pid"]) - count
    server = {name: trial.server(name) for name in ("start_ns", "t_ns", "pid", "ending", "requests", "answered", "own")}
    return memory_trial(trial.record, {**rows, "outcome": np.where(last, 3, 0), "pid": np.where(last, 0, 7)}, server)


@pytest.mark.parametrize(("handled", "passed"), [(97, False), (98, True), (100, True), (101, False)])
def test_g10_where_requests_were_cut_off_the_workers_are_in_between(handled: int, passed: bool) -> None:
    load = ClosedLoad(4)
    assert judged("G10", broken(made(load, 100, server=counters(handled)), 2), load, 2.0).passed is passed


@pytest.mark.parametrize(("handled", "passed"), [(99, False), (100, True), (103, True), (104, False)])
def test_g10_what_a_scenario_asks_over_its_own_connections_has_no_rows(handled: int, passed: bool) -> None:
    trial = made(ClosedLoad(4), 100, server=counters(handled))
    server = {name: trial.server(name) for name in ("start_ns", "t_ns", "pid", "ending", "requests", "answered", "own")}
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    own = memory_trial(replace(trial.record, observed={"asked_otherwise": 3.0}), rows, server)
    assert judged("G10", own, ClosedLoad(4), 2.0).passed is passed


def test_g10_a_request_sent_again_may_have_been_handled_twice() -> None:
    load = ClosedLoad(4)
    assert judged("G10", made(load, 100, resent=1, server=counters(101)), load, 2.0).passed is True
    assert judged("G10", made(load, 100, resent=1, server=counters(102)), load, 2.0).passed is False


def test_g10_says_why_the_workers_cannot_be_asked() -> None:
    load = ClosedLoad(4)
    trial = made(load, 100, server=counters(60))
    killed = Condition("one", load, 2.0, events=(Event(0.5, "kill", "worker"),))
    result = gate("G10", Cell(killed, [facts(trial, killed)]))
    assert result.passed is True and "an event ended workers (kill)" in result.detail
    still = Condition("one", load, 2.0, events=(Event(0.5, "kill", "celery"), Event(0.6, "fault", statement="stall")))
    assert gate("G10", Cell(still, [facts(trial, still)])).passed is False, "the server's workers lived"
    proxied = Condition("one", load, 2.0, proxy=Proxy("target"))
    assert gate("G10", Cell(proxied, [facts(trial, proxied)])).passed is False, (
        "100 answers from workers that handled 60"
    )
    assert "no wrapper" in judged("G10", made(load, 100), load, 2.0).detail
    assert judged("G10", made(load, 100, rows=None), load, 2.0).passed is None


# ---------------------------------------------------------------- G6, G7, G8, G9


def test_g6_a_null_target(bench: Bench) -> None:
    load = ClosedLoad(16)
    with PortReservation() as reservation:
        port = reservation.port
        child = bench.guard.spawn(
            [sys.executable, "-m", "lab.selftest.null_server", "--port", str(port)], env=dict(os.environ), cwd=ROOT,
            log_path=bench.folder / "null.log", name="null",
        )  # fmt: skip
        wait_until(lambda: is_listening(port), 10, child, "the null server to listen")
    seen = facts(bench.load(f"http://127.0.0.1:{port}", load, 1.0), Condition("one", load, 1.0))
    rate = seen.number("throughput_rps")
    assert rate is not None
    cell = Cell(Condition("one", load, 1.0), [seen], ceiling_rps=rate)
    assert gate("G6", cell).passed is False
    assert gate("G6", replace(cell, ceiling_rps=2.01 * rate)).passed is True
    assert gate("G6", replace(cell, ceiling_rps=None)).passed is None
    shared = replace(seen, record=replace(seen.record, generator=replace(seen.record.generator, processes=3)))  # type: ignore[type-var]
    assert gate("G6", replace(cell, trials=[shared])).passed is True, "three processes have three times the ceiling"


def test_g7_a_plateau_that_nothing_of_the_server_explains() -> None:
    few, many = Condition("few", ClosedLoad(4), 2.0), Condition("many", ClosedLoad(12), 2.0)
    before, after = (facts(made(c.load, count), c) for c, count in ((few, 200), (many, 210)))
    cell = Cell(many, [after], beside=[(few, [before])])
    result = gate("G7", cell)
    assert result.passed is False and "from 4 to 12 users; nothing exhausted" in result.detail
    assert result.pairs == (), "it is about the condition as a whole"
    grown = facts(made(many.load, 230), many)
    assert gate("G7", replace(cell, trials=[grown])).passed is None, "no plateau"

    def with_values(**values: float) -> GateResult:
        return gate("G7", replace(cell, trials=[replace(after, values={**after.values, **values})]))

    assert with_values(threads_borrowed_max=40.0).passed is True
    assert with_values(loop_lag_p50_s=0.03).passed is True
    assert with_values(loop_lag_max_s=0.5, loop_lag_p50_s=0.0).passed is False, "one late moment is no saturated loop"


def test_g7_users_that_began_at_once_are_not_held_by_the_server() -> None:
    few, many = Condition("few", ClosedLoad(4), 2.0), Condition("many", ClosedLoad(12), 2.0)
    before = facts(made(few.load, 200), few)

    def peak(most: float, took_s: float, condition: Condition = many) -> GateResult:
        seen = facts(made(condition.load, 210, took_s=took_s), condition)
        held = replace(seen, values={**seen.values, "server_in_flight_max": most})
        return gate("G7", Cell(condition, [held], beside=[(few, [before])]))

    assert peak(12.0, 0.010).passed is False, "all twelve at one moment, and one of them on the average"
    assert peak(12.0, 0.115).passed is True and peak(9.0, 0.115).passed is False
    # 105 answers a second, and 0.05 s of thinking after each: five of the twelve think
    thinking = Condition("thinking", ClosedLoad(12, think_s=0.05), 2.0)
    assert peak(7.0, 0.065, thinking).passed is True and peak(7.0, 0.030, thinking).passed is False


def test_g7_cpu_of_the_warm_up_saturates_nothing() -> None:
    """Half of a core over warm-up and window is no busy server, though it is nine tenths of the window's length; nor is a busy warm-up."""
    few, many = Condition("few", ClosedLoad(4), 2.0), Condition("many", ClosedLoad(12), 2.0)
    before, after = (facts(made(c.load, count), c) for c, count in ((few, 200), (many, 210)))
    begin, end = after.window_ns

    def seen(used_s: float, series: tuple[tuple[int, int], ...] = ()) -> GateResult:
        record = replace(
            after.record,
            load_started_ns=begin - 2 * SECOND,
            cpu_series=series,
            processes={"server": ProcessUse(round(used_s * SECOND), 0, 1)},
        )
        return gate("G7", Cell(many, [replace(after, record=record)], beside=[(few, [before])]))

    assert seen(1.8).passed is False, "0.45 of a core"
    assert seen(3.8).passed is True, "0.95 of a core"
    busy = ((begin - 2 * SECOND, 0), (begin, 2 * SECOND), (end, 2 * SECOND + SECOND // 10))
    assert seen(2.1, busy).passed is False, "all of it in the warm-up"
    idle = ((begin - 2 * SECOND, 0), (begin, 0), (end, round(1.8 * SECOND)))
    assert seen(1.8, idle).passed is True, "all of it in the window"


def test_g7_a_plateau_that_is_explained_does_not_hide_one_that_is_not() -> None:
    few, many = Condition("few", ClosedLoad(4), 2.0), Condition("many", ClosedLoad(12), 2.0)

    def arms(condition: Condition, busy: bool) -> list[TrialFacts]:
        found = [facts(made(condition.load, 200, variant=v), condition) for v in ("naive", "correct")]
        return [replace(found[0], values={**found[0].values, "threads_borrowed_max": 40.0 if busy else 0.0}), found[1]]

    result = gate("G7", Cell(many, arms(many, busy=True), beside=[(few, arms(few, busy=False))]))
    assert result.passed is False and result.detail.startswith("correct")


def test_g8_a_bystander_sees_other_times_or_the_same() -> None:
    load = OpenLoad(500.0)

    def beside_ours(times: list[float | None], took_s: float = 0.010, older: bool = False) -> bool | None:
        good = [one for one in times if one is not None]
        extra: dict[str, object] = {"probe_client_s": good}
        if not older:
            extra["probe_client"] = {"times_s": times}
        return judged("G8", made(load, 1000, took_s=took_s, extra=extra), load, 2.0).passed

    assert beside_ours([0.010] * 20) is True and beside_ours([0.010] * 20, older=True) is True
    assert beside_ours([0.0085] * 20) is False and beside_ours([0.0085] * 20, older=True) is False
    assert beside_ours([0.0115] * 20) is False
    assert beside_ours([0.010] * 3 + [None] * 17) is False, "most of its requests failed, and all of ours did not"
    assert beside_ours([0.010] * 16 + [None] * 4) is True
    assert beside_ours([0.0010] * 20, took_s=0.0007) is True, "0.3 ms are how two clients wake"
    assert beside_ours([0.0013] * 20, took_s=0.0007) is False


@pytest.mark.parametrize("status", [500, 429])
def test_g8_a_target_that_fails_most_requests_fails_those_of_the_bystander_too(status: int) -> None:
    load = OpenLoad(500.0)

    def share_of_ours(good: int, times: list[float | None], older: bool = False) -> GateResult:
        extra: dict[str, object] = {"probe_client_s": times} if older else {"probe_client": {"times_s": times}}
        trial = made(load, 1000, extra=extra)
        columns = columns_of(matrix_of(trial))
        failed = np.arange(1000) >= good
        columns["outcome"], columns["status"] = np.where(failed, HTTP_ERROR, OK), np.where(failed, status, 200)
        return judged("G8", memory_trial(trial.record, columns), load, 2.0)

    mostly: list[float | None] = [0.010] * 3 + [None] * 17
    assert share_of_ours(150, mostly).passed is True, "never on either side"
    fine = share_of_ours(150, [0.010] * 20)
    assert fine.passed is False and fine.detail.endswith("our median never, the probe's 10.00 ms to 10.00 ms")
    assert share_of_ours(600, [0.010] * 12 + [None] * 8).passed is True
    assert share_of_ours(600, [0.030] * 12 + [None] * 8).passed is False
    assert share_of_ours(150, [0.010] * 20, older=True).passed is True, "an older record has the answers alone"


@pytest.mark.parametrize(("load", "rate"), [
    (OpenLoad(1000.0), 15.0),
    (OpenLoad(200.0), 4.0),
    (OpenLoad(60.0), 0.0),  # 2 % of it are too few times for an interval
    (StagedLoad((Stage(1000.0, 2.0), Stage(200.0, 3.0))), 4.0),  # of the slowest stage
    (ClosedLoad(8), 0.0),
])  # fmt: skip
def test_the_bystander_is_at_most_a_fiftieth_of_the_load(load: Load, rate: float) -> None:
    condition = Condition("one", load, duration_s=5.0)
    plan = replace(gotcha_plan(conditions=(condition,)), probes=(Probe("/health"),))
    assert bystander_of(plan, condition) == Bystander("/health" if rate else "", rate)
    assert rate * 5.0 >= FEWEST or not rate
    assert bystander_of(replace(plan, probes=()), condition) == Bystander()


def claiming(metric: str, condition: Condition) -> GotchaPlan:
    return gotcha_plan(
        Claim("c", "harm", "s", Notation(metric), lambda c: 1.0, formula="1", source="x"), conditions=(condition,)
    )


def test_g9_a_noisy_neighbour() -> None:
    before = noise_snapshot()
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "import time; e = time.time() + 5\nwhile time.time() < e: pass"])
        for _ in "ab"
    ]
    time.sleep(1.5)
    noise = noise_between(before, noise_snapshot(), ours_cpu_ns=0)
    for neighbour in neighbours:
        neighbour.kill()
        neighbour.wait()
    record = TrialRecord("event_loop/example", "one", 0, "naive", 5, "ok", noise=noise)
    condition = Condition("one", ClosedLoad(1))
    result = gate("G9", Cell(condition, [TrialFacts(record, "0-naive", {})]))
    assert result.passed is False and spoiled_by("cpu", [result]) and spoiled_by("inside", [result])
    quiet = replace(record, noise={"steal_share": 0.05, "foreign_cpu_share": 0.1})
    assert gate("G9", Cell(condition, [TrialFacts(quiet, "0-naive", {})])).passed is True
    shared = replace(record, noise={**quiet.noise, "cores_missing_share": 0.2})  # two cores that do the work of 1.6
    assert gate("G9", Cell(condition, [TrialFacts(shared, "0-naive", {})])).passed is False


# ---------------------------------------------------------------- G11 warm-up, G12 even spread


def test_g11_a_warm_up_that_never_became_steady() -> None:
    load = ClosedLoad(4)
    assert judged("G11", made(load, 100), load, 2.0).passed is None, "no warm-up"
    assert judged("G11", made(load, 100, steady=True, warmup_s=0.5), load, 2.0).passed is True
    result = judged("G11", made(load, 100, steady=False, warmup_s=1.9, warmup_extensions=3), load, 2.0)
    assert result.passed is False and "prolonged 3 times" in result.detail and result.pairs == (0,)
    condition = Condition("one", OpenLoad(50.0), 2.0)
    over = replace(facts(made(condition.load, 100, steady=False), condition), overloaded=True)
    assert gate("G11", Cell(condition, [over])).passed is None, "an overload is never steady"


def test_g12_an_uneven_spread_of_connections_over_workers() -> None:
    load, server = ClosedLoad(8, spread=True), Server(workers=4)
    condition = Condition("one", load, 2.0, server=server)

    def spread(even: bool | None, shares: dict[str, int]) -> GateResult:
        return gate("G12", Cell(condition, [facts(made(load, 100, spread=shares, spread_even=even), condition)]))

    assert spread(True, {"1": 2, "2": 2, "3": 2, "4": 2}).passed is True
    uneven = spread(False, {"1": 5, "2": 2, "3": 1})
    assert uneven.passed is False and "3 of 4 workers: 1, 2, 5" in uneven.detail and spoiled_by("count", [uneven])
    assert spread(None, {}).passed is None
    assert judged("G12", made(ClosedLoad(8), 100, spread_even=False), ClosedLoad(8), 2.0).passed is None, "nobody asked"


# ---------------------------------------------------------------- pairs


def three_pairs(condition: Condition, **bad: Any) -> list[TrialFacts]:
    """Three pairs of two arms; the correct arm of the second one is spoiled by ``bad``."""
    return [
        facts(made(condition.load, 100, pair=pair, variant=variant, **(bad if (pair, variant) == (1, "correct") else {})), condition)
        for pair in range(3) for variant in ("naive", "correct")
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "bad", "family"), [
    ("G3", {"cpu_windows": (0.9,)}, "rate"),
    ("G4", {"jitter_max_s": 0.2}, "time"),
    ("G5", {"in_flight_s": 9.0}, "rate"),
    ("G10", {"rows": 101}, "count"),
    ("G11", {"steady": False}, "cpu"),
])  # fmt: skip
def test_a_gate_names_the_pair_that_it_fails_and_no_other(name: str, bad: dict[str, Any], family: Family) -> None:
    condition = Condition("one", ClosedLoad(4), 2.0)
    results = check_gates(Cell(condition, three_pairs(condition, **bad)))
    result = next(one for one in results if one.gate == name)
    assert result.passed is False and result.pairs == (1,)
    assert "1 of 3 pairs; pair 2" in result.detail
    assert spoiled_pairs(family, results) == {1}
    assert spoiled_pairs("memory", results) == frozenset()
    assert not [one for one in check_gates(Cell(condition, three_pairs(condition))) if one.passed is False]


def test_a_failed_pair_speaks_though_another_came_closer_to_another_limit() -> None:
    """One late sleep of a short load (fine) reads a p99 of ten times the limit; a pause of 110 ms is at 1.1 times its own."""
    condition = Condition("one", ClosedLoad(4), 2.0)
    late = made(condition.load, 100, jitter_late=1, jitter_samples=100, jitter_p99_s=0.05, jitter_max_s=0.05)
    paused = made(condition.load, 100, pair=1, jitter_max_s=0.11)
    result = gate("G4", Cell(condition, [facts(late, condition), facts(paused, condition)]))
    assert result.passed is False and result.pairs == (1,) and "110 ms late" in result.detail


def test_the_hook_of_the_runner_reads_a_pair_from_disk_and_asks_what_is_claimed(tmp_path: Path) -> None:
    condition = Condition("one", ClosedLoad(10), duration_s=2.0)
    rated, counted = claiming("naive.throughput_rps", condition), claiming("naive.requests_ok", condition)
    plan = make_plan("r", "now", (rated,), "quick", 1, 1)
    folder = new_run(tmp_path, "r")
    folder.write_plan(plan)
    run_trials(
        plan, folder, FakeExecutor({"naive": 50.0, "correct": 50.0}, {"naive": 0.02, "correct": 0.02}), lambda _: None
    )
    folders = folder.trials("event_loop/example")
    records = [one.record for one in folders]
    assert spoiled(records, rated, condition, folders) == ""

    def rewritten(**generator: object) -> list[TrialRecord]:
        changed = replace(records[0], generator=replace(records[0].generator, **generator))  # type: ignore[type-var]
        folders[0].write(changed)
        folders[0].__dict__.pop("record", None)
        return [changed, records[1]]

    busy = rewritten(cpu_windows=(0.95,))
    assert spoiled(busy, rated, condition, folders).startswith(
        "G3 generator CPU: busiest second 95 %".replace(" %", "%")
    )
    assert spoiled(busy, counted, condition, folders) == "", "a count stands whatever the generator's core did"
    assert spoiled(rewritten(rows=7), counted, condition, folders).startswith("G10 rows counted twice")
    failed = [replace(one, status="failed") for one in records]
    assert spoiled(failed, rated, condition, folders) == "", "a trial that failed is a result"
    noisy = replace(records[0], noise={"foreign_cpu_share": 0.5})
    folders[0].write(noisy)
    folders[0].__dict__.pop("record", None)
    assert "foreign_cpu_share" in spoiled([noisy, records[1]], rated, condition, folders)
    assert spoiled([noisy, records[1]], counted, condition, folders) == ""


def test_a_good_load_passes_every_gate_that_applies(tmp_path: Path) -> None:
    condition = Condition("one", ClosedLoad(10), duration_s=2.0)
    plan = make_plan("r", "now", (gotcha_plan(conditions=(condition,)),), "quick", 1, None)
    folder = new_run(tmp_path, "r")
    folder.write_plan(plan)
    run_trials(
        plan,
        folder,
        FakeExecutor({"naive": 500.0, "correct": 500.0}, {"naive": 0.02, "correct": 0.02}),
        lambda *_: None,
    )
    gotcha = plan.gotchas[0]
    trials = [reduce_trial(open_trial(one), gotcha, condition, WANTED) for one in folder.trials(gotcha.slug)]
    results = check_gates(Cell(condition, trials, ceiling_rps=50_000.0))
    assert {one.gate for one in results if one.passed} >= {"G3", "G4", "G5", "G6", "G10"}
    assert not [one for one in results if one.passed is False], results
    assert [one.gate for one in results] == [one.name for one in GATES]


def test_a_burst_has_its_rows_counted_too() -> None:
    load = Burst(100)
    assert judged("G5", made(load, 100), load, 2.0).passed is True
    assert judged("G10", made(load, 100, rows=99), load, 2.0).passed is False


@pytest.mark.parametrize("name", [one.name for one in GATES])
def test_every_gate_says_what_to_do_and_skips_what_it_cannot_judge(name: str) -> None:
    found: Callable[[str], GateResult] = lambda gate_name: gate(gate_name, Cell(Condition("one", ClosedLoad(1)), []))  # noqa: E731
    assert found(name).passed is None and found(name).detail
    assert next(one for one in GATES if one.name == name).advice.endswith(".")
