"""The services of a run, up together and down together, under one guard."""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.processes import Guard
from lab.services.kind import Running, Start, kind_of, with_needed
from lab.services.postgres import Postgres
from lab.services.redis import Redis
from lab.words.errors import LabError, NotHereError, UsageError

MODES = ("embedded", "system")


class Services:
    """The services that a run needs, and what those need.  A context manager; ``guard`` starts everything else under it.

    ``up`` holds those that run, by name.  One whose program is not on this machine is in ``missing`` with the reason: what needs it is
    skipped, the rest of the run is not.
    """

    def __init__(
        self, needed: Collection[str], *, mode: str = "embedded", log_folder: Path,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Raises UsageError for a mode or a service that there is not."""
        if mode not in MODES:
            raise UsageError(f"--services {mode!r}", f"It is one of {', '.join(MODES)}.")
        self._names = [name for name in with_needed(tuple(needed)) if kind_of(name).start is not None]
        self._mode = mode
        self._log_folder = log_folder
        self._settings = postgres_settings or {}
        self.guard = Guard()
        self.up: dict[str, Running] = {}
        self.missing: dict[str, NotHereError] = {}

    @property
    def postgres(self) -> Postgres | None:
        """PostgreSQL, where the run has one."""
        found = self.up.get("postgres")
        return found if isinstance(found, Postgres) else None

    @property
    def redis(self) -> Redis | None:
        """Redis, where the run has one."""
        found = self.up.get("redis")
        return found if isinstance(found, Redis) else None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(self.guard)
        self._stack.callback(self._stop)
        try:
            self._start(self._names)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _start(self, names: Iterable[str]) -> None:
        """Start these: at once what needs nothing, the others in order after it."""
        names = list(names)
        first = [name for name in names if not kind_of(name).needs]
        with ThreadPoolExecutor(max(1, len(first))) as pool:
            for started in [pool.submit(self._start_one, name) for name in first]:
                started.result()
        for name in names:
            if kind_of(name).needs:
                self._start_one(name)

    def _start_one(self, name: str) -> None:
        start = kind_of(name).start
        assert start is not None
        try:
            self.up[name] = start(Start(self.guard, self._log_folder, self._mode, self._settings, self.up))
        except NotHereError as error:
            self.missing[name] = error

    def _stop(self) -> None:
        """Stop all, those that need others first; the rest too where one cannot be stopped."""
        with ExitStack() as stack:
            for name in self._names:
                if name in self.up:
                    stack.callback(self.up[name].stop)
        self.up.clear()

    def require(self, names: Collection[str]) -> None:
        """Raises NotHereError where one of these could not be had on this machine."""
        for name in with_needed(tuple(names)):
            if name in self.missing:
                raise self.missing[name]

    def problem(self, used: Collection[str]) -> str:
        """What is wrong with the services that a gotcha uses, or an empty string."""
        found = [self.up[name].problem() for name in with_needed(tuple(used)) if name in self.up]
        return "; ".join(problem for problem in found if problem)

    def revive(self) -> bool:
        """Start again what has died since the last trial; returns whether PostgreSQL is another one now.  Raises ServiceError.

        A server of the user's that is away is asked again before each trial.  What stands before a service that was started again is
        started again as well.
        """
        dead: list[str] = []
        for name in self._names:
            running = self.up.get(name)
            fine = name in self.missing or (running is not None and not running.problem())
            if not fine or set(kind_of(name).needs) & {*dead}:
                dead.append(name)
        for name in reversed(dead):
            _give_up(self.up.pop(name, None))
        for name in dead:
            self._start_one(name)
        return "postgres" in dead

    @property
    def versions(self) -> dict[str, str]:
        """Version and source of each service, for the record."""
        return {name: f"{one.version} ({one.source})" for name, one in self.up.items()}


def _give_up(service: Running | None) -> None:
    """Take down what is left of a service that has died; what cannot be dropped on a server that is away stays there."""
    if service is not None:
        with suppress(LabError):
            service.stop()
