"""The services of a run, up together and down together, under one guard."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.errors import UsageError
from lab.processes import Guard
from lab.services.postgres import Postgres, start_postgres
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
        try:
            with ThreadPoolExecutor(2) as pool:
                postgres = redis = None
                if "postgres" in self._needed:
                    postgres = pool.submit(start_postgres, self.guard, self._log_folder, self._mode, self._settings)
                if self._needed & {"redis", "celery"}:
                    redis = pool.submit(start_redis, self.guard, self._log_folder, self._mode)
                if postgres is not None:
                    self.postgres = postgres.result()
                    self._stack.callback(self.postgres.stop)
                if redis is not None:
                    self.redis = redis.result()
                    self._stack.callback(self.redis.stop)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def versions(self) -> dict[str, str]:
        """Version and source of each service, for the record."""
        found = {}
        if self.postgres:
            found["postgres"] = f"PostgreSQL {self.postgres.version} ({self.postgres.source})"
        if self.redis:
            found["redis"] = f"{self.redis.version} ({self.redis.source})"
        return found
