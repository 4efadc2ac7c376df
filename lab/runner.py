"""From a plan to trials on disk: does each trial through an ``Executor``, saves it at once, and keeps going when one fails."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from lab.errors import LabError, NotHereError, StoreError, UsageError
from lab.model import Burst, Condition, GotchaPlan, Journey, RunPlan, StagedLoad, TrialPlan
from lab.record import TrialRecord
from lab.store import RunFolder, TrialFolder, remove_leftovers

START_S = 1.2
PER_WORKER_S = 0.35
JOURNEY_S = 2.0
MAX_REPEATS = 2
"""Noise comes in bursts of seconds on shared machines: a third attempt is mostly quiet.  What it costs is bounded."""


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


def expected_s(condition: Condition) -> float:
    """Roughly how long a trial of this condition takes, with its overhead, for the time left."""
    load = condition.load
    if isinstance(load, Burst):
        took = max(load.every_s * load.repeats, 1.0)
    elif isinstance(load, StagedLoad):
        took = sum(stage.duration_s for stage in load.stages)
    elif isinstance(load, Journey):
        took = JOURNEY_S
    else:
        took = condition.duration_s
    return took + condition.warmup_s + START_S + PER_WORKER_S * condition.workers


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


def _pairs(plan: RunPlan) -> Iterator[list[tuple[int, TrialPlan]]]:
    """The trials in order, arms of one pair together."""
    for _, group in groupby(enumerate(plan.trials), key=lambda one: (one[1].gotcha, one[1].condition, one[1].pair)):
        yield list(group)


def run_trials(
    plan: RunPlan,
    run: RunFolder,
    executor: Executor,
    report: Callable[[Progress], None],
    disturbed: Callable[[TrialRecord, GotchaPlan], str] = lambda record, gotcha: "",
) -> int:
    """Do every trial of the plan and save each one; returns how many failed.

    A pair that was ``disturbed`` (the reason is returned) is done again ``MAX_REPEATS`` times at most, all arms of it, never one.
    Raises StoreError where results cannot be written: nothing can be kept then.  KeyboardInterrupt passes through; what was
    measured is on disk by then.
    """
    conditions = {(g.slug, c.key): c for g in plan.gotchas for c in g.conditions}
    clock = _Clock([expected_s(conditions[t.gotcha, t.condition]) for t in plan.trials])
    failed = 0
    for pair in _pairs(plan):
        for attempt in range(MAX_REPEATS + 1):
            records = []
            for index, trial in pair:
                condition = conditions[trial.gotcha, trial.condition]

                def live(
                    now: Live, index: int = index, trial: TrialPlan = trial, condition: Condition = condition
                ) -> None:
                    report(Progress(trial, condition, index, len(plan.trials), clock.left_s(index), now))

                live(Live("starting"))
                records.append(_perform(plan, trial, condition, run, executor, live))
            reasons = [reason for record in records if (reason := disturbed(record, plan.gotcha(record.gotcha)))]
            if not reasons or attempt == MAX_REPEATS:
                break
            live(Live(f"again: {reasons[0]}"))
            _keep_aside(run, pair, reasons[0])
        failed += sum(record.status == "failed" for record in records)
    return failed


def _keep_aside(run: RunFolder, pair: list[tuple[int, TrialPlan]], reason: str) -> None:
    """Log a repeated pair beside the trials, so that a reader sees that it happened."""
    _, trial = pair[0]
    line = f"{trial.gotcha} {trial.condition} pair {trial.pair}: repeated, {reason}\n"
    with (run.path / "repeated.log").open("a") as log:
        log.write(line)


def _perform(
    plan: RunPlan,
    trial: TrialPlan,
    condition: Condition,
    run: RunFolder,
    executor: Executor,
    live: Callable[[Live], None],
) -> TrialRecord:
    folder = run.trial(trial.gotcha, trial.condition, trial.pair, trial.variant)
    remove_leftovers(folder.path)
    try:
        record = executor.perform(trial, plan.gotcha(trial.gotcha), condition, folder, live)
    except (StoreError, UsageError):
        raise
    except LabError as error:
        reason = f"{error} {error.hint}".strip()
        record = TrialRecord(
            trial.gotcha,
            trial.condition,
            trial.pair,
            trial.variant,
            trial.seed,
            reason=reason,
            status="skipped" if isinstance(error, NotHereError) else "failed",
        )
    folder.write(record)
    return record
