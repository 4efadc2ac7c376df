"""Each gate tripped for real: a real generator against a real server, one of them spoiled in the way that the gate is there for.

That a gate stays silent on a good load is tested on the fake executor's trials: a real one may well be disturbed where tests run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import Trial, memory_trial, open_trial
from analysis.gates import GATES, Cell, check_gates, disturbed, spoiled_by
from analysis.metrics import STANDARD
from analysis.model import GateResult
from lab.environment import noise_between, noise_snapshot
from lab.load import job_of, load_child
from lab.model import SAMPLE_COLUMNS, Claim, ClosedLoad, Condition, GotchaPlan, Load, OpenLoad, Probe, Stage, StagedLoad
from lab.plan import make_plan
from lab.probe_client import FEWEST, Bystander, beside, bystander_of
from lab.processes import Guard, PortReservation, is_listening, wait_until
from lab.record import TrialRecord
from lab.runner import run_trials
from lab.store import new_run
from tests.fakes import FakeExecutor, gotcha_plan

ROOT = Path(__file__).resolve().parent.parent
WANTED = tuple((name, "") for name in (*STANDARD, "loop_lag_max_s", "threads_borrowed_max", "server_in_flight_max"))
USERS = """
import time

from locust import task

from lab.loadgen.users import LabUser

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

    def load(
        self, url: str, load: Load, duration_s: float, user: str = "Reader", bystander: bool = False, **params: float
    ) -> Trial:
        """The trial of one load, as the lab would store it."""
        self.count += 1
        condition = Condition("one", load, duration_s, user=user, params=params, drain_s=0.5)
        times: list[float] = []
        with load_child(self.guard, self.folder / f"load-{self.count}", {}) as generator:
            job = job_of(self.folder / "users.py", condition, "naive", url, 5)
            with beside(self.guard, url, Bystander("/", 15.0) if bystander else Bystander(), 5, times):
                done = generator.run(job, 30.0, lambda at_ns: None, lambda message: None)
        rows = np.load(done.samples)
        record = TrialRecord(
            "event_loop/example", condition.key, 0, "naive", 5, "ok", load_started_ns=done.started_ns, load_ended_ns=done.ended_ns,
            request_names=done.request_names, generator=done.generator, extra={"probe_client_s": times} if times else {},
        )  # fmt: skip
        return memory_trial(record, {name: rows[:, index] for index, name in enumerate(SAMPLE_COLUMNS)})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Guard() as guard:
        yield Bench(tmp_path_factory.mktemp("gates"), guard)


def facts(trial: Trial, condition: Condition) -> TrialFacts:
    return reduce_trial(trial, gotcha_plan(conditions=(condition,)), condition, WANTED)


def gate(name: str, cell: Cell) -> GateResult:
    return next(one for one in check_gates(cell) if one.gate == name)


def judged(name: str, trial: Trial, load: Load, duration_s: float, **cell: object) -> GateResult:
    condition = Condition("one", load, duration_s)
    return gate(name, replace(Cell(condition, [facts(trial, condition)]), **cell))  # type: ignore[arg-type]


def test_g1_a_stalled_dispatcher(bench: Bench) -> None:
    load = OpenLoad(60.0, connections=16)
    trial = bench.load(bench.serve(64, 0.0), load, 1.0, user="Hog", held_s=0.01)
    result = judged("G1", trial, load, 1.0)
    assert result.passed is False, result.detail
    assert spoiled_by("time", [result]) and not spoiled_by("count", [result])


def test_g2_a_throttled_generator(bench: Bench) -> None:
    load = OpenLoad(200.0, connections=1)  # one connection carries 20 of them
    trial = bench.load(bench.serve(64, 0.05), load, 0.4)
    sent = trial.record.generator
    assert sent is not None and sent.sent < sent.planned
    # In an overload waiting is the server's backlog; the same rows with a server that kept up are the generator's fault.
    condition = Condition("one", load, 0.4)
    seen = replace(facts(trial, condition), overloaded=False)
    result = gate("G2", Cell(condition, [seen]))
    assert result.passed is False and (result.figure or 0) > 0.5, result.detail


def test_g3_a_saturated_core(bench: Bench) -> None:
    load, url = ClosedLoad(8), bench.serve(64, 0.0)
    # Where others want the same core the generator gets less than all of it (that is G9's): then once more.
    results = (judged("G3", bench.load(url, load, 2.5, user="Hog", held_s=0.12), load, 2.5) for _ in range(5))
    assert any(result.passed is False for result in results)


def test_g4_a_hub_that_is_held(bench: Bench) -> None:
    load = ClosedLoad(8)
    trial = bench.load(bench.serve(64, 0.0), load, 1.0, user="Hog", held_s=0.12)
    assert judged("G4", trial, load, 1.0).passed is False


def test_g5_lost_rows(bench: Bench) -> None:
    load = ClosedLoad(4)
    trial = bench.load(bench.serve(64, 0.01), load, 1.0)
    rows = {name: trial.column(name) for name in SAMPLE_COLUMNS}
    assert judged("G5", trial, load, 1.0).figure is not None
    impossible = {name: np.concatenate([column, column]) for name, column in rows.items()}  # every row written twice
    result = judged("G5", memory_trial(trial.record, impossible), load, 1.0)
    assert result.passed is False and "from 4 users" in result.detail
    late = {
        **rows,
        "done_ns": np.where(np.arange(len(rows["done_ns"])) % 4, rows["done_ns"], 0),
    }  # a quarter never came back
    assert judged("G5", memory_trial(trial.record, late), load, 1.0).passed is False


def test_g6_a_null_target(bench: Bench) -> None:
    load = ClosedLoad(16)
    with PortReservation() as reservation:
        port = reservation.port
        child = bench.guard.spawn(
            [sys.executable, "-m", "lab.selftest.null_server", "--port", str(port)], env=dict(os.environ), cwd=ROOT,
            log_path=bench.folder / "null.log", name="null",
        )  # fmt: skip
        wait_until(lambda: is_listening(port), 10, child, "the null server to listen")
    rates = [facts(bench.load(f"http://127.0.0.1:{port}", load, 1.0), Condition("one", load, 1.0)) for _ in range(2)]
    ceiling = rates[0].number("throughput_rps")
    cell = Cell(Condition("one", load, 1.0), [rates[1]], ceiling_rps=ceiling)
    assert gate("G6", cell).passed is False
    assert gate("G6", replace(cell, ceiling_rps=None)).passed is None


def test_g7_a_plateau_that_nothing_of_the_server_explains(bench: Bench) -> None:
    url = bench.serve(2, 0.02)  # a hidden limit of two at once: no CPU, no thread, no pool is exhausted
    few, many = Condition("few", ClosedLoad(4), 1.0), Condition("many", ClosedLoad(12), 1.0)
    cells = [(c, facts(bench.load(url, c.load, 1.0), c)) for c in (few, many)]
    cell = Cell(many, [cells[1][1]], beside=[(few, [cells[0][1]])])
    result = gate("G7", cell)
    assert result.passed is False and "nothing exhausted" in result.detail
    busy = replace(cells[1][1], values={**cells[1][1].values, "threads_borrowed_max": 40.0})
    assert gate("G7", replace(cell, trials=[busy])).passed is True


def test_g8_a_bystander_sees_other_times(bench: Bench) -> None:
    load = OpenLoad(40.0, connections=32)
    # The hog holds the hub for most of the time, so an answer is read late; the bystander is another process.
    trial = bench.load(bench.serve(64, 0.03), load, 2.5, user="Hog", bystander=True, held_s=0.02)
    result = judged("G8", trial, load, 2.5)
    assert result.passed is False, result.detail


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

    def claiming(metric: str) -> GotchaPlan:
        return gotcha_plan(
            Claim("c", "harm", "s", metric, lambda c: 1.0, formula="1", source="x"), conditions=(condition,)
        )

    assert "limit" in disturbed(record, claiming("naive.latency_p50_s"))
    assert disturbed(record, claiming("naive.requests_ok")) == "", "a count stands whatever the neighbours do"
    result = gate("G9", Cell(condition, [TrialFacts(record, "0-naive", {})]))
    assert result.passed is False and spoiled_by("cpu", [result]) and spoiled_by("inside", [result])


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
    assert {one.gate for one in results if one.passed} >= {"G3", "G5", "G6"}
    assert not [one for one in results if one.passed is False], results
    assert [one.gate for one in results] == [one.name for one in GATES]


@pytest.mark.parametrize("name", [one.name for one in GATES])
def test_every_gate_says_what_to_do_and_skips_what_it_cannot_judge(name: str) -> None:
    found: Callable[[str], GateResult] = lambda gate_name: gate(gate_name, Cell(Condition("one", ClosedLoad(1)), []))  # noqa: E731
    assert found(name).passed is None and found(name).detail
    assert next(one for one in GATES if one.name == name).advice.endswith(".")
