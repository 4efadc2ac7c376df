"""Compare (configurations inside one run), on runs of the fake executor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import statistics
from analysis.compare import Comparison, _seen, compare_gotcha, is_known, word_of
from analysis.compared import document, sentence, table
from analysis.facts import TrialFacts
from analysis.false_alarms import false_alarms
from analysis.metrics import Refusal
from lab.catalog.describe import under_servers
from lab.model import (
    OUTCOMES,
    SAMPLE_COLUMNS,
    Claim,
    ClosedLoad,
    Condition,
    GotchaPlan,
    MetricExpression,
    OpenLoad,
    RunPlan,
    Server,
    TrialPlan,
)
from lab.run.grid import as_grid, harm_of, packages_name, parse_packages
from lab.run.plan import make_plan
from lab.run.runner import run_trials
from lab.store import RunFolder, TrialFolder, new_run, write_samples
from lab.words.errors import LoadError, NotHereError, UsageError
from lab.words.metrics import correct, naive
from lab.words.record import TrialRecord
from tests.fakes import START_NS, FakeExecutor, gotcha_plan

BASE = Condition("10 users", ClosedLoad(10), duration_s=1.0, params={"users": 10})
HARM = Claim(
    "slow",
    "harm",
    "naive serves fewer",
    naive.throughput_rps,
    lambda c: 100.0 * c.workers,
    formula="100 W",
    source="made up",
)
EQUAL = Claim(
    "fast", "fix", "correct serves more", correct.throughput_rps, lambda c: 400.0, formula="400", source="made up"
)
SERVERS = tuple(Server(workers=count) for count in (1, 2, 4))


class ByWorkers(FakeExecutor):
    """Naive serves a rate per number of workers, correct always the same; a kind of server that is not here fails."""

    def __init__(self, naive_rps: dict[int, float], missing: str = "granian") -> None:
        super().__init__({"naive": 1.0, "correct": 400.0}, {"naive": 0.01, "correct": 0.01})
        self.naive_rps, self.missing = naive_rps, missing

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        if condition.server.kind == self.missing:
            raise LoadError(f"{self.missing} is not installed", "Install it.")
        self.rate_rps = {**self.rate_rps, "naive": self.naive_rps[condition.workers]}
        return super().perform(trial, gotcha, condition, folder, lambda now: None)


def grid_plan(servers: Sequence[Server] = SERVERS) -> GotchaPlan:
    base = gotcha_plan(HARM, EQUAL, conditions=(BASE,))
    cells = tuple(under_servers(BASE, servers))
    return as_grid(base, replace(gotcha_plan(HARM, EQUAL, conditions=cells)))


def performed(tmp_path: Path, gotcha: GotchaPlan, executor: FakeExecutor, pairs: int | None = None) -> RunFolder:
    run = new_run(tmp_path, "r")
    plan: RunPlan = make_plan(run.name, "now", (gotcha,), "quick", 1, pairs)
    run.write_plan(plan)
    run_trials(plan, run, executor, lambda progress: None)
    return run


def compared(tmp_path: Path, gotcha: GotchaPlan, executor: FakeExecutor, pairs: int | None = None) -> Comparison:
    run = performed(tmp_path, gotcha, executor, pairs=pairs)
    return compare_gotcha(run, run.plan.gotchas[0])


@pytest.mark.parametrize(
    ("naive", "word"),
    [
        ({1: 100.0, 2: 200.0, 4: 398.0}, "scales away"),
        ({1: 40.0, 2: 80.0, 4: 160.0}, "postpones"),
        ({1: 100.0, 2: 100.0, 4: 100.0}, "unaffected"),
        ({1: 200.0, 2: 100.0, 4: 50.0}, "made worse"),
    ],
)
def test_one_word_for_what_workers_do(tmp_path: Path, naive: dict[int, float], word: str) -> None:
    found = compared(tmp_path, grid_plan(), ByWorkers(naive))
    (answer,) = found.answers
    assert answer.said == word and answer.about == "workers" and is_known(found)
    assert answer.ratio is not None and answer.ratio.value == pytest.approx((naive[1] / naive[4]), rel=0.02)
    text = table([found])
    assert word in text and max(map(len, text.splitlines())) <= 100


# ---------------------------------------------------------------- when there is no word


def test_a_wide_interval_gets_no_word() -> None:
    assert word_of(statistics.of_ratios([0.5, 2.0, 1.0]), statistics.of_ratios([3.0, 3.0, 3.0]), 0.1) == "unclear"


def test_one_pair_gets_no_word_and_says_why(tmp_path: Path) -> None:
    alone = statistics.of_ratios([4.0])
    assert word_of(alone, alone, 0.1) == "not told"
    found = compared(tmp_path, grid_plan(), ByWorkers({1: 40.0, 2: 80.0, 4: 160.0}), pairs=1)
    (answer,) = found.answers
    assert answer.word == "not told" and "one pair has no interval" in sentence(found, answer) and not is_known(found)


class Disturbed(ByWorkers):
    """A machine on which somebody else computes while four workers are measured, in these pairs."""

    def __init__(self, pairs: Sequence[int]) -> None:
        super().__init__({1: 100.0, 2: 200.0, 4: 398.0})
        self.pairs = pairs

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        record = super().perform(trial, gotcha, condition, folder, live)
        noisy = condition.workers == 4 and trial.pair in self.pairs
        return replace(record, noise={"steal_share": 0.0, "foreign_cpu_share": 2.0 if noisy else 0.0})


def test_a_failed_gate_leaves_no_word_and_no_figure(tmp_path: Path) -> None:
    found = compared(tmp_path, grid_plan(), Disturbed((0, 1, 2)))
    (answer,) = found.answers
    assert answer.word == "not told" and "gate G9 failed" in answer.reason
    four = next(cell for cell in found.cells if cell.workers == 4)
    assert four.harm is None and four.naive is None and "398" not in table([found])


def test_a_pair_that_a_gate_spoiled_is_left_out_where_enough_are_left(tmp_path: Path) -> None:
    found = compared(tmp_path, grid_plan(), Disturbed((0,)))
    (answer,) = found.answers
    assert answer.said == "scales away" and answer.ratio is not None and len(answer.ratio.values) == 2


class Failing(ByWorkers):
    """One trial in the grid does not come about."""

    def __init__(self) -> None:
        super().__init__({1: 100.0, 2: 200.0, 4: 398.0})

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        if (condition.workers, trial.pair, trial.variant) == (4, 2, "naive"):
            raise LoadError("the load broke", "")
        return super().perform(trial, gotcha, condition, folder, live)


def test_a_trial_that_failed_leaves_no_word(tmp_path: Path) -> None:
    (answer,) = compared(tmp_path, grid_plan(), Failing()).answers
    assert answer.word == "not told" and "the load broke" in answer.reason


class Uneven(ByWorkers):
    """The connections of the load could not be spread over four workers."""

    def __init__(self) -> None:
        super().__init__({1: 100.0, 2: 200.0, 4: 398.0})

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        record = super().perform(trial, gotcha, condition, folder, live)
        assert record.generator is not None
        return replace(record, generator=replace(record.generator, spread_even=condition.workers < 4))


def test_connections_that_met_the_workers_unevenly_leave_no_word(tmp_path: Path) -> None:
    (answer,) = compared(tmp_path, grid_plan(), Uneven()).answers
    assert answer.word == "not told" and "gate G12 failed" in answer.reason


class Behind(FakeExecutor):
    """1,000 requests a second are planned, 100 a second are answered: the backlog grows for as long as the load lasts."""

    def __init__(self) -> None:
        super().__init__({"naive": 1000.0, "correct": 1000.0}, {"naive": 0.01, "correct": 0.01})

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        record = super().perform(trial, gotcha, condition, folder, lambda now: None)
        count = int(1000 * condition.duration_s)
        planned = START_NS + np.arange(count) * 1_000_000
        done = START_NS + np.arange(1, count + 1) * 10_000_000
        done[done > record.load_ended_ns] = 0
        matrix = np.zeros((count, len(SAMPLE_COLUMNS)), dtype=np.int64)
        for index, values in enumerate((planned, planned, planned, done, done)):
            matrix[:, index] = values
        matrix[:, SAMPLE_COLUMNS.index("outcome")] = np.where(done > 0, 0, OUTCOMES.index("censored"))
        write_samples(folder.path / "samples.parquet", matrix)
        return replace(record, generator=None)


def test_an_overload_leaves_no_word_where_a_time_is_the_harm(tmp_path: Path) -> None:
    slow = replace(HARM, metric=naive.latency_p50_s)
    offered = replace(BASE, load=OpenLoad(1000.0), duration_s=4.0)
    spread = gotcha_plan(slow, conditions=tuple(under_servers(offered, SERVERS)))
    (answer,) = compared(tmp_path, as_grid(gotcha_plan(slow, conditions=(offered,)), spread), Behind()).answers
    assert answer.word == "not told" and "overloaded" in answer.reason


def test_false_alarms_of_a_server_against_itself_are_five_in_a_hundred() -> None:
    found = false_alarms(seed=1)
    low, high = found.interval
    assert low <= 0.05 <= high
    assert false_alarms(seed=1, band=0.1).share < found.share


# ---------------------------------------------------------------- the grid


def test_a_configuration_that_cannot_run_says_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    servers = (*SERVERS, Server(kind="granian", workers=1), Server(kind="granian", workers=4))
    found = compared(tmp_path, grid_plan(servers), ByWorkers({1: 100.0, 2: 100.0, 4: 100.0}))
    words = {answer.server: answer.said for answer in found.answers}
    assert words == {"uvicorn": "unaffected", "granian": "not told"} and not is_known(found)
    assert "granian is not installed" in table([found])


def test_the_cells_of_a_grid_share_their_arrivals_and_spread_their_connections(tmp_path: Path) -> None:
    plan = make_plan("r", "now", (grid_plan(),), "quick", 5)
    seeds = {(trial.condition, trial.pair): trial.seed for trial in plan.trials}
    for pair in range(3):
        assert len({seed for (_, one), seed in seeds.items() if one == pair}) == 1
    for cell in plan.gotchas[0].conditions:
        assert cell.load.spread and isinstance(cell.load, ClosedLoad) and not cell.load.reconnect, (
            "kept alive as users have it"
        )
    order = [trial.condition for trial in plan.trials]
    assert len(set(order[: len(order) // 3])) == 3, "interleaved: every configuration is in the first third"


def test_the_cells_of_a_pair_take_random_turns_that_the_next_pair_reverses() -> None:
    def turns(seed: int, pair: int) -> list[str]:
        plan = make_plan("r", "now", (grid_plan(),), "quick", seed, 4)
        return list(dict.fromkeys(t.condition for t in plan.trials if t.pair == pair))

    for pair in (0, 2):
        assert turns(1, pair + 1) == turns(1, pair)[::-1]
    assert len({tuple(turns(seed, 0)) for seed in range(8)}) > 2, "not always the same one first"


def test_a_gotcha_without_a_harm_of_both_arms_is_refused() -> None:
    alone = gotcha_plan(HARM, conditions=(replace(BASE, variants=("naive",)),))
    with pytest.raises(UsageError, match="no harm"):
        harm_of(alone)


def test_a_condition_whose_label_begins_like_the_headline_is_not_in_the_grid() -> None:
    other = replace(BASE, label="10 users twice")
    base = gotcha_plan(
        replace(HARM, predict=lambda c: 1.0 if c.label == BASE.label else None), conditions=(BASE, other)
    )
    cells = tuple(cell for one in (BASE, other) for cell in under_servers(one, SERVERS))
    grid = as_grid(base, replace(base, conditions=cells))
    assert [cell.label for cell in grid.conditions] == [f"10 users on uvicorn x{count}" for count in (1, 2, 4)]


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("fastapi==0.117.1,fastapi==0.118.0", [{"fastapi": "0.117.1"}, {"fastapi": "0.118.0"}]),
        ("fastapi==0.117.1+starlette==0.48.0", [{"fastapi": "0.117.1", "starlette": "0.48.0"}]),
        ("FastAPI==0.117.1; starlette==0.48.0", [{"fastapi": "0.117.1", "starlette": "0.48.0"}]),
        ("torch==2.0+cpu+Typing_Extensions==4.0", [{"torch": "2.0+cpu", "typing-extensions": "4.0"}]),
        ("", []),
    ],
)
def test_sets_of_versions_are_read(text: str, sets: list[Mapping[str, str]]) -> None:
    assert list(parse_packages(text)) == sets


@pytest.mark.parametrize("text", ["fastapi", "fastapi>=0.1", "fastapi==0.1,fastapi==0.1", "-e==1", "a==--pre"])
def test_what_is_no_set_of_versions_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_packages(text)


class ByVersion(FakeExecutor):
    """Naive serves a rate per set of versions; a version that is not here is skipped."""

    def __init__(self, naive_rps: Mapping[str, float]) -> None:
        super().__init__({"naive": 1.0, "correct": 400.0}, {"naive": 0.01, "correct": 0.01}, noise=0.005)
        self.naive_rps = naive_rps

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        name = packages_name(condition.packages)
        if name not in self.naive_rps:
            raise NotHereError(f"the environment for {name} cannot be had here: no such version")
        self.rate_rps = {**self.rate_rps, "naive": self.naive_rps[name]}
        return super().perform(trial, gotcha, condition, folder, lambda now: None)


def versions_plan(text: str, servers: Sequence[Server] = ()) -> GotchaPlan:
    base = gotcha_plan(HARM, EQUAL, conditions=(BASE,))
    spread = replace(base, conditions=tuple(under_servers(BASE, servers))) if servers else base
    if servers:
        spread = gotcha_plan(HARM, EQUAL, conditions=tuple(under_servers(BASE, servers)))
    return as_grid(base, spread, parse_packages(text))


def test_versions_are_compared_inside_one_run_with_the_first(tmp_path: Path) -> None:
    gotcha = versions_plan("fastapi==1,fastapi==2,fastapi==3")
    found = compared(tmp_path, gotcha, ByVersion({"fastapi 1": 100.0, "fastapi 2": 200.0, "fastapi 3": 400.0}))
    assert [(a.before.packages, a.after.packages, a.said) for a in found.answers] == [
        ("fastapi 1", "fastapi 2", "smaller"), ("fastapi 1", "fastapi 3", "gone"),
    ]  # fmt: skip
    assert found.answers[0].arms["naive"].value == pytest.approx(2.0, rel=0.05)
    assert found.answers[0].arms["correct"].value == pytest.approx(1.0, rel=0.05)
    text = table([found])
    assert "fastapi 1 to fastapi 2" in text and "naive ratio" in text and max(map(len, text.splitlines())) <= 100
    assert document("r", [found])["gotchas"][0]["answers"][0]["said"] == "smaller"


def test_a_version_that_cannot_be_had_is_skipped_with_its_reason(tmp_path: Path) -> None:
    gotcha = versions_plan("fastapi==1,fastapi==99,fastapi==3")
    found = compared(tmp_path, gotcha, ByVersion({"fastapi 1": 100.0, "fastapi 3": 400.0}))
    assert [answer.said for answer in found.answers] == ["not told", "gone"]
    assert "no such version" in table([found])


class CorrectNeedsTwo(ByVersion):
    """The correct variant uses what the first version does not have."""

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        if trial.variant == "correct" and condition.packages == {"fastapi": "1"}:
            raise LoadError("the server ended: " + "a long log | " * 40 + "unexpected keyword argument 'scope'")
        return super().perform(trial, gotcha, condition, folder, live)


def test_where_correct_cannot_run_the_naive_variant_is_still_told_version_against_version(tmp_path: Path) -> None:
    gotcha = versions_plan("fastapi==1,fastapi==2")
    found = compared(tmp_path, gotcha, CorrectNeedsTwo({"fastapi 1": 400.0, "fastapi 2": 100.0}))
    (answer,) = found.answers
    assert answer.word == "not told" and set(answer.arms) == {"naive"}
    assert answer.arms["naive"].value == pytest.approx(0.25, rel=0.05)
    text = table([found])
    assert (
        "unexpected keyword" in text
        and "naive ratio 0.2" in text.replace("\n      ", " ")
        and len(text.splitlines()) < 16
    )


def test_versions_under_several_workers_are_all_compared(tmp_path: Path) -> None:
    gotcha = versions_plan("fastapi==1,fastapi==2", SERVERS[:2])
    found = compared(tmp_path, gotcha, ByVersion({"fastapi 1": 100.0, "fastapi 2": 200.0}))
    assert [(a.about, a.said) for a in found.answers] == [
        ("workers", "unaffected"), ("workers", "unaffected"), ("versions", "smaller"), ("versions", "smaller"),
    ]  # fmt: skip


def test_a_version_cell_keeps_what_the_condition_asks_for_and_its_prediction() -> None:
    pinned = replace(BASE, packages={"fastapi": "0.1", "anyio": "4"})
    base = gotcha_plan(HARM, EQUAL, conditions=(pinned,))
    (cell,) = as_grid(base, base, parse_packages("fastapi==0.2")).conditions
    assert cell.packages == {"fastapi": "0.2", "anyio": "4"} and cell.label == "10 users with fastapi 0.2"
    (claim, _) = as_grid(base, base, parse_packages("fastapi==0.2")).claims
    assert claim.predictions == {cell.key: 100.0} and claim.headline == cell.key


# ---------------------------------------------------------------- harms that are counts


class Counting(FakeExecutor):
    """A harm that naive counts and correct does not have."""

    def __init__(self, counts: Mapping[int, float]) -> None:
        super().__init__({"naive": 100.0, "correct": 100.0}, {"naive": 0.01, "correct": 0.01})
        self.counts = counts

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: "object"
    ) -> TrialRecord:  # fmt: skip
        record = super().perform(trial, gotcha, condition, folder, lambda now: None)
        return replace(record, observed={"lost": self.counts[condition.workers] if trial.variant == "naive" else 0.0})


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        ({1: 10.0, 2: 10.0, 4: 10.0}, "unaffected"), ({1: 10.0, 2: 5.0, 4: 1.0}, "postpones"), ({1: 10.0, 2: 1.0, 4: 0.0}, "scales away"),
        ({1: 0.0, 2: 1.0, 4: 9.0}, "not told"),
    ],
)  # fmt: skip
def test_where_correct_reads_nothing_the_naive_count_is_the_harm(
    tmp_path: Path, counts: dict[int, float], word: str
) -> None:
    lost = replace(HARM, metric=naive.observed("lost"))
    cells = tuple(under_servers(BASE, SERVERS))
    gotcha = as_grid(gotcha_plan(lost, conditions=(BASE,)), gotcha_plan(lost, conditions=cells))
    found = compared(tmp_path, gotcha, Counting(counts))
    assert [answer.said for answer in found.answers] == [word] and not found.relative


def test_a_number_that_was_refused_is_not_said_to_be_an_answer_that_never_came() -> None:
    """Nobody went unanswered: there were too few requests for a p99."""
    condition = Condition("one", ClosedLoad(10), 2.0)

    def trial(variant: str, pair: int, value: float | Refusal) -> TrialFacts:
        record = TrialRecord("event_loop/example", condition.key, pair, variant, 1, "ok")
        return TrialFacts(record, f"{pair}-{variant}", {"latency_p99_s": value})

    few = Refusal("p99 of latency needs 368 requests, there are 300")
    ref = MetricExpression.parse("naive.latency_p99_s").numerator

    def problem(last: float | Refusal) -> str:
        trials = [trial(arm, pair, 0.1) for arm in ("naive", "correct") for pair in range(2)]
        trials += [trial("naive", 2, 0.1), trial("correct", 2, last)]
        return _seen(condition, trials, (), ref, planned=3, relative=True).cell.problem

    assert problem(few) == f"1 of 3 pairs have no latency_p99_s: {few.reason}"
    assert problem(math.inf) == "1 of 3 pairs have no latency_p99_s: requests were never answered"
