"""Performs the self-test's trials and the ceiling; what they mean is ``analysis.selftest``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lab.model import Condition, GotchaPlan, TrialPlan
from lab.observe.machine import capture
from lab.run.runner import Live, run_trials
from lab.run.trial import RealExecutor
from lab.selftest.ceiling import measure
from lab.selftest.plan import BARE, FOREIGN, make_selftest_plan
from lab.services.redis import Redis, start_redis
from lab.services.supervisor import Services
from lab.store import RunFolder, TrialFolder, new_run
from lab.terminal import Screen
from lab.words.errors import NotHereError, ServiceError
from lab.words.record import TrialRecord

CEILING_S = 2.0  # of each round


class SelfTestExecutor:
    """An executor that leaves the lab's wrapper out of the one variant that is there to measure it, and lends one part somebody's Redis."""

    def __init__(self, services: Services, logs: Path) -> None:
        self._services, self._logs = services, logs
        self._with, self._without = RealExecutor(services), RealExecutor(services, observe=False)

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        """See ``lab.run.runner.Executor``."""
        if trial.gotcha == FOREIGN:
            with beside_a_foreign_redis(self._services, self._logs) as services:
                return RealExecutor(services).perform(trial, gotcha, condition, folder, live)
        executor = self._without if trial.variant == BARE else self._with
        return executor.perform(trial, gotcha, condition, folder, live)

    def perform_duet(
        self, trials: Sequence[TrialPlan], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder],
        live: Callable[[Live], None],
    ) -> list[TrialRecord]:  # fmt: skip
        """See ``lab.run.runner.Executor``."""
        return self._with.perform_duet(trials, gotcha, condition, folders, live)


@contextmanager
def beside_a_foreign_redis(ours: Services, logs: Path) -> Iterator[Services]:
    """Services with a Redis that the lab only has the address of: another guard of the lab runs it.

    Raises NotHereError where there is none on this platform.
    """
    try:
        theirs = start_redis(ours.guard, logs, "embedded")
    except ServiceError as error:
        raise NotHereError(f"there is no Redis to play somebody else's: {error}", error.hint) from error
    try:
        with Services((), log_folder=logs) as services:
            services.up["redis"] = Redis(theirs.url, "somebody else's")
            yield services
    finally:
        theirs.stop()


def perform(results: Path, full: bool, seed: int, quiet: bool) -> tuple[RunFolder, Mapping[str, float]]:
    """Do it; returns the run's folder and requests per second by generator.  Raises LabError."""
    folder = new_run(results, "selftest")
    plan = make_selftest_plan(folder.name, datetime.now(UTC).isoformat(timespec="seconds"), seed, full)
    folder.write_plan(plan)
    screen = Screen(quiet)
    logs = folder.path / "services"
    with Services((), log_folder=logs) as services:
        folder.write_environment(capture(services.versions))
        rates = measure(services.guard, CEILING_S)
        with screen.running():
            run_trials(plan, folder, SelfTestExecutor(services, logs), screen.show)
    return folder, rates
