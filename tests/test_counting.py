"""Every request is counted where it happens and has one row, however the load ends: rude servers, rude user classes, kills."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lab.generator.engine import LoadChild
from lab.generator.schedule import trace_of
from lab.model import Burst, ClosedLoad, Condition, Journey, OpenLoad
from lab.model import Load as LoadShape
from lab.words.errors import LoadError
from tests.generator import SEED, drive
from tests.little_server import Answer, Asked, at_once, little_server, never

READER = """
class Reader(LabUser):
    timeout_s = 1.5

    @task
    def read(self):
        self.get("/", name="read")

    def journey(self):
        for _ in range(3):
            self.read()
"""


@pytest.mark.parametrize(("shape", "rows", "outcome"), [
    (OpenLoad(100.0, "uniform", connections=2), 30, "censored"),
    (ClosedLoad(4), 4, "censored"),
    (ClosedLoad(4, requests=8), 8, "timeout"),
    (Burst(5, repeats=2, every_s=0.2), 10, "censored"),
    (Journey(2), 6, "timeout"),
], ids=["open", "closed", "closed, counted", "burst", "journey"])  # fmt: skip
def test_a_server_that_never_answers(tmp_path: Path, shape: LoadShape, rows: int, outcome: str) -> None:
    with little_server(never) as server:
        load = drive(tmp_path, READER, server.url, Condition("c", shape, duration_s=0.3, drain_s=0.2))
        assert server.seen(rows) == rows
    assert load.outcomes() == {outcome: rows}
    assert load.seen.sent == rows
    load.assert_counted()


def test_what_is_in_flight_at_the_end_has_one_row(tmp_path: Path) -> None:
    """Half of the requests are answered; the others are under way when the load ends."""

    async def answering(asked: Asked) -> Answer | None:
        return Answer() if asked.number % 2 else None

    with little_server(answering) as server:
        condition = Condition("c", OpenLoad(100.0, "uniform", connections=2), duration_s=0.4, drain_s=1.0)
        load = drive(tmp_path, READER, server.url, condition)
    assert load.outcomes() == {"ok": 20, "censored": 20}
    assert (load.seen.sent, load.seen.never_sent) == (40, 0)
    load.assert_counted()


def test_the_time_in_flight_is_that_of_the_rows(tmp_path: Path) -> None:
    """Between the times from the sending and those from the handing over, also for what never left."""
    with deaf() as url:
        condition = Condition("c", OpenLoad(50.0, "uniform", connections=1), duration_s=0.3, drain_s=0.2)
        load = drive(tmp_path, READER, url, condition)
    assert load.seen.in_flight_s == 0.0
    with little_server(never) as server:
        (tmp_path / "b").mkdir()
        load = drive(tmp_path / "b", READER, server.url, condition)
    service = (load.column("done_ns") - load.column("sent_ns")).sum() / 1e9
    dispatched = (load.column("done_ns") - load.column("dispatched_ns")).sum() / 1e9
    assert load.seen.in_flight_s is not None and service <= load.seen.in_flight_s + 1e-6 <= dispatched + 2e-6


@contextmanager
def deaf() -> Iterator[str]:
    """A port where connecting never ends: its queue is full and nobody accepts."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
            waiting.append(one)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    "shape", [OpenLoad(50.0, "uniform", connections=2), ClosedLoad(3), Burst(3, every_s=0.1)], ids=lambda one: one.shape
)
def test_a_request_that_ends_while_it_connects_was_never_sent(tmp_path: Path, shape: LoadShape) -> None:
    with deaf() as url:
        load = drive(tmp_path, READER, url, Condition("c", shape, duration_s=0.3, drain_s=0.1))
    assert len(load.rows) == {"open": 15, "closed": 3, "burst": 3}[shape.shape]
    assert not load.column("sent_ns").any()
    assert (load.seen.sent, load.seen.never_sent, load.seen.connections_peak) == (0, len(load.rows), 0)
    load.assert_counted()


# ---- rude user classes

RUDE = """
class Sleeper(LabUser):
    @task
    def read(self):
        gevent.sleep(60)
        self.get("/")


class Finally(LabUser):
    @task
    def read(self):
        try:
            self.get("/", name="read")
        finally:
            self.get("/", name="farewell")


class Stubborn(LabUser):
    @task
    def read(self):
        while True:
            try:
                self.get("/", name="read")
                gevent.sleep(60)
            except BaseException:
                self.count("caught")


class Impatient(LabUser):
    @task
    def read(self):
        with gevent.Timeout(0.1, False):
            self.get("/slow", name="slow")
        self.get("/", name="after")


class Late(LabUser):
    @task
    def read(self):
        reply = self.get(f"/{self.arrival}", name="read")
        self.count("of_another", reply.body != str(self.arrival).encode())


class Before(LabUser):
    def on_start(self):
        self.get("/", name="on_start")

    def before_burst(self, k):
        self.get("/", name="before")

    @task
    def read(self):
        self.get("/", name="read")
"""


@pytest.mark.parametrize(
    "shape", [OpenLoad(50.0, "uniform", connections=2), Burst(5, repeats=2, every_s=0.1)], ids=lambda one: one.shape
)
def test_who_sleeps_before_it_sends_is_never_sent(tmp_path: Path, shape: LoadShape) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, RUDE, server.url, Condition("c", shape, duration_s=0.2, drain_s=0.1, user="Sleeper"))
    assert load.outcomes() == {"censored": 10}
    assert (load.seen.sent, load.seen.never_sent) == (0, 10)
    load.assert_counted()


@pytest.mark.parametrize("user", ["Finally", "Stubborn"])
def test_nothing_is_sent_after_the_end(tmp_path: Path, user: str) -> None:
    with little_server(never) as server:
        load = drive(tmp_path, RUDE, server.url, Condition("c", ClosedLoad(3), duration_s=0.2, drain_s=0.1, user=user))
        assert server.seen(3) == 3
    assert load.outcomes() == {"censored": 3} and load.measured.request_names == ("read",)
    load.assert_counted()


def test_who_does_not_stop_after_a_burst_fails_the_load(tmp_path: Path) -> None:
    with little_server(never) as server:
        condition = Condition("c", Burst(3, repeats=2, every_s=0.1), drain_s=0.1, user="Stubborn")
        load = drive(tmp_path, RUDE, server.url, condition, fails=True)
    assert "3 users did not stop after burst 0" in load.measured.error
    load.assert_counted()


def test_a_user_class_may_give_up_a_request(tmp_path: Path) -> None:
    """The row says so, and the late answer is not taken for that of the next request."""

    async def answering(asked: Asked) -> Answer | None:
        return None if asked.path == "/slow" else Answer()

    with little_server(answering) as server:
        load = drive(tmp_path, RUDE, server.url, Condition("c", ClosedLoad(2, requests=4), user="Impatient"))
        assert server.connections == 2 + 4, "a request that is given up takes its connection with it"
    assert load.outcomes() == {"timeout": 4, "ok": 4}
    load.assert_counted()


def test_a_late_answer_does_not_meet_the_next_burst(tmp_path: Path) -> None:
    held: list[Asked] = []

    async def answering(asked: Asked) -> Answer | None:
        held.append(asked)
        return None if len(held) <= 5 else Answer(asked.path[1:].encode())

    with little_server(answering) as server:
        condition = Condition("c", Burst(5, repeats=2, every_s=0.1), drain_s=1.0, user="Late")
        load = drive(tmp_path, RUDE, server.url, condition)
        assert sorted(
            {one.connection for one in server.load[:5]} | {one.connection for one in server.load[5:]}
        ) == list(range(10))
    assert load.outcomes() == {"censored": 5, "ok": 5}
    assert load.measured.observed == {"of_another": 0}
    load.assert_counted()


def test_requests_besides_the_planned_ones_are_counted_too(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, RUDE, server.url, Condition("c", Burst(4, repeats=3, every_s=0.05), user="Before"))
        assert len(server.load) == 4 + 3 + 12
    assert load.seen.planned == 4 + 3 + 12
    load.assert_counted()
    with little_server(at_once) as server:
        (tmp_path / "open").mkdir()
        shape = OpenLoad(100.0, connections=3)
        load = drive(tmp_path / "open", RUDE, server.url, Condition("c", shape, duration_s=0.3, user="Before"))
        joined = load.seen.connections_peak
    assert load.seen.planned == joined + len(trace_of(shape, 0.3, SEED))
    load.assert_counted()


def test_a_refused_request_never_left(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        load = drive(tmp_path, READER, url, Condition("c", ClosedLoad(2, requests=6)))
    assert load.outcomes() == {"refused": 6}
    assert (load.seen.sent, load.seen.never_sent, load.seen.connections_short) == (0, 6, 0)
    load.assert_counted()


def test_a_terminated_generator_leaves_what_it_has(tmp_path: Path) -> None:
    def terminate(child: LoadChild) -> None:
        os.kill(child.pids[0], signal.SIGTERM)

    with little_server(never) as server:
        shape = OpenLoad(100.0, connections=2)
        load = drive(tmp_path, READER, server.url, Condition("c", shape, duration_s=20.0), started=terminate)
    assert len(load.rows) < 100
    load.assert_counted()


# ---- several processes


@pytest.mark.parametrize("shape", [OpenLoad(50.0, connections=4), ClosedLoad(4), Journey(4)], ids=lambda one: one.shape)
def test_one_of_two_processes_is_killed_in_the_middle(tmp_path: Path, shape: LoadShape) -> None:
    def kill(child: LoadChild) -> None:
        os.kill(child.pids[1], signal.SIGKILL)

    with little_server(never) as server, pytest.raises(LoadError) as raised:
        drive(tmp_path, READER, server.url, Condition("c", shape, duration_s=5.0), processes=2, started=kill)
    assert "process 2 of 2 of the load generator ended (code -9) before it could finish" in str(raised.value)


LEAVING = """
import os


class Leaving(LabUser):
    def on_start(self):
        if self.number == 1:
            os._exit(3)


class Raising(LabUser):
    def on_start(self):
        if self.number == 1:
            raise KeyError("no such order")

    @task
    def read(self):
        self.get("/")


class RaisingLater(LabUser):
    @task
    def read(self):
        self.get("/")
        if self.number == 1:
            raise KeyError("no such order")
"""


def test_one_of_two_processes_ends_before_the_start(tmp_path: Path) -> None:
    with little_server(at_once) as server, pytest.raises(LoadError) as raised:
        drive(tmp_path, LEAVING, server.url, Condition("c", ClosedLoad(2), user="Leaving"), processes=2)
    assert "process 2 of 2 of the load generator ended (code 3) before it could connect its users" in str(raised.value)


@pytest.mark.parametrize("user", ["Raising", "RaisingLater"])
@pytest.mark.parametrize("processes", [1, 2])
def test_the_process_that_fails_says_why(tmp_path: Path, user: str, processes: int) -> None:
    """The other one is stopped, not waited for: its load would take ten minutes."""
    condition = Condition("c", ClosedLoad(2), duration_s=600.0, user=user)
    with little_server(at_once) as server:
        load = drive(tmp_path, LEAVING, server.url, condition, processes=processes, fails=True)
    assert load.measured.error.startswith("KeyError: 'no such order' (users.py line ")


def test_two_processes_count_as_one(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, READER, server.url, Condition("c", ClosedLoad(5, requests=50)), processes=2)
        assert len(server.load) == 50
    assert np.unique(load.column("outcome")).tolist() == [0]
    assert (load.seen.processes, load.seen.connections_peak) == (2, 5)
    load.assert_counted()


OVERRIDDEN = """
class First(LabUser):
    @task
    def act(self):
        self.get("/first", name="first")

    @task
    def look(self):
        self.get("/look", name="look")

class Second(First):
    @task
    def act(self):
        self.get("/second", name="second")
"""


def test_a_task_that_a_subclass_writes_anew_replaces_the_inherited_one(tmp_path: Path) -> None:
    """Locust collects both; a scenario did half of its requests with the task of another class."""
    paths: set[str] = set()

    async def answering(asked: Asked) -> Answer:
        paths.add(asked.path)
        return Answer()

    with little_server(answering) as server:
        drive(tmp_path, OVERRIDDEN, server.url, Condition("c", ClosedLoad(2, requests=60), user="Second"))
    assert paths == {"/second", "/look"}


@pytest.mark.parametrize("name", ["start", "stop", "wait", "run"])
def test_a_scenario_may_not_take_a_name_that_locust_needs(name: str) -> None:
    """A task called ``start`` took the place of Locust's own, and the load broke in the middle."""
    text = f"from lab.generator.users import LabUser\nclass One(LabUser):\n    def {name}(self): ...\n"
    done = subprocess.run([sys.executable, "-c", text], cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=60)
    assert f"One.{name}: Locust needs this name" in done.stderr
