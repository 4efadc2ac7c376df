"""From a plan to trials on disk: does each trial through an ``Executor``, saves it at once, and keeps going when one fails."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from lab.model import Condition, GotchaPlan, RunPlan, TrialPlan
from lab.run.attempts import keep_aside, resumed, with_reasons
from lab.store import RunFolder, TrialFolder, remove_leftovers
from lab.words.errors import LabError, NotHereError, StoreError, UsageError
from lab.words.lengths import trial_s
from lab.words.record import TrialRecord

MAX_REPEATS = 2
"""Noise comes in bursts of seconds on shared machines: a third attempt is mostly quiet.  What it costs is bounded."""
Spoiled: TypeAlias = Callable[[Sequence[TrialRecord], GotchaPlan, Condition, Sequence[TrialFolder]], str]
"""Why a whole pair must be done again, from the records and folders of all its arms, or ""."""


@dataclass(frozen=True)
class Live:
    """What the load looks like right now."""

    phase: str
    rate_rps: float = 0.0
    p99_s: float = 0.0
    errors: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a run stands.  ``left_s`` is the estimated time left."""

    trial: TrialPlan
    condition: Condition
    index: int
    total: int
    left_s: float
    live: Live


class Executor(Protocol):
    """Performs one trial.  The real one starts servers; the fake one of the tests answers from a formula."""

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        """Do it, write samples into ``folder`` and return the record.  Raises LabError where the trial failed."""
        ...

    def perform_duet(
        self, trials: Sequence[TrialPlan], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder],
        live: Callable[[Live], None],
    ) -> list[TrialRecord]:  # fmt: skip
        """Do all arms of a pair at once, and return their records in the order of ``trials``.  Raises LabError where the duet failed."""
        ...


def expected_s(condition: Condition) -> float:
    """Roughly how long a trial of this condition takes, with its overhead, for the time left."""
    return trial_s(condition.load, condition.duration_s, condition.warmup_s, condition.workers)


TRUST_S = 30.0
"""The first trials say little: the expectation counts like this many seconds that went as expected."""


class _Clock:
    """Time left: the expected seconds of what is to do, scaled by how the expectation has held so far."""

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = expected
        self._started = time.monotonic()
        self._at, self._began = 0, self._started

    def left_s(self, index: int) -> float:
        if index != self._at:
            self._at, self._began = index, time.monotonic()
        took, done = self._began - self._started, sum(self._expected[:index])
        scale = min((took + TRUST_S) / (done + TRUST_S), 4.0)
        return max(0.0, scale * sum(self._expected[index:]) - (time.monotonic() - self._began))


def _pairs(trials: Sequence[TrialPlan]) -> Iterator[list[tuple[int, TrialPlan]]]:
    """The trials in order with their places, arms of one pair together."""
    for _, group in groupby(enumerate(trials), key=lambda one: (one[1].gotcha, one[1].condition, one[1].pair)):
        yield list(group)


def run_s(plan: RunPlan, run: RunFolder | None = None) -> float:
    """Roughly how long all trials of a plan take that ``run`` has not yet, in seconds; the arms of a duet run at once."""
    conditions = {(gotcha.slug, one.key): one for gotcha in plan.gotchas for one in gotcha.conditions}
    total = 0.0
    for pair in _pairs(plan.trials):
        condition = conditions[pair[0][1].gotcha, pair[0][1].condition]
        if run is None or not _done(run, pair):
            total += expected_s(condition) * (1 if condition.duet else len(pair))
    return total


def run_trials(
    plan: RunPlan,
    run: RunFolder,
    executor: Executor,
    report: Callable[[Progress], None],
    spoiled: Spoiled = lambda records, gotcha, condition, folders: "",
    added: Sequence[TrialPlan] = (),
) -> int:
    """Do every trial of the plan, or those that were ``added`` to it later, and save each one; returns how many failed.

    A pair that is ``spoiled`` is done again ``MAX_REPEATS`` times at most, all arms of it, never one; its attempts are kept.
    Raises StoreError where results cannot be written: nothing can be kept then.  KeyboardInterrupt passes through; what was
    measured is on disk by then.  Pairs that are there already are left as they are: an interrupted run goes on.
    """
    trials, before = (added, len(plan.trials)) if added else (plan.trials, 0)
    conditions = {(g.slug, c.key): c for g in plan.gotchas for c in g.conditions}
    there = {index for pair in _pairs(trials) if _done(run, pair) for index, _ in pair}
    clock = _Clock([0.0 if i in there else expected_s(conditions[t.gotcha, t.condition]) for i, t in enumerate(trials)])

    def live(index: int, now: Live) -> None:
        trial = trials[index]
        condition = conditions[trial.gotcha, trial.condition]
        report(Progress(trial, condition, before + index, before + len(trials), clock.left_s(index), now))

    failed = 0
    for pair in _pairs(trials):
        condition = conditions[pair[0][1].gotcha, pair[0][1].condition]
        records = _done(run, pair) or _perform_pair(plan, pair, condition, run, executor, live, spoiled)
        failed += sum(record.status == "failed" for record in records)
    return failed


def _done(run: RunFolder, pair: Sequence[tuple[int, TrialPlan]]) -> list[TrialRecord]:
    """The records of a pair that is measured already; empty unless all its arms are."""
    folders = [run.trial(t.gotcha, t.condition, t.pair, t.variant) for _, t in pair]
    return [folder.record for folder in folders] if all(folder.exists for folder in folders) else []


def _perform_pair(
    plan: RunPlan, pair: Sequence[tuple[int, TrialPlan]], condition: Condition, run: RunFolder, executor: Executor,
    live: Callable[[int, Live], None], spoiled: Spoiled,
) -> list[TrialRecord]:  # fmt: skip
    """The records of the last attempt."""
    arms = [trial for _, trial in pair]
    reasons = resumed(run, arms)
    most = len(reasons) + MAX_REPEATS
    while True:
        records = []
        folders = [
            run.trial(t.gotcha, t.condition, t.pair, t.variant) for t in arms
        ]  # anew: a folder remembers its record
        for together in [pair] if condition.duet else [[one] for one in pair]:
            index, wanted = together[0][0], [trial for _, trial in together]
            own = [folder for folder, trial in zip(folders, arms, strict=True) if trial in wanted]
            live(index, Live("starting"))
            for record, folder in zip(
                _perform(plan, wanted, condition, own, executor, lambda now, index=index: live(index, now)), own, strict=True,  # type: ignore[misc]
            ):  # fmt: skip
                records.append(with_reasons(record, reasons))
                folder.write(records[-1])
        if len(reasons) == most:
            return records
        reason = spoiled(records, plan.gotcha(arms[0].gotcha), condition, folders)
        if not reason:
            return records
        reasons.append(reason)
        live(pair[-1][0], Live(f"again: {reason}"))
        keep_aside(run, arms, len(reasons))


def _perform(
    plan: RunPlan, trials: Sequence[TrialPlan], condition: Condition, folders: Sequence[TrialFolder], executor: Executor,
    live: Callable[[Live], None],
) -> list[TrialRecord]:  # fmt: skip
    """The records of one trial, or of the arms of a duet.  Whatever goes wrong is their own failure: the next one is done all the same."""
    status: Literal["failed", "skipped"] = "failed"
    gotcha = plan.gotcha(trials[0].gotcha)
    for folder in folders:
        remove_leftovers(folder.path)
    try:
        if condition.duet:
            return executor.perform_duet(trials, gotcha, condition, folders, live)
        return [executor.perform(trials[0], gotcha, condition, folders[0], live)]
    except (StoreError, UsageError):
        raise
    except LabError as error:
        reason = f"{error} {error.hint}".strip()
        status = "skipped" if isinstance(error, NotHereError) else "failed"
    except Exception as error:  # a driver, a broken disk of a service, a defect of the lab
        reason = _where(error)
    return [TrialRecord(one.gotcha, one.condition, one.pair, one.variant, one.seed, status, reason) for one in trials]


def _where(error: Exception) -> str:
    """An error that nobody expected, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
