"""A run that was interrupted goes on: what was measured stays, a pair that was begun is done again, and nothing is mixed."""

import fcntl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.judge import judge_run
from lab.catalog import Catalog
from lab.commands import session
from lab.commands.session import Session, measure
from lab.model import Condition, GotchaPlan, TrialPlan
from lab.run.attempts import attempt_folder, keep_aside
from lab.run.runner import Live, run_s
from lab.store import RunFolder, TrialFolder
from lab.words.errors import UsageError
from lab.words.record import GeneratorSeen, TrialRecord
from tests.fakes import FakeExecutor
from tests.machine import SLUG, Machine, fast_executor, requested


class StopsAfter(FakeExecutor):
    """Ctrl-C in the middle of the trial after ``left`` of them."""

    def __init__(self, left: int) -> None:
        of = fast_executor()
        super().__init__(of.rate_rps, of.latency_s, of.noise)
        self.left = left

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None]
    ) -> TrialRecord:  # fmt: skip
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().perform(trial, gotcha, condition, folder, live)


def nothing_undecided(run: RunFolder) -> Sequence[tuple[str, str, int]]:
    return []


def go_on(run: RunFolder, undecided: Callable[[RunFolder], Any] = nothing_undecided) -> Session:
    return session.resume(run, Catalog(), "embedded", True, 1, lambda *_: "", undecided)


def interrupted(machine: Machine, tmp_path: Path, after: int, **how: Any) -> RunFolder:
    machine.executor = lambda: StopsAfter(after)
    done = measure(requested(tmp_path), lambda *_: "", **how)
    assert done.interrupted and done.done == after and done.folder.partial
    machine.executor = fast_executor
    return done.folder


def verdicts(run: RunFolder) -> list[tuple[str, str, int]]:
    return [
        (claim.id, one.verdict, one.pairs)
        for gotcha in judge_run(run).gotchas for claim in gotcha.claims for one in claim.conditions
    ]  # fmt: skip


@pytest.mark.parametrize("after", [0, 1, 2, 5, 11])
def test_a_resumed_run_has_every_trial_once_and_the_verdicts_of_one_that_was_never_stopped(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    whole = measure(requested(tmp_path / "whole"), lambda *_: "").folder
    run = interrupted(machine, tmp_path, after)
    before = {folder.path: (folder.path / "trial.json").stat().st_mtime_ns for folder in run.trials(SLUG)}
    done = go_on(RunFolder(run.path))
    assert (done.done, done.total, done.failed, done.interrupted) == (12, 12, 0, False) and not run.partial
    assert verdicts(RunFolder(run.path)) == verdicts(whole)
    kept = [path for path, at in before.items() if (path / "trial.json").stat().st_mtime_ns == at]
    assert len(kept) == after - after % 2, "whole pairs stay; the arm of a pair that was cut is measured again"


def test_both_arms_of_a_pair_that_was_cut_are_measured_again_and_the_first_is_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    run = interrupted(machine, tmp_path, 3)
    (cut,) = [t for t in run.plan.trials[2:4] if run.trial(t.gotcha, t.condition, t.pair, t.variant).exists]
    go_on(run)
    assert attempt_folder(run, cut, 1).exists
    again = [run.trial(t.gotcha, t.condition, t.pair, t.variant).record for t in run.plan.trials[2:4]]
    assert [one.extra["repeated"] for one in again] == [["the run was interrupted in the middle of this pair"]] * 2
    doubts = {doubt.id for doubt in judge_run(RunFolder(run.path)).gotchas[0].doubts}
    assert "repeated_pairs" not in doubts, "an interruption says nothing against the machine"


def test_an_attempt_that_was_kept_before_the_interruption_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    run = interrupted(machine, tmp_path, 2)
    pair = run.plan.trials[:2]
    keep_aside(run, pair, 1)  # a neighbour spoiled it, and then came the power cut
    first = [attempt_folder(run, one, 1).record for one in pair]
    spoiled = iter(["a neighbour again"])
    session.resume(run, Catalog(), "embedded", True, 1, lambda *_: next(spoiled, ""), nothing_undecided)
    assert [attempt_folder(run, one, 1).record for one in pair] == first
    assert all(attempt_folder(run, one, 2).exists for one in pair)
    record = run.trial(pair[0].gotcha, pair[0].condition, pair[0].pair, pair[0].variant).record
    assert record.extra["repeated"] == ["done again before the run was interrupted", "a neighbour again"]


def test_a_second_look_that_was_interrupted_is_finished_and_not_decided_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    asked: list[RunFolder] = []

    def one_more(run: RunFolder) -> Sequence[tuple[str, str, int]]:
        asked.append(run)
        return [(SLUG, "1-s", 1)]

    run = interrupted_in_the_look(machine, tmp_path, one_more)
    assert len(run.added) == 6 and len(asked) == 1
    assert go_on(run, one_more).done == 18 and len(asked) == 1 and not run.partial
    before = machine.started
    assert go_on(run, one_more).done == 18 and machine.started == before, "nothing is left: nothing is started"


def interrupted_in_the_look(machine: Machine, tmp_path: Path, look: Callable[[RunFolder], Any]) -> RunFolder:
    calls: list[int] = []

    def executor() -> FakeExecutor:
        calls.append(1)
        return StopsAfter(14)

    machine.executor = executor
    done = measure(requested(tmp_path), lambda *_: "", look)
    machine.executor = fast_executor
    assert done.interrupted and (done.done, done.total) == (14, 18)
    return done.folder


def test_a_look_that_was_never_taken_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    run = measure(requested(tmp_path), lambda *_: "").folder
    assert go_on(run, lambda run: [(SLUG, "1-s", 1)]).total == 18


@pytest.mark.parametrize(("what", "told"), [
    ({"content_hash": "other"}, "the files of event_loop/example have changed"),
    ({"cores": 64}, "cores: 2 then, 64 now"),
    ({"packages": {"fastapi": "9.9"}}, "fastapi: none then, 9.9 now"),
    ({"services": {"postgres": "19"}}, "postgres: none then, 19 now"),
    ({"python": "3.14.0"}, "Python:  then, 3.14.0 now"),
])  # fmt: skip
def test_what_would_be_two_runs_in_one_is_refused(
    what: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    run = interrupted(machine, tmp_path, 2)
    machine.changed(**what)
    with pytest.raises(UsageError, match=told) as refused:
        go_on(run)
    assert "bench.py verdict" in refused.value.hint and len(run.trials(SLUG)) == 2


def test_a_gotcha_that_is_done_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    run = measure(requested(tmp_path), lambda *_: "").folder
    machine.changed(content_hash="other")
    assert go_on(run).done == 12


def test_a_run_that_still_goes_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    run = interrupted(machine, tmp_path, 2)
    with (run.path / "plan.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="still running"):
            go_on(run)
    assert go_on(run).done == 12


def test_the_time_that_is_told_is_that_of_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    run = interrupted(machine, tmp_path, 7)
    left = {t.pair for t in run.plan.trials}
    assert left and run_s(run.plan, run) == pytest.approx(run_s(run.plan) / 2, rel=0.2)
    go_on(run)
    assert run_s(run.plan, run) == 0


def test_the_share_under_load_counts_each_second_once_and_only_those_of_this_session(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    trials = []
    # An earlier session, then two arms of a duet that share their seconds, then a trial with a warm-up of a second.
    for variant, start_s, end_s, warmup_s in (("naive", 1, 9, 0), ("a", 20, 23, 0), ("b", 20, 24, 0), ("c", 31, 33, 1)):
        trial = TrialPlan(SLUG, "1-s", 0, variant, 7)
        seen = GeneratorSeen(1, 1, 0, (), 0.0, 0.0, "", warmup_s=float(warmup_s))
        run.trial(SLUG, "1-s", 0, variant).write(
            TrialRecord(
                SLUG, "1-s", 0, variant, 7, "ok", load_started_ns=start_s * 10**9, load_ended_ns=end_s * 10**9, generator=seen
            )
        )  # fmt: skip
        trials.append(trial)
    trials.append(TrialPlan(SLUG, "1-s", 0, "never done", 7))
    assert session.under_load_s(run, trials, 10 * 10**9) == pytest.approx(4 + 3)
