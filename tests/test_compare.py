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


# ---------------------------------------------------------------- diff


def pair_of_runs(tmp_path: Path, before: float, after: float, seed: int = 1) -> tuple[RunFolder, RunFolder]:
    gotcha = gotcha_plan(HARM, EQUAL, conditions=(BASE,))
    runs = []
    for name, rate in (("before", before), ("after", after)):
        executor = FakeExecutor({"naive": rate, "correct": 400.0}, {"naive": 0.01, "correct": 0.01}, noise=0.01)
        runs.append(performed(tmp_path, gotcha, executor, seed if name == "after" else 1, name))
    return runs[0], runs[1]


def environment(**changed: object) -> Environment:
    plain = Environment("CPython 3.11", "Linux", "a CPU", 2, 1, {}, {"fastapi": "0.139.0"}, {"postgres": "18"}, {}, {})
    return replace(plain, **changed)  # type: ignore[arg-type]


def found_between(tmp_path: Path, before: float, after: float, **changed: object) -> Difference:
    a, b = pair_of_runs(tmp_path, before, after)
    a.write_environment(environment())
    b.write_environment(environment(**changed))
    return compare_runs(a, b)


def test_the_same_run_again_is_the_same(tmp_path: Path) -> None:
    found = found_between(tmp_path, 100.0, 100.0)
    assert found.paired and not found.environment
    assert {row.change for row in found.rows} == {"same"} and not found.fails(("verdict", "figure", "environment"))


def test_a_figure_that_moved_is_found_pair_by_pair(tmp_path: Path) -> None:
    found = found_between(tmp_path, 100.0, 60.0)
    row = next(row for row in found.rows if row.claim == "slow")
    assert row.change == "lower" and row.ratio is not None and row.ratio.value == pytest.approx(0.6, rel=0.02)
    assert row.worse and row.verdict_after == "not_reproduced"
    assert found.fails(("figure",)) and found.fails(("verdict",)) and not found.fails(())
    assert "reproduced -> not reproduced" in exports.table(found)


def test_other_surroundings_are_named_and_other_machines_not_timed(tmp_path: Path) -> None:
    found = found_between(tmp_path, 100.0, 60.0, packages={"fastapi": "0.140.0"})
    assert found.environment == ("package fastapi: 0.139.0 -> 0.140.0",) and found.fails(("environment",))
    assert any(row.change == "lower" for row in found.rows), "another package on the same machine is what diff is for"
    elsewhere = found_between(tmp_path / "b", 100.0, 60.0, cpu_model="another CPU")
    assert {row.change for row in elsewhere.rows} == {"not comparable"}


def test_other_seeds_are_compared_unpaired_and_said(tmp_path: Path) -> None:
    a, b = pair_of_runs(tmp_path, 100.0, 60.0, seed=2)
    for run in (a, b):
        run.write_environment(environment())
    found = compare_runs(a, b)
    assert not found.paired and any("seed" in text for text in found.environment)
    assert next(row for row in found.rows if row.claim == "slow").change == "lower"


def test_welch_agrees_with_its_worked_example() -> None:
    # scipy.stats.ttest_ind(..., equal_var=False) on the logarithms: t = 2.0 sds apart on these values
    ratio = ratio_of([1.0, 1.1, 0.9, 1.0], [2.0, 2.2, 1.8, 2.0], paired=False)
    assert ratio is not None and ratio.value == pytest.approx(2.0)
    assert ratio.low is not None and ratio.high is not None and ratio.low * ratio.high == pytest.approx(4.0)
    assert ratio.low == pytest.approx(2.0 / 1.1527, rel=0.005)
    assert ratio_of([0.0, 1.0], [1.0, 1.0], paired=True) is None


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    a, _ = pair_of_runs(tmp_path, 100.0, 100.0)
    other = performed(tmp_path, replace(gotcha_plan(HARM, conditions=(BASE,)), slug="caching/other"),
                      FakeExecutor({"naive": 1.0, "correct": 1.0}, {"naive": 0.1, "correct": 0.1}), 1, "other")  # fmt: skip
    with pytest.raises(UsageError, match="no claim"):
        compare_runs(a, other)


def test_exports_are_what_ci_servers_read(tmp_path: Path) -> None:
    found = found_between(tmp_path, 100.0, 60.0)
    hostile = replace(found, rows=tuple(replace(row, statement='<script>|"&') for row in found.rows))
    suites = ElementTree.fromstring(exports.junit(hostile, ("verdict",)))
    (suite,) = suites
    assert suite.get("tests") == str(len(found.rows)) and suite.get("failures") == "1"
    (failure,) = suite.iter("failure")
    assert "<script>" in (failure.get("message") or "")
    text = exports.markdown(hostile, ("verdict",))
    assert "&lt;script>\\|" in text and "**1 of 2 claims object**" in text
