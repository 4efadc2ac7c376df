"""A duet: turns, places of open arrivals, and a whole one between two real children's arms against little servers."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.generator.engine import job_of, load_child
from lab.generator.schedule import trace_of
from lab.model import (
    SAMPLE_COLUMNS,
    Burst,
    CeleryWorker,
    ClosedLoad,
    Condition,
    Event,
    Journey,
    Load,
    OpenLoad,
    Stage,
    StagedLoad,
)
from lab.processes import Guard
from tests.little_server import at_once, little_server

ROOT = Path(__file__).resolve().parent.parent
SENT, PLANNED, DONE = (SAMPLE_COLUMNS.index(name) for name in ("sent_ns", "planned_ns", "done_ns"))
SCENARIO = """
from locust import task
from lab.generator.users import LabUser

class Visitor(LabUser):
    token = ""

    def on_start(self):
        Visitor.token = self.variant

    @task
    def visit(self):
        self.count("mine", self.token == self.variant)
        self.get(f"/{self.rng.randrange(1000)}", name="page")
"""


def in_child(code: str) -> str:
    """Code that needs gevent runs in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_arm_has_one_turn_a_round_in_an_order_that_changes() -> None:
    code = """
import gevent, json
from lab.generator.turnstile import Turnstile
t, turns = Turnstile(("a", "b", "c"), 7), []
def arm(name, count):
    for _ in range(count):
        t.enter(name); turns.append(name); gevent.sleep(0); t.leave(name)
    t.retire(name)
gevent.joinall([gevent.spawn(arm, name, 20) for name in "abc"], raise_error=True)
print(json.dumps(turns))
"""
    turns = json.loads(in_child(code))
    rounds = [tuple(turns[at : at + 3]) for at in range(0, 60, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1


def test_the_others_go_on_without_an_arm_that_has_retired() -> None:
    code = """
import gevent, json
from lab.generator.turnstile import Turnstile
t, turns = Turnstile(("a", "b"), 7), []
def arm(name, count):
    for _ in range(count):
        t.enter(name); turns.append(name); t.leave(name)
    t.retire(name)
    t.retire(name)
gevent.joinall([gevent.spawn(arm, "a", 2), gevent.spawn(arm, "b", 9)], timeout=5, raise_error=True)
print(json.dumps(turns))
"""
    assert Counter(json.loads(in_child(code))) == {"a": 2, "b": 9}


@pytest.mark.parametrize("seed", range(6))
def test_no_arrival_is_moved_beyond_the_end(seed: int) -> None:
    """What is due after the end is never sent: the arms would differ by a request."""
    code = f"""
import json
from lab.generator.duet import moved
from lab.generator.schedule import trace_of
from lab.model import OpenLoad
load = OpenLoad(10.0)
trace = trace_of(load, 2.0, {seed})
print(json.dumps([list(moved(trace, load, arm, 2, {seed}).offsets_ns) for arm in (0, 1)]))
"""
    asked = len(trace_of(OpenLoad(10.0), 2.0, seed))
    assert [sum(at < 2 * 10**9 for at in offsets) for offsets in json.loads(in_child(code))] == [asked, asked]


@pytest.mark.parametrize("load", [OpenLoad(100.0), StagedLoad((Stage(50.0, 1.0), Stage(200.0, 1.0)))])
def test_open_arrivals_keep_their_index_and_take_each_place_as_often(load: OpenLoad | StagedLoad) -> None:
    code = f"""
import json
from lab.generator.duet import moved
from lab.generator.schedule import trace_of
from lab.model import OpenLoad, Stage, StagedLoad
load = {load!r}
trace = trace_of(load, 10.0, 3)
print(json.dumps([[list(one.offsets_ns), list(one.indices), one.hash == trace.hash] for one in (moved(trace, load, arm, 2, 3) for arm in (0, 1))]))
"""
    trace = trace_of(load, 10.0, 3)
    planned = dict(zip(trace.indices, trace.offsets_ns, strict=True))
    step_ns = round(1e9 / (100.0 if isinstance(load, OpenLoad) else 200.0) / 2)
    delays: list[dict[int, int]] = []
    for offsets, indices, same_hash in json.loads(in_child(code)):
        assert same_hash and all(a <= b for a, b in pairwise(offsets)) and sorted(indices) == list(trace.indices)
        delays.append({index: offset - planned[index] for offset, index in zip(offsets, indices, strict=True)})
    first, second = delays
    last_ns = round(trace.duration_s * 1e9) - 1
    assert all({first[index], second[index]} == {0, min(step_ns, last_ns - at)} for index, at in planned.items())
    assert 0.4 < sum(delay == 0 for delay in first.values()) / len(first) < 0.6


@pytest.mark.parametrize(
    ("load", "takes_turns"), [(ClosedLoad(1, requests=30), True), (OpenLoad(100.0, connections=2), False)]
)
def test_a_duet_measures_each_arm_by_itself(tmp_path: Path, load: Load, takes_turns: bool) -> None:
    scenario = tmp_path / "duet.py"
    scenario.write_text(SCENARIO)
    condition = Condition("a duet", load, duration_s=0.5, duet=True)
    with (
        little_server(at_once) as one, little_server(at_once) as other,
        Guard() as guard, load_child(guard, tmp_path / "load", {}) as child,
    ):  # fmt: skip
        job = job_of(scenario, condition, "", one.url, 11)
        job["arms"] = [{"variant": "one", "url": one.url}, {"variant": "other", "url": other.url}]
        measured = child.run_all(job, 10.0, lambda at_ns: None, lambda message: None)
        asked = [[request.path for request in server.load] for server in (one, other)]
    assert list(measured) == ["one", "other"] and not any(arm.error for arm in measured.values())
    assert Counter(asked[0]) == Counter(asked[1]) and len(asked[0]) > 10, "the same arrivals ask for the same"
    rows = [np.load(arm.samples) for arm in measured.values()]
    assert all(len(own) == len(asked[0]) for own in rows)
    assert all(arm.observed["mine"] == len(own) for arm, own in zip(measured.values(), rows, strict=True)), (
        "classes are an arm's own"
    )
    if takes_turns:
        both = sorted((row[SENT], row[DONE]) for own in rows for row in own)
        assert all(done <= sent for (_, done), (sent, _) in pairwise(both)), "never two at once"


GUEST = """
from lab.generator.users import LabUser

class Guest(LabUser):
    def on_start(self):
        for _ in range(3 if self.variant == "one" else 0):
            self.get("/login", name="login")

    def journey(self):
        for _ in range(2):
            self.get("/", name="page")
"""


def test_an_arm_may_ask_more_before_the_start_than_the_other(tmp_path: Path) -> None:
    """Turns are taken in the load: before it nobody waits for an arm that has nothing to ask."""
    scenario = tmp_path / "duet.py"
    scenario.write_text("import lab.generator.crew\n\nlab.generator.crew.START_TIMEOUT_S = 5.0\n" + GUEST)
    with (
        little_server(at_once) as one, little_server(at_once) as other,
        Guard() as guard, load_child(guard, tmp_path / "load", {}) as child,
    ):  # fmt: skip
        job = job_of(scenario, Condition("a duet", Journey(2), duet=True), "", one.url, 11)
        job["arms"] = [{"variant": "one", "url": one.url}, {"variant": "other", "url": other.url}]
        measured = child.run_all(job, 20.0, lambda at_ns: None, lambda message: None)
    assert [arm.error for arm in measured.values()] == ["", ""]
    assert [len(server.load) for server in (one, other)] == [2 * 3 + 2 * 2, 2 * 2]


@pytest.mark.parametrize(
    "asked", [{"load": Burst(5)}, {"events": (Event(0.1, "kill", "server"),)}, {"celery": CeleryWorker()}]
)
def test_what_no_arm_has_for_itself_is_no_duet(asked: dict[str, Any]) -> None:
    words: dict[str, Any] = {"label": "together", "load": ClosedLoad(1), **asked}
    Condition(**words)
    with pytest.raises(ValueError, match="together: a duet has no burst"):
        Condition(**words, duet=True)
