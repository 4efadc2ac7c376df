"""A quick run that looks again at what it left undecided: by a rule that its plan registered, within its time, and written down first."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.alike import StoredRun
from analysis.judge import judge_run
from analysis.undecided import undecided
from lab.commands.session import look_again, measure
from lab.generator.engine import Measured
from lab.model import SAMPLE_COLUMNS, Condition, GotchaPlan, RunPlan, TrialPlan
from lab.run.plan import make_plan
from lab.run.runner import Live, Progress, expected_s, run_trials
from lab.run.second_look import additions, first_pairs
from lab.selftest import ceiling
from lab.store import RunFolder, TrialFolder
from lab.terminal import Screen
from lab.words.errors import StoreError
from lab.words.looks import ERROR, SecondLook
from lab.words.record import GeneratorSeen, TrialRecord
from tests.fakes import FakeExecutor, gotcha_plan
from tests.machine import FAST, SLUG, Machine, cells, requested


def planned(*conditions: Condition, pairs: int | None = None, look: SecondLook | None = SecondLook()) -> RunPlan:
    return replace(
        make_plan("run", "now", [gotcha_plan(FAST, conditions=conditions)], "quick", 1, pairs), second_look=look
    )


# ---------------------------------------------------------------- the rule


def test_both_looks_together_spend_no_more_than_five_percent() -> None:
    look = SecondLook()
    assert sum(look.errors) <= ERROR
    assert [look.error(3, pairs) for pairs in (2, 3, 4, 6)] == [0.03, 0.03, 0.02, 0.02]
    assert look.error(1, 1) == look.error(2, 2) == ERROR, "what is never looked at twice spends nothing on it"


def test_a_plan_of_before_has_no_second_look() -> None:
    from lab.words.codec import from_json, to_dict, to_json

    plan = planned(*cells(2.0))
    assert from_json(RunPlan, to_json(plan), "here") == plan
    import json

    older = {name: value for name, value in to_dict(plan).items() if name != "second_look"}
    assert from_json(RunPlan, json.dumps(older), "here").second_look is None


def test_only_what_a_fixed_second_number_of_pairs_would_settle_is_added() -> None:
    plan = planned(*cells(1.0, 2.0, 3.0))
    chosen = additions(plan, [(SLUG, "1-s", 3), (SLUG, "2-s", 4), (SLUG, "3-s", 9), (SLUG, "1-s", 30)])
    assert [one.condition.key for one in chosen] == ["1-s"], "three more pairs settle one claim of the first"
    assert additions(plan, [(SLUG, "1-s", 4)]) == [] and additions(plan, [(SLUG, "1-s", 3)]) == chosen
    assert chosen[0].pairs == 3, "never fewer: the second number of pairs stands in the plan"
    assert chosen[0].text == "3 more pairs of example, 1 s: undecided after 3"
    both = cells(1.0, 2.0)
    assert additions(planned(*both), [(SLUG, "1-s", 1)])
    assert additions(planned(*both, look=None), [(SLUG, "1-s", 1)]) == []
    assert additions(planned(*both, pairs=2), [(SLUG, "1-s", 1)]) == [], "two pairs say nothing at these levels"
    assert additions(planned(*cells(1.0)), [(SLUG, "1-s", 1)]) == [], (
        "twice the pairs of all there is are more than half its time again"
    )


def test_the_cheapest_come_first_and_half_of_the_time_is_the_most() -> None:
    conditions = cells(4.0, 1.0, 2.0, 3.0)
    plan = planned(*conditions)
    whole = sum(expected_s(plan.gotchas[0].condition(t.condition)) for t in plan.trials)
    chosen = additions(plan, [(SLUG, c.key, 1) for c in conditions])
    took = sum(expected_s(one.condition) * len(one.trials) for one in chosen)
    assert [one.condition.key for one in chosen] == ["1-s", "2-s"]
    assert took <= 0.5 * whole < took + 6 * expected_s(conditions[3])


def test_added_pairs_go_on_as_the_plan_would() -> None:
    plan = planned(*cells(2.0, 3.0))
    (one,) = additions(plan, [(SLUG, "2-s", 1)])
    longer = [t for t in planned(*cells(2.0), pairs=6).trials if t.condition == "2-s"]
    own = [t for t in plan.trials if t.condition == "2-s"]
    pairs = {pair: [t for t in (*own, *one.trials) if t.pair == pair] for pair in range(6)}
    assert [t.pair for t in one.trials] == [3, 3, 4, 4, 5, 5]
    assert {t.pair: t.seed for t in one.trials} == {t.pair: t.seed for t in longer if t.pair > 2}, (
        "the trace of that pair"
    )
    for pair in (1, 3, 5):
        assert [t.variant for t in pairs[pair]] == [t.variant for t in pairs[pair - 1]][::-1]
    assert first_pairs(plan, SLUG, "2-s") == 3


# ---------------------------------------------------------------- the whole path


class Listed(FakeExecutor):
    """Sees whether what it does had been written down before."""

    def __init__(self, run: RunFolder, noise: float) -> None:
        super().__init__({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}, noise)
        self.run = run

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None],
    ) -> TrialRecord:  # fmt: skip
        assert trial in (*self.run.plan.trials, *self.run.added)
        return super().perform(trial, gotcha, condition, folder, live)


def stored(tmp_path: Path, plan: RunPlan) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_plan(plan)
    return run


def looked(tmp_path: Path, noise: float, look: SecondLook | None = SecondLook()) -> tuple[RunFolder, list[str], bytes]:
    """A run of one gotcha with that noise between its trials, and what was said when it was looked at again."""
    plan = planned(*cells(2.0, 4.0), look=look)
    run, said = stored(tmp_path, plan), []  # type: tuple[RunFolder, list[str]]
    before = (run.path / "plan.json").read_bytes()
    executor = Listed(run, noise)
    run_trials(plan, run, executor, lambda p: None)
    look_again(plan, run, executor, Screen(quiet=True), lambda *_: "", undecided, said.append)
    return run, said, before


def test_an_undecided_run_looks_again_and_is_judged_at_what_that_look_may_spend(tmp_path: Path) -> None:
    run, said, before = looked(tmp_path, noise=0.1)
    assert said == ["3 more pairs of example, 2 s: undecided after 3"]
    assert (run.path / "plan.json").read_bytes() == before, "what was registered stays as it was"
    assert len(run.added) == 6 and len(run.trials(SLUG)) == len(run.plan.trials) + 6 and not run.partial
    at = {one.condition: one for one in judge_run(run).gotchas[0].claims[0].conditions}
    assert {key: len(one.measured.values) for key, one in at.items() if one.measured} == {"2-s": 6, "4-s": 3}
    assert {key: one.measured.level for key, one in at.items() if one.measured} == {"2-s": 0.98, "4-s": 0.97}


def test_nothing_is_added_where_nothing_is_undecided_or_the_plan_has_no_second_look(tmp_path: Path) -> None:
    for name, noise, look in (("quiet", 0.001, SecondLook()), ("full", 0.1, None)):
        (tmp_path / name).mkdir()
        run, said, _ = looked(tmp_path / name, noise, look)
        assert said == [] and run.added == () and not (run.path / "added.json").exists()


def test_a_second_look_that_is_interrupted_is_a_partial_run(tmp_path: Path) -> None:
    run, _, _ = looked(tmp_path, noise=0.1)
    folder = run.trial(SLUG, "2-s", 5, run.added[-1].variant)
    assert not judge_run(run).partial
    (folder.path / "trial.json").unlink()
    assert run.partial
    judged = judge_run(run)
    (doubt,) = [one for one in judged.gotchas[0].doubts if one.id == "partial_run"]
    assert judged.partial and doubt.seen == "17 of 18 trials are there."


def test_a_comparison_judges_what_was_added_as_the_run_itself_does(tmp_path: Path) -> None:
    """At the second look's level, and with an added pair that is missing still asked for."""
    run, _, _ = looked(tmp_path, noise=0.1)
    (run.trial(SLUG, "2-s", 5, run.added[-1].variant).path / "trial.json").unlink()
    assert StoredRun(run).judged(SLUG) == judge_run(run).gotchas[0]


def test_progress_goes_on_where_the_plan_ended(tmp_path: Path) -> None:
    plan = planned(*cells(1.0, 2.0))
    run = stored(tmp_path, plan)
    (one,) = additions(plan, [(SLUG, "1-s", 1)])
    seen: list[Progress] = []
    executor = FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    run_trials(plan, run, executor, seen.append, added=one.trials)
    assert {progress.index for progress in seen} == set(range(12, 18)) and {progress.total for progress in seen} == {18}
    assert all(progress.left_s >= 0 for progress in seen)


# ---------------------------------------------------------------- a session


def test_pairs_are_added_by_quick_runs_alone_and_not_where_the_user_said_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch)
    asked: list[RunFolder] = []

    def one_more(folder: RunFolder) -> Sequence[tuple[str, str, int]]:
        asked.append(folder)
        return [(SLUG, "1-s", 1)]

    cases: list[tuple[Any, int | None, int]] = [("quick", None, 18), ("quick", 3, 12), ("full", None, 32)]
    for mode, pairs, trials in cases:
        done = measure(requested(tmp_path, mode, pairs), lambda *_: "", one_more)
        assert (done.total, done.done) == (trials, trials)
        assert (done.folder.plan.second_look is not None) is (trials == 18)
    assert len(asked) == 1


def test_the_generators_ceiling_is_stored_with_the_run_that_it_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.yardstick import ceiling_of

    machine = Machine(monkeypatch)
    run = measure(requested(tmp_path), lambda *_: "").folder
    assert run.environment.limits == {"open files": "1024", "generator_ceiling_rps": "54322"}
    assert ceiling_of(run) == 54_322
    g6 = [gate for gate in judge_run(run).gotchas[0].gates if gate.gate == "G6"]
    assert all(gate.passed for gate in g6) and g6
    machine.ceiling = None
    without = measure(requested(tmp_path), lambda *_: "").folder
    assert "generator_ceiling_rps" not in without.environment.limits
    assert [gate.passed for gate in judge_run(without).gotchas[0].gates if gate.gate == "G6"] == [None, None]


def test_a_ceiling_that_cannot_be_had_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> Any:
        raise StoreError("no port")

    monkeypatch.setattr(ceiling, "_reader", refuse)

    @contextmanager
    def nobody(*_: Any) -> Iterator[str]:
        yield "http://127.0.0.1:1"

    monkeypatch.setattr(ceiling, "_null_server", nobody)
    assert ceiling.quick_ceiling(SimpleNamespace(temporary_folder=lambda name: tmp_path)) is None  # type: ignore[arg-type]


def test_the_ceiling_is_the_best_quarter_of_a_second(tmp_path: Path) -> None:
    """A neighbour has the core for the first half second: 100/s, then 1,000/s."""
    done = np.concatenate([np.arange(0, 0.5, 0.01), np.arange(0.5, 1.0, 0.001)]) + 7.0
    rows = np.zeros((len(done), len(SAMPLE_COLUMNS)), dtype=np.int64)
    rows[:, SAMPLE_COLUMNS.index("done_ns")] = (done * 1e9 + 500).astype(np.int64)
    np.save(tmp_path / "samples.npy", rows)
    seen = GeneratorSeen(550, 550, 0, (), 0.0, 0.0, "")
    measured = Measured(tmp_path / "samples.npy", 7_000_000_000, 8_000_000_000, ("/",), {}, seen)
    assert ceiling.best_rate(measured) == pytest.approx(1000, rel=0.01)
