"""From plan to trials on disk and on to a verdict, with an executor that answers from a formula."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.finish import exit_code
from analysis.judge import judge_run
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, RunPlan, TrialPlan
from lab.run.attempts import attempt_folder
from lab.run.plan import make_plan
from lab.run.runner import MAX_REPEATS, Live, Progress, Spoiled, expected_s, run_s, run_trials
from lab.store import RunFolder, TrialFolder
from lab.target import interpreters as environments
from lab.words.errors import NotHereError, ServerError, StoreError
from lab.words.metrics import correct, naive
from lab.words.record import TrialRecord
from tests.fakes import FakeExecutor, gotcha_plan

FAST = Claim("ratio", "harm", "correct serves four times as many", correct.throughput_rps / naive.throughput_rps,
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


def test_a_spoiled_pair_is_done_again_whole_and_its_first_attempt_is_kept(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    executor = FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    asked: list[tuple[int, list[str], list[bool]]] = []

    def spoiled(
        records: Sequence[TrialRecord], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder]
    ) -> str:
        again = [one.pair for one in records].count(1) and not any(pair == 1 for pair, *_ in asked)
        asked.append((records[0].pair, [one.variant for one in records], [one.exists for one in folders]))
        assert [one.record for one in folders] == list(records), "the folders hold this attempt, not the one before"
        return "G9 noise: a neighbour" if again else ""

    run_trials(plan, run, executor, lambda p: None, spoiled)
    assert [pair for pair, *_ in asked] == [0, 1, 1, 2], "once for a pair, when all of its arms are done"
    assert all(len(arms) == 2 and all(there) for _, arms, there in asked)
    assert [t.pair for t in executor.done].count(1) == 4  # both arms twice
    of_pair = [folder.record for folder in run.trials("event_loop/example") if folder.record.pair == 1]
    assert [record.extra["repeated"] for record in of_pair] == [["G9 noise: a neighbour"]] * 2
    assert not any("repeated" in one.record.extra for one in run.trials("event_loop/example") if one.record.pair != 1)
    kept = [attempt_folder(run, t, 1) for t in plan.trials if t.pair == 1]
    (told,) = [one for one in judge_run(run).gotchas[0].doubts if one.id == "repeated_pairs"]
    assert told.seen == "Pairs done again: 1 (spoiled attempts: 1); pair 2 of users=10: G9 noise: a neighbour."
    assert len(kept) == 2 and all((one.path / "samples.parquet").is_file() and not one.record.extra for one in kept)


def always(reason: str) -> Spoiled:
    return lambda records, gotcha, condition, folders: reason if records[0].pair == 0 else ""


def test_a_pair_that_stays_spoiled_is_not_repeated_for_ever(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    executor = FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
    run_trials(plan, run, executor, lambda p: None, always("noise"))
    assert [t.pair for t in executor.done].count(0) == 2 * (MAX_REPEATS + 1)
    last = run.trial("event_loop/example", "users=10", 0, "naive").record
    assert last.extra["repeated"] == ["noise"] * MAX_REPEATS
    first = plan.trials[0]
    assert [attempt_folder(run, first, n).exists for n in range(1, MAX_REPEATS + 2)] == [True] * MAX_REPEATS + [False]
    assert len(run.trials("event_loop/example")) == len(plan.trials)


def test_the_arms_of_a_duet_are_done_at_once_and_again_at_once(tmp_path: Path) -> None:
    condition = Condition("together", ClosedLoad(10), duration_s=2.0, duet=True)
    plan = make_plan("run", "now", [gotcha_plan(FAST, conditions=(condition,))], "quick", 1)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_plan(plan)
    calls: list[list[str]] = []

    class Duet(FakeExecutor):
        def perform_duet(
            self, trials: Sequence[TrialPlan], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder],
            live: Callable[[Live], None],
        ) -> list[TrialRecord]:  # fmt: skip
            calls.append([trial.variant for trial in trials])
            return super().perform_duet(trials, gotcha, condition, folders, live)

    run_trials(
        plan,
        run,
        Duet({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}),
        lambda p: None,
        always("noise"),
    )
    assert len(calls) == 3 + MAX_REPEATS and all(sorted(arms) == ["correct", "naive"] for arms in calls)
    assert len(run.trials("event_loop/example")) == 6


class Broken(FakeExecutor):
    """The second trial raises what nobody expects: a driver, a full disk while logs are kept."""

    def __init__(self, error: BaseException) -> None:
        super().__init__({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025})
        self.error = error

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None],
    ) -> TrialRecord:  # fmt: skip
        if len(self.done) == 1:
            self.done.append(trial)
            raise self.error
        return super().perform(trial, gotcha, condition, folder, live)


@pytest.mark.parametrize(
    "error", [ValueError("a wrong pointer"), OSError(28, "No space left"), KeyError("id"), AssertionError()]
)
def test_any_error_is_its_trials_own_and_the_run_goes_on(tmp_path: Path, error: Exception) -> None:
    plan, run = prepared(tmp_path)
    assert run_trials(plan, run, Broken(error), lambda p: None) == 1
    records = [folder.record for folder in run.trials("event_loop/example")]
    assert len(records) == len(plan.trials)
    (reason,) = [record.reason for record in records if record.status == "failed"]
    assert reason.startswith(f"{type(error).__name__}: {error} (test_runner.py:")


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    with pytest.raises(StoreError):
        run_trials(plan, run, Broken(StoreError("no space")), lambda p: None)


def test_progress_counts_every_trial_and_the_time_left_ends_at_nothing(tmp_path: Path) -> None:
    plan, run = prepared(tmp_path)
    seen: list[Progress] = []
    run_trials(plan, run, FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}), seen.append)
    assert {one.index for one in seen} == set(range(len(plan.trials)))
    assert all(one.left_s >= 0 for one in seen)


def test_a_run_takes_as_long_as_its_trials_and_a_duet_as_long_as_one_arm() -> None:
    alone = Condition("alone", ClosedLoad(10), duration_s=2.0)
    for duet, arms in ((False, 2), (True, 1)):
        one = replace(alone, duet=duet)
        plan = make_plan("run", "now", [gotcha_plan(FAST, conditions=(one,))], "quick", 1, pairs=3)
        assert run_s(plan) == pytest.approx(3 * arms * expected_s(one))


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
    assert judged.answer.startswith("This run has no answer")  # not with the number of another condition
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
