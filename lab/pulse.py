"""How fast each core is at the moment: a small fixed computation on every core, twenty times a second.

On a shared host a neighbour on the sibling of a core takes nearly half of its speed for seconds, and neither steal nor load shows it: the
guest's core is busy all the time, it only computes less.  CPU time grows with it, so CPU per request is not safe from it either.

``python -m lab.pulse FILE`` appends (CLOCK_MONOTONIC ns, CPU ns of the computation) as int64 pairs to a file until its standard input ends.
"""

import array
import hashlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from lab.cores import on, usable
from lab.processes import Child, Guard

PERIOD_S = 0.05
ROUNDS = 300  # of PBKDF2: about 70 us, in registers and the first cache
ROW_BYTES = 16
WINDOW_S = 0.3  # of "now": six pulses
FEWEST = 3
QUIET = 0.15  # slower than this by the clock of the best pulse is not quiet; a quiet core wavers by 5 to 15 %
LIMIT_S = 6 * 3600.0


def beat(path: Path) -> None:
    """Append a row every ``PERIOD_S`` until standard input ends."""
    end = time.monotonic() + LIMIT_S
    with path.open("ab", buffering=0) as file:
        while time.monotonic() < end and not select.select([sys.stdin], [], [], PERIOD_S)[0]:
            hashlib.pbkdf2_hmac("sha256", b"warm", b"up", 10)
            before = time.thread_time_ns()
            hashlib.pbkdf2_hmac("sha256", b"a core", b"speed", ROUNDS)
            file.write(array.array("q", (time.monotonic_ns(), time.thread_time_ns() - before)).tobytes())


class Pulses:
    """Watches the cores under a guard.  Where cores cannot be chosen (not Linux) nothing is watched and every answer is None.

    ``machine`` names what the best pulse belongs to: it is kept in the user's cache, for a run may have no quiet moment of its own.
    """

    def __init__(self, guard: Guard, machine: str, cache: Path | None = None) -> None:
        self._folder = guard.temporary_folder("pulse-")
        self._machine = machine
        self._cache = cache or user_cache_path("fastapi-gotcha-lab") / "core-speed.json"
        self._seen: dict[int, list[tuple[int, int]]] = {core: [] for core in usable()}
        self._children = [self._start(guard, core) for core in self._seen]

    def _start(self, guard: Guard, core: int) -> Child:
        with on({core}):
            return guard.spawn(
                [sys.executable, "-m", "lab.pulse", str(self._path(core))], env={**os.environ}, cwd=Path(__file__).parent.parent,
                log_path=self._folder / "pulse.log", name=f"pulse of core {core}", pipes=True,
            )  # fmt: skip

    def _path(self, core: int) -> Path:
        return self._folder / f"core-{core}.rows"

    def _read(self) -> None:
        for core, rows in self._seen.items():
            try:
                with self._path(core).open("rb") as file:
                    file.seek(len(rows) * ROW_BYTES)
                    data = file.read()
            except OSError:
                continue
            values = array.array("q", data[: len(data) - len(data) % ROW_BYTES])
            rows += zip(values[::2], values[1::2], strict=True)

    def best_ns(self) -> int:
        """The fastest pulse that this machine ever made; 0 where there is none."""
        found = [took for rows in self._seen.values() for _, took in rows]
        kept = _kept(self._cache).get(self._machine)
        return min([*found, *([kept] if kept else [])], default=0)

    def slowdown(self, start_ns: int, end_ns: int, cores: Collection[int] = ()) -> float | None:
        """By what share the slowest of these cores (default: any) was slower than the best pulse: 0.8 took 1.8 times as long on average."""
        self._read()
        best, found = self.best_ns(), []
        for core in cores or self._seen:
            took = [took for at, took in self._seen.get(core, ()) if start_ns <= at <= end_ns]
            if len(took) >= FEWEST and best:
                found.append(sum(took) / len(took) / best - 1)
        return max(found, default=None)

    def now(self, cores: Collection[int] = ()) -> float | None:
        """The slow-down of the last moment."""
        at = time.monotonic_ns()
        return self.slowdown(at - int(WINDOW_S * 1e9), at, cores)

    def wait_until_quiet(
        self, patience_s: float, cores: Collection[int] = (), waiting: Callable[[float], None] = lambda slowdown: None
    ) -> float:
        """Wait for a moment in which the cores are fast, at most ``patience_s``; returns the seconds waited."""
        began = time.monotonic()
        while (slowdown := self.now(cores)) is not None and slowdown > QUIET:
            if time.monotonic() - began >= patience_s:
                break
            waiting(slowdown)
            time.sleep(PERIOD_S)
        return time.monotonic() - began

    def close(self) -> None:
        """Stop the pulses and keep the best one for the next run."""
        self._read()
        for child in self._children:
            child.stop(1.0)
        best = self.best_ns()
        kept = _kept(self._cache)
        if best and best != kept.get(self._machine):
            try:
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                aside = self._cache.with_suffix(f".{os.getpid()}.tmp")
                aside.write_text(json.dumps({**kept, self._machine: best}))
                aside.replace(self._cache)
            except OSError:
                return  # the next run finds its own


def _kept(path: Path) -> Mapping[str, int]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


if __name__ == "__main__":
    beat(Path(sys.argv[1]))
