"""The services of a run, up together and down together, under one guard."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.errors import LabError, UsageError
from lab.processes import Guard
from lab.services.postgres import Postgres
from lab.services.postgres_start import start_postgres
from lab.services.redis import Redis, start_redis

MODES = ("embedded", "system")


class Services:
    """PostgreSQL and Redis as far as they are needed.  A context manager; ``guard`` starts everything else under it.

    Celery's broker is the same Redis, so ``celery`` brings Redis with it.
    """

    def __init__(
        self, needed: Collection[str], *, mode: str = "embedded", log_folder: Path,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if mode not in MODES:
            raise UsageError(f"--services {mode!r}", f"It is one of {', '.join(MODES)}.")
        self._needed = set(needed)
        self._mode = mode
        self._log_folder = log_folder
        self._settings = postgres_settings or {}
        self.guard = Guard()
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(self.guard)
        self._stack.callback(self._stop)
        try:
            with ThreadPoolExecutor(2) as pool:
                postgres = pool.submit(self._start_postgres) if "postgres" in self._needed else None
                redis = pool.submit(self._start_redis) if self._needed & {"redis", "celery"} else None
                for started in (postgres, redis):
                    if started is not None:
                        started.result()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _start_postgres(self) -> None:
        self.postgres = start_postgres(self.guard, self._log_folder, self._mode, self._settings)

    def _start_redis(self) -> None:
        self.redis = start_redis(self.guard, self._log_folder, self._mode)

    def _stop(self) -> None:
        """Stop both; the second one too where the first cannot be stopped."""
        with ExitStack() as stack:
            for service in (self.postgres, self.redis):
                if service is not None:
                    stack.callback(service.stop)
        self.postgres = self.redis = None

    def problem(self, used: Collection[str]) -> str:
        """What is wrong with the services that a gotcha uses, or an empty string."""
        found = []
        if self.postgres is not None and "postgres" in used:
            found.append(self.postgres.problem())
        if self.redis is not None and set(used) & {"redis", "celery"}:
            found.append(self.redis.problem())
        return "; ".join(problem for problem in found if problem)

    def revive(self) -> bool:
        """Start again what has died since the last trial; returns whether PostgreSQL is another one now.  Raises ServiceError.

        A server of the user's that is away is asked again before each trial.
        """
        changed = False
        if "postgres" in self._needed and (self.postgres is None or self.postgres.problem()):
            old, self.postgres = self.postgres, None
            _give_up(old)
            self._start_postgres()
            changed = True
        if self._needed & {"redis", "celery"} and (self.redis is None or self.redis.problem()):
            old_redis, self.redis = self.redis, None
            _give_up(old_redis)
            self._start_redis()
        return changed

    @property
    def versions(self) -> dict[str, str]:
        """Version and source of each service, for the record."""
        found = {}
        if self.postgres:
            found["postgres"] = f"PostgreSQL {self.postgres.version} ({self.postgres.source})"
        if self.redis:
            found["redis"] = f"{self.redis.version} ({self.redis.source})"
        return found


def _give_up(service: Postgres | Redis | None) -> None:
    """Take down what is left of a service that has died; what cannot be dropped on a server that is away stays there."""
    if service is not None:
        with suppress(LabError):
            service.stop()
