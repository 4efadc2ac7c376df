"""From plan to trials on disk and on to a verdict, with an executor that answers from a formula."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.finish import exit_code
from analysis.judge import judge_run
from lab import environments
from lab.errors import NotHereError, ServerError
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, RunPlan, TrialPlan
from lab.plan import make_plan
from lab.record import TrialRecord
from lab.runner import MAX_REPEATS, Live, Progress, run_trials
from lab.store import RunFolder, TrialFolder
from tests.fakes import FakeExecutor, gotcha_plan

FAST = Claim("ratio", "harm", "correct serves four times as many", "correct.throughput_rps / naive.throughput_rps",
             predict=lambda c: 4.0, formula="4", source="the fake", null=1.0)  # fmt: skip


def prepared(tmp_path: Path, *claims: Claim) -> tuple[RunPlan, RunFolder]:
    plan = make_plan("run", "now", [gotcha_plan(*claims or (FAST,))], "quick", 1)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_plan(plan)
    return plan, run


def test_the_whole_path_gives_the_verdict_that_the_formula_asks_for(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    assert (
        run_trials(
            plan, run, FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}), lambda p: None
        )
        == 0
    )
    verdicts = judge_run(run)
    (gotcha,) = verdicts.gotchas
    assert gotcha.claims[0].verdict == "reproduced"
    assert exit_code(verdicts) == 0
    assert not run.partial


def test_a_smaller_effect_is_called_smaller_and_none_at_all_not_reproduced(tmp_path: Path) -> None:
    for rate, expected in ((200, "smaller"), (100, "not_reproduced"), (50, "reversed")):
        folder = tmp_path / str(rate)
        folder.mkdir()
        plan, run = prepared(folder)
        run_trials(
            plan,
            run,
            FakeExecutor({"naive": 100, "correct": rate}, {"naive": 0.1, "correct": 10 / rate}),
            lambda p: None,
        )
        verdicts = judge_run(run)
        assert verdicts.gotchas[0].claims[0].verdict == expected
        assert exit_code(verdicts) == 1


class Failing(FakeExecutor):
    """The second trial breaks."""

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        if len(self.done) == 1:
            self.done.append(trial)
            raise ServerError("the server died", "See server.log.")
        return super().perform(trial, gotcha, condition, folder, live)


def test_a_failed_trial_is_a_result_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    executor = Failing({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    assert run_trials(plan, run, executor, lambda p: None) == 1
    records = [folder.record for folder in run.trials("event_loop/example")]
    assert len(records) == len(plan.trials)
    assert [record.reason for record in records if record.status == "failed"] == ["the server died See server.log."]
    assert judge_run(run).gotchas[0].failed_trials


class Interrupted(FakeExecutor):
    """Ctrl-C in the third trial."""

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        if len(self.done) == 2:
            raise KeyboardInterrupt
        return super().perform(trial, gotcha, condition, folder, live)


def test_an_interrupted_run_keeps_what_was_measured_and_says_that_it_is_partial(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_trials(
            plan, run, Interrupted({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}), lambda p: None
        )
    assert len(run.trials("event_loop/example")) == 2
    assert run.partial
    assert judge_run(run).gotchas[0].claims[0].verdict == "inconclusive"


def test_a_disturbed_pair_is_done_again_whole(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    executor = FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    complained: list[tuple[int, str]] = []

    def disturbed(record: TrialRecord, gotcha: GotchaPlan) -> str:
        if record.pair == 1 and not complained:
            complained.append((record.pair, record.variant))
            return "a noisy neighbour"
        return ""

    run_trials(plan, run, executor, lambda p: None, disturbed)
    assert len(executor.done) == len(plan.trials) + 2
    again = [t.pair for t in executor.done].count(1)
    assert again == 4  # both arms twice
    assert "a noisy neighbour" in (run.path / "repeated.log").read_text()


def test_a_pair_that_stays_disturbed_is_not_repeated_for_ever(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    executor = FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    run_trials(plan, run, executor, lambda p: None, lambda record, gotcha: "noise" if record.pair == 0 else "")
    assert [t.pair for t in executor.done].count(0) == 2 * (MAX_REPEATS + 1)


def test_progress_counts_every_trial_and_the_time_left_ends_at_nothing(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    seen: list[Progress] = []
    run_trials(plan, run, FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}), seen.append)
    assert {one.index for one in seen} == set(range(len(plan.trials)))
    assert all(one.left_s >= 0 for one in seen)


class WithoutOneCondition(FakeExecutor):
    """A machine that cannot have what the condition "elsewhere" needs."""

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None],
    ) -> TrialRecord:  # fmt: skip
        if condition.label == "elsewhere":
            raise NotHereError("the environment for 3.99 cannot be had here: no such interpreter")
        return super().perform(trial, gotcha, condition, folder, live)


def test_a_condition_that_this_machine_cannot_have_is_skipped_and_the_others_are_judged(tmp_path: Path) -> None:
    here, elsewhere = (Condition(label, ClosedLoad(10), duration_s=2.0) for label in ("here", "elsewhere"))
    there = replace(FAST, id="there", headline="elsewhere", predict=lambda c: 4.0 if c.label == "elsewhere" else None)
    both = replace(FAST, headline="elsewhere")
    gotcha = gotcha_plan(both, there, conditions=(here, elsewhere), answer="{ratio:.0f} times here, {there} there")
    plan = make_plan("run", "now", [gotcha], "quick", 1)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_plan(plan)
    executor = WithoutOneCondition({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    assert run_trials(plan, run, executor, lambda p: None) == 0
    verdicts = judge_run(run)
    (judged,) = verdicts.gotchas
    assert exit_code(verdicts) == 0
    assert [(claim.id, claim.verdict, claim.at_headline.condition) for claim in judged.claims] == [
        ("ratio", "reproduced", "here")
    ]
    assert judged.answer == "4 times here, not measured there"
    assert not judged.failed_trials
    (skipped,) = [one for one in judged.doubts if one.id == "skipped"]
    assert skipped.condition == "elsewhere" and "no such interpreter" in skipped.seen


def test_an_interpreter_that_is_nowhere_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def refuse(*args: object) -> str:
        asked.append(args)
        return "no interpreter found"

    monkeypatch.setattr(environments, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr(environments, "_build", refuse)
    monkeypatch.setattr(environments, "_refused", {})
    for _ in range(2):
        with pytest.raises(NotHereError, match=r"3\.99.*no interpreter found"):
            environments.environment_for({}, "3.99")
    assert len(asked) == 1
