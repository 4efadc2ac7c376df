"""The Locust child as a process: exact counts for every load shape, censoring, and what happens when somebody dies."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.generator.engine import Measured, job_of, load_child
from lab.generator.schedule import arrivals_ns, trace_of
from lab.model import OUTCOMES, SAMPLE_COLUMNS, Burst, ClosedLoad, Condition, Journey, OpenLoad, Stage, StagedLoad
from lab.processes import Guard
from lab.services.upstream import start_upstream
from lab.words.codec import to_dict
from tests.generator import drive
from tests.little_server import at_once, little_server

ROOT = Path(__file__).resolve().parent.parent
AT = {name: index for index, name in enumerate(SAMPLE_COLUMNS)}

USERS = """
from locust import task

from lab.generator.users import LabUser


class Reader(LabUser):
    @task
    def read(self) -> None:
        self.get(f"/items/{self.rng.randrange(100)}?delay={self.params.get('delay', 0)}", name="item", level=self.number)


class Walker(LabUser):
    def journey(self) -> None:
        for step in range(5):
            assert self.get(f"/items/{step}").json()["item"] == str(step)
            self.count("steps")


class Burster(LabUser):
    def before_burst(self, k: int) -> None:
        self.count("bursts")

    @task
    def read(self) -> None:
        self.get("/items/1", name=f"burst {self.arrival // 20}")


class Broken(LabUser):
    @task
    def read(self) -> None:
        self.get("/items/1")
        if self.number == 0:
            raise KeyError("no such order")
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Guard() as guard, start_upstream(guard, 0.0, tmp_path_factory.mktemp("upstream")) as running:
        yield running.url


def start(tmp_path: Path) -> "subprocess.Popen[str]":
    (tmp_path / "users.py").write_text(USERS)
    child = subprocess.Popen(
        [sys.executable, "-m", "lab.generator.child"], cwd=ROOT, env={**os.environ}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(tmp_path / "log").open("w"),
    )  # fmt: skip
    assert child.stdout is not None
    assert json.loads(child.stdout.readline()) == {"state": "imported"}
    return child


def run(tmp_path: Path, url: str, user: str, condition: Condition, seed: int = 1) -> tuple[Any, dict[str, Any], int]:
    child = start(tmp_path)
    job = {"scenario": str(tmp_path / "users.py"), "user": user, "variant": "naive", "url": url, "seed": seed,
           "condition": to_dict(condition), "out": str(tmp_path), "process": 0, "processes": 1}  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()
    first = child.stdout.readline()
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps({"start_ns": time.monotonic_ns()}) + "\n")
        child.stdin.flush()
    output = first + child.stdout.read()
    child.stdin.close()
    child.wait(300)
    states = [json.loads(line)["state"] for line in output.splitlines()]
    assert states[0] == "ready" and states[-1] == "done"
    return np.load(tmp_path / "samples.npy"), json.loads((tmp_path / "load.json").read_text()), child.returncode


def test_a_closed_load_with_a_number_of_requests_sends_exactly_that_many(tmp_path: Path, upstream: str) -> None:
    rows, result, code = run(tmp_path, upstream, "Reader", Condition("c", ClosedLoad(7, requests=100)))
    assert code == 0
    assert len(rows) == 100
    assert set(rows[:, AT["outcome"]]) == {OUTCOMES.index("ok")}
    assert set(rows[:, AT["level"]]) == set(range(7))
    assert result["request_names"] == ["item"]
    assert result["generator"]["sent"] == 100


def test_a_timed_closed_load_counts_what_was_left_unanswered(tmp_path: Path, upstream: str) -> None:
    condition = Condition("c", ClosedLoad(4), duration_s=0.5, drain_s=0.1, params={"delay": 30})
    rows, _, _ = run(tmp_path, upstream, "Reader", condition)
    assert list(rows[:, AT["outcome"]]) == [OUTCOMES.index("censored")] * 4


def test_reconnecting_opens_a_connection_for_every_request(tmp_path: Path, upstream: str) -> None:
    rows, _, _ = run(tmp_path, upstream, "Reader", Condition("c", ClosedLoad(3, requests=30, reconnect=True)))
    assert rows[:, AT["reused"]].sum() == 0
    rows, _, _ = run(tmp_path, upstream, "Reader", Condition("c", ClosedLoad(3, requests=30)))
    assert rows[:, AT["reused"]].sum() == 27


def test_a_journey_is_walked_once_by_each_user(tmp_path: Path, upstream: str) -> None:
    rows, result, code = run(tmp_path, upstream, "Walker", Condition("c", Journey(3)))
    assert (code, len(rows), result["counts"]) == (0, 15, {"steps": 15})


def test_a_burst_is_released_at_one_instant_again_and_again(tmp_path: Path, upstream: str) -> None:
    rows, result, _ = run(tmp_path, upstream, "Burster", Condition("c", Burst(20, repeats=3, every_s=0.2)))
    assert len(rows) == 60
    assert result["counts"] == {"bursts": 3}
    assert len(set(rows[:, AT["planned_ns"]])) == 3
    names = Counter(result["request_names"][index] for index in rows[:, AT["name_id"]])
    assert names == {"burst 0": 20, "burst 1": 20, "burst 2": 20}


def test_an_open_load_replays_the_trace_of_its_seed(tmp_path: Path, upstream: str) -> None:
    load = OpenLoad(200.0, connections=32)
    rows, result, _ = run(tmp_path, upstream, "Reader", Condition("c", load, duration_s=1.0), seed=42)
    trace = trace_of(load, 1.0, 42)
    assert len(rows) == len(trace) == result["generator"]["planned"]
    assert result["generator"]["trace_hash"] == trace.hash
    planned = np.sort(rows[:, AT["planned_ns"]]) - result["started_ns"]
    assert list(planned) == list(trace.offsets_ns)
    assert (rows[:, AT["dispatched_ns"]] >= rows[:, AT["planned_ns"]]).all()


def test_an_open_load_never_waits_for_a_slow_server(tmp_path: Path, upstream: str) -> None:
    condition = Condition("c", OpenLoad(100.0, connections=4), duration_s=0.5, drain_s=0.2, params={"delay": 30})
    rows, result, _ = run(tmp_path, upstream, "Reader", condition)
    assert len(rows) == result["generator"]["planned"]  # every planned request is a row, sent or not
    assert set(rows[:, AT["outcome"]]) == {OUTCOMES.index("censored")}
    assert (rows[:, AT["sent_ns"]] > 0).all(), "a further connection is opened for each"
    assert result["generator"]["connections_peak"] == len(rows)
    assert result["generator"]["connections_short"] == 0


def test_a_staged_load_follows_its_stages(tmp_path: Path, upstream: str) -> None:
    load = StagedLoad((Stage(50.0, 0.4), Stage(250.0, 0.4)), arrivals="uniform", connections=32)
    rows, _, _ = run(tmp_path, upstream, "Reader", Condition("c", load))
    assert len(rows) == 20 + 100


def test_a_user_class_that_raises_is_named_and_its_samples_are_kept(tmp_path: Path, upstream: str) -> None:
    rows, result, code = run(tmp_path, upstream, "Broken", Condition("c", ClosedLoad(2, requests=10)))
    assert code == 1
    assert "KeyError" in result["error"] and "users.py line" in result["error"]
    assert len(rows) >= 1


def test_end_of_input_ends_the_child_at_once(tmp_path: Path) -> None:
    child = start(tmp_path)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    assert child.wait(300) != 0
    child.stdout.close()


def test_both_arms_ask_for_the_same_things(tmp_path: Path, upstream: str) -> None:
    sizes = []
    for _ in range(2):
        rows, _, _ = run(tmp_path, upstream, "Reader", Condition("c", ClosedLoad(1, requests=50)), seed=9)
        sizes.append(list(rows[:, AT["bytes"]]))
    assert sizes[0] == sizes[1]


def measured(tmp_path: Path, url: str, user: str, condition: Condition, processes: int) -> tuple[Any, Measured]:
    """The load as the lab does it, by so many generator processes."""
    (tmp_path / "users.py").write_text(USERS)
    with Guard() as guard, load_child(guard, tmp_path / "load", {}, processes) as generator:
        job = job_of(tmp_path / "users.py", replace(condition, user=user), "naive", url, 7, processes)
        done = generator.run(job, 20.0, lambda at_ns: None, lambda message: None)
    return np.load(done.samples), done


def test_several_processes_replay_one_trace_exactly(tmp_path: Path, upstream: str) -> None:
    load = OpenLoad(300.0, connections=31)
    rows, done = measured(tmp_path, upstream, "Reader", Condition("c", load, duration_s=1.0), 3)
    trace = trace_of(load, 1.0, 7)
    assert list(rows[:, AT["planned_ns"]] - done.started_ns) == list(trace.offsets_ns)
    assert (done.generator.processes, done.generator.planned, done.generator.trace_hash) == (3, len(trace), trace.hash)
    assert done.generator.sent == len(rows)
    assert len({number % 3 for number in rows[:, AT["level"]]}) == 3, "every process sent something"


def test_users_and_requests_are_dealt_round(tmp_path: Path, upstream: str) -> None:
    rows, done = measured(tmp_path, upstream, "Reader", Condition("c", ClosedLoad(5, requests=101)), 2)
    assert len(rows) == 101 and set(rows[:, AT["level"]]) == set(range(5))
    assert done.request_names == ("item",)


def test_counts_of_several_processes_add_up(tmp_path: Path, upstream: str) -> None:
    rows, done = measured(tmp_path, upstream, "Walker", Condition("c", Journey(3)), 8)
    assert len(rows) == 15 and done.observed == {"steps": 15}
    assert done.generator.processes == 3, "no more processes than users"


def test_a_burst_stays_with_one_process(tmp_path: Path, upstream: str) -> None:
    rows, done = measured(tmp_path, upstream, "Burster", Condition("c", Burst(20)), 2)
    assert len(rows) == 20 and done.generator.processes == 1


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_shares_of_a_load_are_the_whole(processes: int) -> None:
    parts = [ClosedLoad(7, requests=20).shared(one, processes) for one in range(processes)]
    assert sum(part.users for part in parts if isinstance(part, ClosedLoad)) == 7
    assert sum(part.requests or 0 for part in parts if isinstance(part, ClosedLoad)) == 20


@pytest.mark.parametrize(("rate", "duration_s"), [(3.0, 10.0), (77.0, 3.0), (96.0, 10.0), (250.0, 0.4), (0.3, 10.0)])
def test_uniform_arrivals_all_come_before_the_end(rate: float, duration_s: float) -> None:
    """In a staged load the one too many would come with the first of the next stage."""
    offsets = list(arrivals_ns(Stage(rate, duration_s), "uniform", random.Random(1)))
    assert len(offsets) == round(rate * duration_s) and offsets[0] == 0 and offsets[-1] < duration_s * 1e9


TWO_AT_ONCE = """
class Both(LabUser):
    def journey(self):
        asked = [gevent.spawn(self.get, path, name=path) for path in ("/a", "/b")]
        gevent.joinall(asked, timeout=2.0)
        for one in asked:
            one.get(block=False)
"""


def test_a_user_that_sends_two_requests_at_once_is_told(tmp_path: Path) -> None:
    """On one connection the second would be given the answer to the first."""
    with little_server(at_once) as server:
        load = drive(tmp_path, TWO_AT_ONCE, server.url, Condition("c", Journey(1)), fails=True)
        asked = [one.path for one in server.load]
    assert "one request at a time" in load.measured.error
    assert load.measured.request_names == ("/a",) and load.outcomes() == {"ok": 1} and asked == ["/a"]
    load.assert_counted()
