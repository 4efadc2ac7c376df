"""What the parts of the self-test are made of: its finished trials, and words for what was read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import OK, Trial
from analysis.gates import Cell, check_gates
from analysis.metrics import Refusal, measure
from lab.model import Condition, GotchaPlan, RunPlan

Figures: TypeAlias = dict[str, Any]
"""A part's figures as they are stored: ``ok`` is True, False, or None where this machine cannot have the part."""


class NotDone(Exception):
    """A part has not all of its trials: ``ok`` is None where the machine cannot have them, else False."""

    def __init__(self, reason: str, ok: bool | None) -> None:
        super().__init__(reason)
        self.ok = ok


@dataclass(frozen=True)
class Material:
    """The plan, the trials by part, the requests per second of the generators, and the self-tests that were stored before."""

    plan: RunPlan
    trials: Mapping[str, Sequence[Trial]]
    rates: Mapping[str, float]
    earlier: Sequence[Mapping[str, Any]] = ()

    def part(self, name: str) -> GotchaPlan:
        """The plan of a part."""
        return self.plan.gotcha(f"selftest/{name}")

    def all_of(self, name: str) -> list[Trial]:
        """The trials of a part.  Raises NotDone where one failed or is missing."""
        trials = list(self.trials.get(name, ()))
        for trial in trials:
            if trial.record.status != "ok":
                reason = f"{trial.record.condition}: {trial.record.reason or trial.record.status}"
                raise NotDone(reason, None if trial.record.status == "skipped" else False)
        planned = sum(one.gotcha == f"selftest/{name}" for one in self.plan.trials)
        if len(trials) < planned:
            raise NotDone(f"{planned - len(trials)} of {planned} trials are missing", False)
        return trials

    def by_condition(self, name: str) -> list[tuple[Condition, Trial]]:
        """The trials of a part that has one of each condition, with their conditions, in the plan's order."""
        trials = {trial.record.condition: trial for trial in self.all_of(name)}
        return [(condition, trials[condition.key]) for condition in self.part(name).conditions]


def times_s(trial: Trial, later: str = "done_ns", earlier: str = "planned_ns") -> NDArray[np.float64]:
    """``later - earlier`` of the answered requests, in seconds."""
    ok = trial.column("outcome") == OK
    return np.asarray((trial.column(later)[ok] - trial.column(earlier)[ok]) / 1e9, dtype=np.float64)


def answered(trial: Trial) -> int:
    """Requests that got an answer."""
    return int(np.count_nonzero(trial.column("outcome") <= 1))


def cpu_s(trial: Trial) -> float:
    """CPU seconds of the server a request."""
    return trial.record.processes["server"].cpu_ns / 1e9 / answered(trial)


def number(trial: Trial, gotcha: GotchaPlan, condition: Condition, metric: str) -> float:
    """A metric of a trial.  Raises NotDone where it is refused."""
    value = measure(trial, gotcha, condition, metric)
    if isinstance(value, Refusal):
        raise NotDone(f"{condition.label}: {metric}: {value.reason}", False)
    return float(value)


def failed_gates(gotcha: GotchaPlan, condition: Condition, trials: Sequence[Trial]) -> dict[str, str]:
    """The gates that fail on these trials, and what each says."""
    facts: list[TrialFacts] = [reduce_trial(trial, gotcha, condition, ()) for trial in trials]
    return {gate.gate: gate.detail for gate in check_gates(Cell(condition, facts)) if gate.passed is False}


def log_sd(values: Sequence[float]) -> float:
    """The spread of positive values: the standard deviation of their logarithms."""
    return float(np.std([math.log(value) for value in values], ddof=1))


def word(ok: bool | None) -> str:
    """How a line of a planted fault ends."""
    return "not tried here" if ok is None else "ok" if ok else "NOT CAUGHT"
