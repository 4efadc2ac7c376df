"""Performs the self-test's trials and the ceiling; what they mean is ``analysis.selftest``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from lab.environment import capture
from lab.runner import run_trials
from lab.selftest.ceiling import measure
from lab.selftest.plan import make_selftest_plan
from lab.services.supervisor import Services
from lab.store import RunFolder, new_run
from lab.terminal import Screen
from lab.trial import RealExecutor

CEILING_S = 3.0


def perform(results: Path, full: bool, seed: int, quiet: bool) -> tuple[RunFolder, Mapping[str, float]]:
    """Do it; returns the run's folder and requests per second by generator.  Raises LabError."""
    folder = new_run(results, "selftest")
    plan = make_selftest_plan(folder.name, datetime.now(UTC).isoformat(timespec="seconds"), seed, full)
    folder.write_plan(plan)
    screen = Screen(quiet)
    with Services((), log_folder=folder.path / "services") as services:
        folder.write_environment(capture(services.versions))
        rates = measure(services.guard, CEILING_S)
        with screen.running():
            run_trials(plan, folder, RealExecutor(services), screen.show)
    return folder, rates
