"""Connections are dealt evenly over the workers, whatever the kernel does; and where that cannot be had, it is said."""

import random
from collections import Counter
from pathlib import Path

import pytest

from lab.generator.engine import OWN_PATH
from lab.generator.evenness import is_even, surplus
from lab.model import Burst, ClosedLoad, Condition, Journey, OpenLoad, Server
from lab.model import Load as LoadShape
from tests.generator import drive
from tests.little_server import Answer, Answering, Asked, little_server

WORKERS = (101, 102, 103, 104)
USERS = """
class Reader(LabUser):
    @task
    def read(self):
        self.get("/", name="read", level=self.arrival)

    def journey(self):
        self.read()
"""


@pytest.mark.parametrize(("workers", "wanted", "even"), [
    ({1: 3, 2: 3}, 2, True),
    ({1: 3, 2: 4}, 2, True),
    ({1: 2, 2: 4}, 2, False),
    ({1: 4}, 2, False),
    ({1: 1}, 2, True),
    ({1: 1, 2: 1, 3: 1}, 4, True),
    ({1: 2, 2: 2, 0: 2}, 2, False),
    ({1: 2, 2: 2, 3: 2}, 2, False),
    ({}, 2, True),
])  # fmt: skip
def test_even_is_as_many_each_up_to_one(workers: dict[int, int], wanted: int, even: bool) -> None:
    assert is_even(workers, wanted) is even


@pytest.mark.parametrize(("pids", "wanted", "moving"), [
    ([1, 1, 2, 2], 2, []),
    ([1, 1, 1, 2, 2], 2, []),
    ([1, 1, 1, 1], 2, [2, 3]),
    ([1, 1, 1, 2], 2, [2]),
    ([1, 1, 1, 1, 1], 2, [3, 4]),
    ([1, 2, 3], 4, []),
    ([1, 1, 2, 2, 3], 4, [3]),
    ([0, 1, 0], 2, [0, 2]),
    ([1, 1, 1, 1, 1, 1, 2, 2], 3, [3, 4, 5]),
])  # fmt: skip
def test_the_surplus_is_what_must_move_and_no_more(pids: list[int], wanted: int, moving: list[int]) -> None:
    assert surplus(pids, wanted) == moving


def test_processes_give_the_odd_ones_to_different_workers() -> None:
    """Five connections each over four workers: the first process has one more on the first, the second one more on the second."""
    assert surplus([1, 2, 3, 4, 1], 4, first=0) == []
    assert surplus([1, 2, 3, 4, 1], 4, first=1) == [4]
    assert surplus([1, 2, 3, 4, 2], 4, first=1) == []
    assert surplus([1, 2, 3, 1, 1], 4, first=2) == [4], "as long as one is unknown nobody can say which are first"


@pytest.mark.parametrize("connections", range(1, 14))
@pytest.mark.parametrize("wanted", [1, 2, 3, 4])
def test_moving_the_surplus_ends_even(connections: int, wanted: int) -> None:
    """Each connection that moves meets any worker; once nothing is left to move, the spread is even."""
    draw = random.Random(connections * 10 + wanted)
    pids = [draw.randint(1, wanted) for _ in range(connections)]
    for _ in range(10_000):
        moving = surplus(pids, wanted)
        if not moving:
            break
        for index in moving:
            pids[index] = draw.randint(1, wanted)
    assert not surplus(pids, wanted) and is_even(Counter(pids), wanted)


# ---- real loads; the little server plays a kernel that prefers one worker


def kernel(weights: tuple[int, ...], close_after: int = 0) -> tuple[Answering, dict[int, int]]:
    """Answers as the worker that was dealt the connection; after ``close_after`` requests of the load every connection is closed."""
    draw = random.Random(5)
    worker: dict[int, int] = {}
    served = 0

    async def answering(asked: Asked) -> Answer:
        nonlocal served
        if asked.connection not in worker:
            worker[asked.connection] = draw.choices(WORKERS[: len(weights)], weights)[0]
        served += not asked.own
        closing = bool(close_after) and not asked.own and (served - 1) // close_after % 2 == 0
        return Answer(pid=worker[asked.connection], close=closing)

    return answering, worker


def condition(shape: LoadShape, workers: int = 4) -> Condition:
    return Condition("c", shape, duration_s=0.8, server=Server(workers=workers))


@pytest.mark.parametrize("shape", [
    ClosedLoad(16, requests=160, spread=True), Journey(16, spread=True), Burst(16, repeats=2, every_s=0.05, spread=True),
    OpenLoad(20.0, "uniform", connections=16, spread=True),
], ids=lambda shape: shape.shape)  # fmt: skip
def test_each_worker_has_its_share(tmp_path: Path, shape: LoadShape) -> None:
    answering, worker = kernel((80, 10, 8, 2))
    with little_server(answering) as server:
        load = drive(tmp_path, USERS, server.url, condition(shape))
        own = [one for one in server.asked if one.own]
        met = Counter(worker[one.connection] for one in server.load)
    assert load.seen.spread == {str(pid): 4 for pid in WORKERS} and load.seen.spread_even is True
    assert {(one.method, one.path) for one in own} == {("GET", OWN_PATH)} and len(own) > 16
    assert set(met) == set(WORKERS)
    assert max(met.values()) < 2 * min(met.values()), "the load itself meets all of them, as often"
    assert load.measured.request_names == ("read",) and (load.column("status") == 200).all()
    load.assert_counted()


def test_connections_that_were_closed_between_bursts_are_dealt_anew(tmp_path: Path) -> None:
    answering, worker = kernel((70, 10, 10, 10), close_after=8)
    with little_server(answering) as server:
        load = drive(tmp_path, USERS, server.url, condition(Burst(8, repeats=3, every_s=0.05, spread=True)))
        bursts = [server.load[at : at + 8] for at in (0, 8, 16)]
    assert not {one.connection for one in bursts[0]} & {one.connection for one in bursts[1]}, "closed after the first"
    assert {one.connection for one in bursts[1]} == {one.connection for one in bursts[2]}, "kept after the second"
    for burst in bursts:
        assert Counter(worker[one.connection] for one in burst) == dict.fromkeys(WORKERS, 2)
    assert load.seen.spread_even is True
    load.assert_counted()


def test_processes_share_the_workers_evenly_together(tmp_path: Path) -> None:
    answering, _ = kernel((85, 5, 5, 5))  # by themselves both would give their odd one to the first worker
    with little_server(answering) as server:
        shape = ClosedLoad(10, requests=50, spread=True)
        load = drive(tmp_path, USERS, server.url, condition(shape), processes=2)
    assert sorted(load.seen.spread.values()) == [2, 2, 3, 3] and load.seen.spread_even is True


def test_a_worker_that_gets_no_connection_is_reported_and_the_load_goes_on(tmp_path: Path) -> None:
    answering, _ = kernel((1, 1, 1))
    with little_server(answering) as server:
        load = drive(tmp_path, FEW + USERS, server.url, condition(ClosedLoad(8, requests=16, spread=True)))
    assert load.seen.spread_even is False and set(load.seen.spread) <= {"101", "102", "103"}
    assert len(load.rows) == 16
    load.assert_counted()


FEW = "import lab.generator.spread\n\nlab.generator.spread.MOST_ROUNDS = 5\n"


async def nameless(asked: Asked) -> Answer:
    return Answer(pid=0)


async def closing(asked: Asked) -> Answer:
    return Answer(pid=101 + asked.connection % 4, close=True)


@pytest.mark.parametrize("answering", [nameless, closing])
def test_without_a_lasting_connection_to_a_named_worker_nothing_is_even(tmp_path: Path, answering: Answering) -> None:
    with little_server(answering) as server:
        load = drive(tmp_path, FEW + USERS, server.url, condition(ClosedLoad(4, requests=8, spread=True)))
        assert len(server.load) == 8
    assert load.seen.spread_even is False and load.seen.spread == {"0": 4}


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    async def deaf_to_us(asked: Asked) -> Answer | None:
        return None if asked.own else Answer()

    impatient = "import lab.generator.spread\n\nlab.generator.spread.LIMIT_S = 0.2\n"
    with little_server(deaf_to_us) as server:
        load = drive(tmp_path, impatient + USERS, server.url, condition(ClosedLoad(4, requests=8, spread=True)))
    assert load.seen.spread_even is False and load.outcomes() == {"ok": 8}
    load.assert_counted()


def test_a_load_that_does_not_ask_is_not_dealt(tmp_path: Path) -> None:
    answering, _ = kernel((1, 1))
    with little_server(answering) as server:
        load = drive(tmp_path, USERS, server.url, condition(ClosedLoad(4, requests=8)))
        assert len(server.asked) == 8
    assert (load.seen.spread, load.seen.spread_even) == ({}, None)


def test_spread_and_reconnect_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="take one"):
        ClosedLoad(4, reconnect=True, spread=True)
