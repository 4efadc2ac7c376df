"""Compare (worker configurations) and diff (two runs), on runs of the fake executor."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis import exports, statistics
from analysis.compare import compare_gotcha, is_known, table, word_of
from analysis.diff import Difference, compare_runs, ratio_of
from lab.describe import under_servers
from lab.errors import LoadError, UsageError
from lab.grid import as_grid, harm_of
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, RunPlan, Server, TrialPlan
from lab.plan import make_plan
from lab.record import Environment, TrialRecord
from lab.runner import run_trials
from lab.store import RunFolder, TrialFolder, new_run
from tests.fakes import FakeExecutor, gotcha_plan

BASE = Condition("10 users", ClosedLoad(10), duration_s=1.0, params={"users": 10})
HARM = Claim(
    "slow",
    "harm",
    "naive serves fewer",
    "naive.throughput_rps",
    lambda c: 100.0 * c.workers,
    formula="100 W",
    source="made up",
)
EQUAL = Claim(
    "fast", "fix", "correct serves more", "correct.throughput_rps", lambda c: 400.0, formula="400", source="made up"
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


def performed(tmp_path: Path, gotcha: GotchaPlan, executor: FakeExecutor, seed: int = 1, name: str = "r") -> RunFolder:
    run = new_run(tmp_path, name)
    plan: RunPlan = make_plan(run.name, "now", (gotcha,), "quick", seed)
    run.write_plan(plan)
    run_trials(plan, run, executor, lambda progress: None)
    return run


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
    run = performed(tmp_path, grid_plan(), ByWorkers(naive))
    found = compare_gotcha(run, run.plan.gotchas[0])
    assert [answer.word for answer in found.answers] == [word]
    assert is_known(found)
    (answer,) = found.answers
    assert answer.ratio is not None and answer.ratio.value == pytest.approx((naive[1] / naive[4]), rel=0.02)
    text = table([found])
    assert word in text and max(map(len, text.splitlines())) <= 100 + len(found.sentence(answer))


def test_a_wide_interval_gets_no_word() -> None:
    assert word_of(statistics.of_ratios([0.5, 2.0, 1.0]), statistics.of_ratios([3.0, 3.0, 3.0]), 0.1) == "unclear"
    assert word_of(None, None, 0.1) == "unclear"


def test_a_configuration_that_cannot_run_says_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    servers = (*SERVERS, Server(kind="granian", workers=1), Server(kind="granian", workers=4))
    run = performed(tmp_path, grid_plan(servers), ByWorkers({1: 100.0, 2: 100.0, 4: 100.0}))
    found = compare_gotcha(run, run.plan.gotchas[0])
    words = {answer.server: answer.word for answer in found.answers}
    assert words == {"uvicorn": "unaffected", "granian": "unclear"} and not is_known(found)
    assert "granian is not installed" in table([found])


def test_the_cells_of_a_grid_share_their_arrivals_and_open_new_connections(tmp_path: Path) -> None:
    plan = make_plan("r", "now", (grid_plan(),), "quick", 5)
    seeds = {(trial.condition, trial.pair): trial.seed for trial in plan.trials}
    for pair in range(3):
        assert len({seed for (_, one), seed in seeds.items() if one == pair}) == 1
    assert all(isinstance(c.load, ClosedLoad) and c.load.reconnect for c in plan.gotchas[0].conditions)
    order = [trial.condition for trial in plan.trials]
    assert len(set(order[: len(order) // 3])) == 3, "interleaved: every configuration is in the first third"


def test_a_gotcha_without_a_harm_of_both_arms_is_refused() -> None:
    alone = gotcha_plan(HARM, conditions=(replace(BASE, variants=("naive",)),))
    with pytest.raises(UsageError, match="no harm"):
        harm_of(alone)
