"""Trials of a small app, performed for real: plans, records and what they leave behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.model import (
    ClosedLoad,
    Condition,
    GotchaPlan,
    Probe,
    RunPlan,
    TrialPlan,
)
from lab.run.runner import Live, run_trials
from lab.run.trial import RealExecutor
from lab.services.postgres import Postgres
from lab.services.supervisor import Services
from lab.store import RunFolder
from lab.words.record import TrialRecord
from tests.fakes import gotcha_plan

ITEMS = "CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 10)"


def small_plan(name: str, condition: Condition, **changes: Any) -> GotchaPlan:
    """A gotcha over the self-test's users, who ask for ``/``."""
    base = gotcha_plan(conditions=(condition,), slug=f"selftest/{name}")
    return replace(base, variants=("light",), probes=(Probe("/"),), **changes)


def run_plan(*gotchas: GotchaPlan, pairs: int = 1) -> RunPlan:
    trials = [
        TrialPlan(one.slug, condition.key, pair, "light", 5)
        for one in gotchas for condition in one.conditions for pair in range(pairs)
    ]  # fmt: skip
    return RunPlan("run", "quick", 5, "now", gotchas, tuple(trials), pairs)


def records(run: RunFolder, plan: RunPlan) -> list[TrialRecord]:
    return [run.trial(t.gotcha, t.condition, t.pair, t.variant).record for t in plan.trials]


def perform(
    plan: RunPlan, folder: Path, services: Services, live: Callable[[Live], None] = lambda now: None
) -> list[TrialRecord]:
    run = RunFolder(folder)
    run.write_plan(plan)
    run_trials(plan, run, RealExecutor(services), lambda progress: live(progress.live))
    return records(run, plan)


def ten_requests(**options: Any) -> Condition:
    return Condition("ten", ClosedLoad(2, requests=10), duration_s=5.0, user="Reader", **options)


def leftovers(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir())


def admin_of(services: Services) -> Postgres:
    assert services.postgres is not None
    return services.postgres
