"""Performs the self-test's trials and the ceiling; what they mean is ``analysis.selftest``."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from lab.environment import capture
from lab.model import Condition, GotchaPlan, TrialPlan
from lab.record import TrialRecord
from lab.runner import Live, run_trials
from lab.selftest.ceiling import measure
from lab.selftest.plan import BARE, make_selftest_plan
from lab.services.supervisor import Services
from lab.store import RunFolder, TrialFolder, new_run
from lab.terminal import Screen
from lab.trial import RealExecutor

CEILING_S = 2.0  # of each round


class WithAndWithoutWrapper:
    """An executor that leaves the lab's wrapper out of the one variant that is there to measure it."""

    def __init__(self, services: Services) -> None:
        self._with, self._without = RealExecutor(services), RealExecutor(services, observe=False)

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        """See ``lab.runner.Executor``."""
        executor = self._without if trial.variant == BARE else self._with
        return executor.perform(trial, gotcha, condition, folder, live)


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
            run_trials(plan, folder, WithAndWithoutWrapper(services), screen.show)
    return folder, rates
