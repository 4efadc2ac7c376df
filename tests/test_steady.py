"""Warming up: when a load is steady, and what is done where it is not."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from lab.generator.recorder import COLUMNS, DONE_COLUMN, NAME_COLUMN, OUTCOME_COLUMN, SENT_COLUMN
from lab.generator.schedule import arrival_seed, seed_for, trace_of
from lab.generator.steady import Word, fitted, look, medians_of, word_of
from lab.model import Burst, ClosedLoad, Condition, Event, Journey, OpenLoad, Stage, StagedLoad
from lab.words.lengths import longest_s, planned_s
from tests.generator import SEED, Load, drive
from tests.little_server import Answer, Answering, Asked, at_once, little_server

FLAT = [10.0, 10.4, 9.8, 10.1, 9.9, 10.2, 10.0, 9.7]


@pytest.mark.parametrize(("medians", "word"), [
    (FLAT, "steady"),
    ([10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0], "drifting"),
    ([17.0, 16.0, 15.0, 14.0, 13.0, 12.0, 11.0, 10.0], "drifting"),
    ([10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.7], "steady"),  # a trend, but of 7 %
    ([10.0, 10.2, 10.4, 10.6, 10.8, 11.0, 11.2, 11.4], "drifting"),  # of 14 %
    ([10.0, 20.0, 9.0, 22.0, 11.0, 21.0, 12.0, 23.0], "steady"),  # more scatter than trend
    ([30.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0], "steady"),  # one slow window makes no line
    ([5.0] * 4, "steady"),
    ([5.0, 6.0, 7.0, 8.0], "drifting"),
    ([5.0, 6.0, 7.0], "unknown"),
    ([], "unknown"),
])  # fmt: skip
def test_the_medians_decide(medians: list[float], word: Word) -> None:
    assert word_of(medians) == word


@pytest.mark.parametrize(("backlog", "arrivals", "word"), [
    ([1.0, 2.0, 1.0, 0.0, 2.0, 1.0, 3.0, 2.0], 100, "steady"),
    ([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0], 100, "overload"),  # 80 > 3 sqrt(100)
    ([3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 29.0], 100, "steady"),  # growing, but by chance
    ([80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0], 100, "drifting"),  # still being worked off
    ([30.0, 28.0, 26.0, 24.0, 22.0, 20.0, 18.0, 16.0], 100, "steady"),
    ([50.0] * 8, 100, "steady"),  # many in flight, but as many all the time
])  # fmt: skip
def test_the_backlog_decides_first(backlog: list[float], arrivals: int, word: Word) -> None:
    assert word_of(FLAT, backlog, arrivals) == word


def test_an_overload_is_seen_before_the_times_that_grow_with_it() -> None:
    growing = [float(n) for n in range(10, 90, 10)]
    assert word_of(growing, growing, 100) == "overload" and word_of(growing) == "drifting"


def test_the_line_of_least_squares() -> None:
    assert fitted([1.0, 2.0, 3.0, 4.0]) == pytest.approx((3.0, 0.0), abs=1e-12)
    slope, error = np.polyfit(range(6), values := [3.0, 1.0, 4.0, 1.0, 5.0, 9.0], 1, cov=True)
    assert fitted(values) == pytest.approx((5 * slope[0], 5 * error[0, 0] ** 0.5))


def test_chance_alone_looks_like_a_drift_in_one_of_twenty_at_most() -> None:
    draw = np.random.default_rng(3)
    words = [word_of(draw.lognormal(0.0, 0.3, 8).tolist()) for _ in range(4000)]
    assert 0.03 < words.count("drifting") / 4000 < 0.06


def rows_of(times: list[tuple[int, int, int, int]]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    """Rows of (sent, done, name, outcome)."""
    rows = np.zeros((len(times), COLUMNS), dtype=np.int64)
    for column, values in zip(
        (SENT_COLUMN, DONE_COLUMN, NAME_COLUMN, OUTCOME_COLUMN), zip(*times, strict=True), strict=True
    ):
        rows[:, column] = values
    return rows


def test_a_mixture_of_short_and_long_requests_is_no_drift() -> None:
    """The long ones come last; beside others of their name they are as long as ever."""
    rows = rows_of([(at * 100, at * 100 + (10 if at < 20 else 90), at >= 20, 0) for at in range(40)])
    assert medians_of(rows, 0) == [1.0] * 8


def test_only_answers_of_the_second_half_count() -> None:
    rows = rows_of([(0, 400, 0, 0), (400, 501, 0, 0), (500, 602, 0, 1), (600, 900, 0, 2), (600, 950, 0, 5)])
    assert [round(value, 2) for value in medians_of(rows, 500)] == [1.0, 1.0]
    rows = rows_of([(10 * at, 10 * at + (9 if at < 50 else 5), 0, 0) for at in range(100)])
    assert look(rows, np.empty(0, np.int64), 0, 1000) == "steady"
    assert look(rows, np.empty(0, np.int64), 0, 750) == "drifting"


def test_the_backlog_is_what_has_come_less_what_is_done() -> None:
    planned = np.arange(0, 1000, 10, dtype=np.int64)
    slow = rows_of([(10 * at, 40 * at + 5, 0, 0) for at in range(25)])
    assert look(slow, planned, 0, 1000) == "overload"
    assert look(rows_of([(10 * at, 10 * at + 5, 0, 0) for at in range(100)]), planned, 0, 1000) == "steady"


def test_no_answer_at_all_says_nothing() -> None:
    nothing = np.empty((0, COLUMNS), dtype=np.int64)
    assert look(nothing, np.empty(0, np.int64), 0, 1000) == "unknown"
    assert look(nothing, np.array([10, 20], dtype=np.int64), 0, 1000) == "unknown"


# ---- real loads; what the looks find is given, but for the last tests

READER = """
class Reader(LabUser):
    @task
    def read(self):
        drawn = self.rng.randrange(10**9)
        self.count("reads")
        self.get("/", name="read", level=drawn)
"""


def finding(*words: Word) -> str:
    """The user class, and what the looks at the warm-up find; the first look is the rehearsal."""
    return f"import lab.generator.warmup\n\nfound = ['unknown', *{words}]\nlab.generator.warmup.look = lambda *_: found.pop(0)\n{READER}"


def one_at_a_time() -> Answering:
    """A queue with one server that takes 50 ms."""
    lock = asyncio.Lock()

    async def answering(_: Asked) -> Answer:
        async with lock:
            await asyncio.sleep(0.05)
        return Answer()

    return answering


def measured(load: Load) -> list[tuple[int, int]]:
    """The arrivals of the measured part: offset from its begin and what was drawn."""
    assert load.seen.warmup_s is not None
    begin = load.measured.started_ns + round(load.seen.warmup_s * 1e9)
    after = load.column("planned_ns") >= begin
    return sorted(
        zip((load.column("planned_ns")[after] - begin).tolist(), load.column("level")[after].tolist(), strict=True)
    )


@pytest.mark.parametrize(("words", "steady", "extensions"), [
    (("steady",), True, 0),
    (("drifting", "steady"), True, 1),
    (("unknown", "drifting", "steady"), True, 2),
    (("drifting",) * 4, False, 3),
    (("drifting", "drifting", "drifting", "unknown"), None, 3),
    (("drifting", "overload"), None, 1),
])  # fmt: skip
def test_an_open_load_warms_up_until_it_is_steady_and_measures_the_same(
    tmp_path: Path, words: tuple[Word, ...], steady: bool | None, extensions: int
) -> None:
    """However long the warm-up takes, the measured part replays the trace and the draws."""
    shape = OpenLoad(200.0, connections=4)
    with little_server(at_once) as server:
        load = drive(tmp_path, finding(*words), server.url, Condition("c", shape, duration_s=0.3, warmup_s=0.2))
    assert (load.seen.steady, load.seen.warmup_extensions) == (steady, extensions)
    assert load.seen.warmup_s == pytest.approx(0.2 * (1 + extensions), abs=1e-9)
    found = measured(load)
    assert [offset for offset, _ in found] == list(trace_of(shape, 0.3, SEED).offsets_ns)
    assert [drawn for _, drawn in found] == [
        random.Random(arrival_seed(SEED, arrival)).randrange(10**9) for arrival in range(len(found))
    ]
    assert 20 * (1 + extensions) < len(load.rows) - len(found), "and it did warm up"
    assert load.measured.ended_ns >= load.measured.started_ns + round((0.2 * (1 + extensions) + 0.3) * 1e9)
    load.assert_counted()


def test_the_arrivals_of_the_warm_up_are_others(tmp_path: Path) -> None:
    shape = OpenLoad(200.0, connections=4)
    with little_server(at_once) as server:
        load = drive(tmp_path, finding("steady"), server.url, Condition("c", shape, duration_s=0.3, warmup_s=0.3))
    offsets = load.column("planned_ns") - load.measured.started_ns
    warm = offsets < 300_000_000
    assert warm.sum() > 20
    assert not set(offsets[warm].tolist()) & set(trace_of(shape, 0.3, SEED).offsets_ns)
    assert len(set(load.column("level").tolist())) > 0.95 * len(load.rows)


def test_what_the_user_class_counts_while_it_warms_up_counts_no_more(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        condition = Condition("c", OpenLoad(200.0, "uniform", connections=4), duration_s=0.2, warmup_s=0.2)
        load = drive(tmp_path, finding("steady"), server.url, condition)
    assert len(load.rows) == 80 and 40 <= load.measured.observed["reads"] < 60


def test_a_closed_load_begins_its_draws_afresh(tmp_path: Path) -> None:
    """Users who have drawn any number of times while they warmed up ask for the same in the measured part."""
    condition = Condition("c", ClosedLoad(3), duration_s=1.0, warmup_s=0.2)  # a machine may hold a user up for a while
    with little_server(at_once) as server:
        load = drive(tmp_path, finding("drifting", "steady"), server.url, condition)
    levels = load.column("level")[np.argsort(load.column("planned_ns"), kind="stable")].tolist()
    for user in range(3):
        draw = random.Random(seed_for(SEED, user))
        first = [draw.randrange(10**9) for _ in range(5)]
        at = [index for index, level in enumerate(levels) if level == first[0]]
        assert len(at) == 2, "once when the load began and once when the measured part did"
        rest = [level for level in levels[at[1] :] if level in first]
        assert rest == first
    assert load.seen.warmup_s == pytest.approx(0.4)
    load.assert_counted()


def test_an_overload_is_not_waited_for(tmp_path: Path) -> None:
    condition = Condition("c", OpenLoad(100.0, connections=4), duration_s=0.3, warmup_s=0.5, drain_s=0.1)
    with little_server(one_at_a_time()) as server:
        load = drive(tmp_path, READER, server.url, condition)
    assert (load.seen.steady, load.seen.warmup_extensions, load.seen.warmup_s) == (None, 0, 0.5)
    load.assert_counted()


@pytest.mark.parametrize(("load", "events", "processes"), [
    (OpenLoad(200.0, connections=4), (), 2), (ClosedLoad(8), (), 2), (ClosedLoad(8), (Event(0.1, "sql"),), 1),
], ids=["open, shared", "closed, shared", "with events"])  # fmt: skip
def test_what_must_keep_its_times_is_only_looked_at(
    tmp_path: Path, load: OpenLoad | ClosedLoad, events: tuple[Event, ...], processes: int
) -> None:
    condition = Condition("c", load, duration_s=0.3, warmup_s=0.4, events=events)
    with little_server(at_once) as server:
        done = drive(tmp_path, finding("drifting"), server.url, condition, processes=processes)
    assert (done.seen.steady, done.seen.warmup_extensions, done.seen.warmup_s) == (False, 0, 0.4)
    done.assert_counted()


def test_few_answers_say_nothing(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        condition = Condition("c", OpenLoad(2.0, "uniform", connections=1), duration_s=0.2, warmup_s=0.2)
        load = drive(tmp_path, READER, server.url, condition)
    assert (load.seen.steady, load.seen.warmup_extensions) == (None, 3)


def test_a_staged_load_warms_up_at_the_rate_of_its_first_stage(tmp_path: Path) -> None:
    shape = StagedLoad((Stage(100.0, 0.2), Stage(20.0, 0.2)), arrivals="uniform", connections=4)
    with little_server(at_once) as server:
        load = drive(tmp_path, finding("drifting", "steady"), server.url, Condition("c", shape, warmup_s=0.2))
    assert load.seen.warmup_s == pytest.approx(0.4)
    assert len(load.rows) == 40 + 20 + 4
    assert len(measured(load)) == 24


def test_without_a_warm_up_nothing_is_said(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, READER, server.url, Condition("c", ClosedLoad(2, requests=4), warmup_s=5.0))
    assert (load.seen.warmup_s, load.seen.warmup_extensions, load.seen.steady) == (0.0, 0, None)


@pytest.mark.parametrize(("condition", "planned", "longest"), [
    (Condition("c", OpenLoad(1.0), duration_s=3.0, warmup_s=1.0), 4.0, 17.0),
    (Condition("c", OpenLoad(1.0, spread=True), duration_s=3.0), 3.0, 23.0),
    (Condition("c", ClosedLoad(1), duration_s=3.0, warmup_s=1.0, events=(Event(1.0, "kill"),)), 4.0, 14.0),
    (Condition("c", ClosedLoad(1), duration_s=3.0, warmup_s=1.0, duet=True), 4.0, 14.0),
    (Condition("c", ClosedLoad(1, requests=5), duration_s=3.0, warmup_s=1.0), 3.0, 70.0),
    (Condition("c", StagedLoad((Stage(1.0, 2.0), Stage(1.0, 3.0)))), 5.0, 15.0),
    (Condition("c", Burst(5, repeats=3, every_s=2.0)), 6.0, 46.0),
    (Condition("c", Journey(), drain_s=20.0), 2.0, 80.0),
])  # fmt: skip
def test_how_long_a_load_takes(condition: Condition, planned: float, longest: float) -> None:
    assert (planned_s(condition), longest_s(condition)) == (planned, longest)
