"""Open loads: connections are opened as needed, and the k-th arrival asks for the same whichever connection carries it."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from lab.generator.schedule import trace_of
from lab.model import Burst, ClosedLoad, Condition, OpenLoad, Stage, StagedLoad
from lab.model import Load as LoadShape
from tests.generator import SEED, Load, drive
from tests.little_server import Answer, Answering, Asked, at_once, little_server, never

READER = """
class Reader(LabUser):
    @task
    def read(self):
        self.get("/", name="read")
"""
DRAWER = """
class Drawer(LabUser):
    def on_start(self):
        self.rng.random()

    @task(3)
    def read(self):
        self.ask("read")

    @task(1)
    def write(self):
        self.ask("write")

    def ask(self, name):
        drawn = self.rng.randrange(10**6)
        self.get(f"/?drawn={drawn}&user={self.number}", name=name, level=drawn)
"""


def waits_for(many: int) -> Answering:
    """No answer to anybody before that many have asked: whoever holds requests back waits for ever."""
    everybody = asyncio.Event()
    asked = 0

    async def answering(_: Asked) -> Answer:
        nonlocal asked
        asked += 1
        if asked >= many:
            everybody.set()
        await everybody.wait()
        return Answer()

    return answering


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("shape", [
    OpenLoad(500.0, connections=3), StagedLoad((Stage(250.0, 0.5), Stage(750.0, 0.5)), connections=3),
], ids=lambda load: load.shape)  # fmt: skip
def test_an_open_load_opens_the_connections_that_it_needs(tmp_path: Path, shape: OpenLoad, processes: int) -> None:
    """A second's arrivals are all in flight before the first of them is answered."""
    arrivals = len(trace_of(shape, 1.0, SEED))
    with little_server(waits_for(arrivals)) as server:
        load = drive(tmp_path, READER, server.url, Condition("c", shape, duration_s=1.0), processes=processes)
        assert server.connections == arrivals
    assert load.outcomes() == {"ok": arrivals}
    assert (load.seen.connections_peak, load.seen.connections_short, load.seen.connection_problem) == (arrivals, 0, "")
    load.assert_counted()


def test_connections_that_are_free_are_used_again(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        load = drive(
            tmp_path, READER, server.url, Condition("c", OpenLoad(20.0, "uniform", connections=2), duration_s=1.0)
        )
        assert len(server.load) == 20 and server.connections < 20
    assert load.outcomes() == {"ok": 20}


FILES = """
import resource


class Reader(LabUser):
    def on_start(self):
        if self.number == 0:
            import os
            free = max(int(name) for name in os.listdir("/proc/self/fd")) + 1 + 10
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    @task
    def read(self):
        self.get("/", name="read")
"""


def test_where_no_connection_can_be_opened_requests_wait_and_are_counted(tmp_path: Path) -> None:
    """The process may open ten files more than it has: the other arrivals never leave, and it says why."""
    with little_server(never) as server:
        condition = Condition("c", OpenLoad(100.0, "uniform", connections=1), duration_s=0.5, drain_s=0.2)
        load = drive(tmp_path, FILES, server.url, condition)
        left = server.seen(load.seen.sent)
    assert load.outcomes() == {"censored": 50}
    assert 1 <= left < 50 and load.seen.sent == left
    assert load.seen.connections_peak == left
    assert load.seen.connections_short == load.seen.never_sent == 50 - left
    assert "[Errno 24]" in load.seen.connection_problem
    load.assert_counted()


def test_the_limit_of_open_files_is_a_reason(tmp_path: Path) -> None:
    limit = "import lab.generator.crew\n\nlab.generator.crew.FILES_KEPT = 10**6\n"  # more than the system grants
    with little_server(never) as server:
        condition = Condition("c", OpenLoad(100.0, "uniform", connections=1), duration_s=0.2, drain_s=0.1)
        load = drive(tmp_path, limit + READER, server.url, condition)
    assert (load.seen.connections_peak, load.seen.connections_short, load.seen.never_sent) == (1, 19, 19)
    assert "open files" in load.seen.connection_problem


ON_THE_WAY = """
import lab.generator.crew

lab.generator.crew.MAX_CONNECTIONS = 30


class Slow(LabUser):
    def on_start(self):
        if self.number:
            gevent.sleep(60)

    @task
    def read(self):
        self.get("/", name="read")
"""


@pytest.mark.parametrize("arrivals", [30, 33])
def test_who_is_on_the_way_counts_once_towards_the_limit(tmp_path: Path, arrivals: int) -> None:
    """Thirty connections may be open; those who are sent for have all opened theirs and are not free yet."""
    with little_server(never) as server:
        condition = Condition("c", OpenLoad(100.0, "uniform", connections=1), duration_s=arrivals / 100, drain_s=0.2)
        load = drive(tmp_path, ON_THE_WAY, server.url, condition)
    assert (load.seen.connections_peak, load.seen.connections_short) == (30, arrivals - 30)
    load.assert_counted()


# ---- common random numbers


def out_of_order(seed: int) -> Answering:
    """Each answer takes another time: the connections come back in a random order."""
    draw = random.Random(seed)

    async def answering(_: Asked) -> Answer:
        await asyncio.sleep(draw.uniform(0.0, 0.05))
        return Answer()

    return answering


def arms(
    tmp_path: Path, shape: LoadShape, processes: tuple[int, int] = (1, 1)
) -> tuple[list[Load], list[dict[str, str]]]:
    """Two arms of a pair; and which user asked for what in each."""
    loads, users = [], []
    for arm in range(2):
        (tmp_path / f"{arm}").mkdir()
        with little_server(out_of_order(arm)) as server:
            loads.append(drive(
                tmp_path / f"{arm}", DRAWER, server.url, Condition("c", shape, duration_s=1.0), processes=processes[arm]
            ))  # fmt: skip
            users.append({one.path.partition("&")[0]: one.path.partition("&")[2] for one in server.load})
    return loads, users


def asked_for(load: Load) -> list[tuple[int, str, int]]:
    """What was asked for, in the order of the planned instants: offset, name, drawn number."""
    names = [load.measured.request_names[index] for index in load.column("name_id")]
    offsets = load.column("planned_ns") - load.measured.started_ns
    return sorted(zip(offsets.tolist(), names, load.column("level").tolist(), strict=True))


@pytest.mark.parametrize("processes", [(1, 1), (1, 2)])
def test_the_kth_arrival_asks_for_the_same_in_both_arms(tmp_path: Path, processes: tuple[int, int]) -> None:
    shape = OpenLoad(400.0, connections=50)
    loads, users = arms(tmp_path, shape, processes)
    assert users[0] != users[1], "other users carried them"
    first, second = (asked_for(load) for load in loads)
    assert first == second and len(first) == len(trace_of(shape, 1.0, SEED))
    assert len({drawn for _, _, drawn in first}) > 0.9 * len(first), "each arrival has numbers of its own"
    names = [name for _, name, _ in first]
    assert 0.6 < names.count("read") / len(names) < 0.9, "by weight, three of four"


def test_in_a_burst_too(tmp_path: Path) -> None:
    loads, _ = arms(tmp_path, Burst(20, repeats=2, every_s=0.1))
    drawn = []
    for load in loads:
        bursts = [load.column("planned_ns") == at for at in np.unique(load.column("planned_ns"))]
        drawn.append([sorted(load.column("level")[burst].tolist()) for burst in bursts])
    assert drawn[0] == drawn[1] and drawn[0][0] != drawn[0][1]


BEFORE = """
class Drawer(LabUser):
    def before_burst(self, k):
        self.get("/", name="before", level=self.rng.randrange(10**6))

    @task
    def draw(self):
        for _ in range(self.params["draws"]):
            self.rng.random()
        self.get("/", name="draw")
"""


def test_what_is_drawn_before_a_burst_does_not_depend_on_the_burst_before(tmp_path: Path) -> None:
    drawn = []
    for draws in (0, 3):
        (tmp_path / f"{draws}").mkdir()
        with little_server(at_once) as server:
            condition = Condition("c", Burst(2, repeats=3, every_s=0.05), params={"draws": draws})
            load = drive(tmp_path / f"{draws}", BEFORE, server.url, condition)
        before = load.column("name_id") == load.measured.request_names.index("before")
        drawn.append(load.column("level")[before].tolist())
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 3


def test_in_a_closed_load_each_user_has_numbers_of_its_own(tmp_path: Path) -> None:
    """However the answers come: the requests of a user are the same, one after the other."""
    sequences = []
    for arm in range(2):
        (tmp_path / f"{arm}").mkdir()
        with little_server(out_of_order(arm)) as server:
            drive(tmp_path / f"{arm}", DRAWER, server.url, Condition("c", ClosedLoad(5, requests=100)))
            by_user: dict[str, list[str]] = {}
            for one in server.load:
                drawn, _, user = one.path.partition("&")
                by_user.setdefault(user, []).append(drawn)
        sequences.append(by_user)
    assert sequences[0].keys() == sequences[1].keys() and len(sequences[0]) == 5
    for user, first in sequences[0].items():
        common = min(len(first), len(sequences[1][user]))
        assert common > 5 and first[:common] == sequences[1][user][:common]
    assert len({tuple(sequence[:3]) for sequence in sequences[0].values()}) == 5


# ---- planned instants


UNEVEN = """
class Two(LabUser):
    @task
    def read(self):
        self.get("/", name="first", level=self.arrival)
        self.get("/", name="second", level=self.arrival)


class Some(LabUser):
    @task
    def read(self):
        if self.arrival % 2 == 0:
            self.get("/", name="even", level=self.arrival)
"""


def test_only_the_first_request_of_a_task_was_planned(tmp_path: Path) -> None:
    shape = OpenLoad(100.0, connections=4)
    offsets = list(trace_of(shape, 0.5, SEED).offsets_ns)
    with little_server(at_once) as server:
        load = drive(tmp_path, UNEVEN, server.url, Condition("c", shape, duration_s=0.5, user="Two"))
    first = load.column("name_id") == load.measured.request_names.index("first")
    planned = load.column("planned_ns")
    assert sorted(planned[first] - load.measured.started_ns) == offsets
    assert (planned[~first] == load.column("dispatched_ns")[~first]).all()
    assert (planned[~first] <= load.column("sent_ns")[~first]).all()
    assert load.seen.planned == 2 * len(offsets)
    load.assert_counted()


def test_a_planned_instant_does_not_stay_for_the_next_request(tmp_path: Path) -> None:
    shape = OpenLoad(100.0, connections=1)
    offsets = list(trace_of(shape, 0.5, SEED).offsets_ns)
    with little_server(at_once) as server:
        load = drive(tmp_path, UNEVEN, server.url, Condition("c", shape, duration_s=0.5, user="Some"))
    found = sorted(
        zip(load.column("level").tolist(), (load.column("planned_ns") - load.measured.started_ns).tolist(), strict=True)
    )
    assert found == [(k, offset) for k, offset in enumerate(offsets) if k % 2 == 0]
    assert load.measured.observed == {"tasks_without_request": len(offsets) // 2}
    load.assert_counted()


# ---- users who join

JOINING = """
class Joining(LabUser):
    greeted = 0

    def on_start(self):
        self.get("/hello", name="hello", level=self.number)
        self.greeted += 1

    @task
    def read(self):
        assert self.greeted == 1
        self.get("/", name="read", level=self.number)


class Refusing(LabUser):
    def on_start(self):
        if self.number > 2:
            raise KeyError("no more")

    @task
    def read(self):
        self.get("/")
"""


def test_who_joins_later_is_a_user_like_the_others(tmp_path: Path) -> None:
    async def answering(asked: Asked) -> Answer | None:
        return Answer() if asked.path == "/hello" else None

    with little_server(answering) as server:
        condition = Condition(
            "c", OpenLoad(100.0, "uniform", connections=4), duration_s=0.3, drain_s=1.0, user="Joining"
        )
        load = drive(tmp_path, JOINING, server.url, condition, processes=2)
    hello = load.column("name_id") == load.measured.request_names.index("hello")
    numbers = load.column("level")[hello].tolist()
    assert len(set(numbers)) == len(numbers) >= 30, "each number once, in both processes together"
    assert set(load.column("level")[~hello].tolist()) <= set(numbers)
    load.assert_counted()


def test_an_on_start_that_raises_later_fails_the_load(tmp_path: Path) -> None:
    with little_server(never) as server:
        condition = Condition("c", OpenLoad(100.0, connections=2), duration_s=30.0, drain_s=0.1, user="Refusing")
        load = drive(tmp_path, JOINING, server.url, condition, fails=True)
    assert load.measured.error.startswith("KeyError: 'no more' (users.py line ")
