"""How fast each core is at the moment: a small fixed computation on every core, twenty times a second.

On a shared host a neighbour on the sibling of a core takes nearly half of its speed for seconds, and neither steal nor load shows it: the
guest's core is busy all the time, it only computes less.  CPU time grows with it, by up to four fifths here: so CPU per request is expressed
at the speed of the best pulse wherever the target had cores of its own (``analysis.speed``).

``python -m lab.pulse FILE`` appends (CLOCK_MONOTONIC ns, CPU ns of the computation) as int64 pairs to a file until its standard input ends.
"""

import array
import hashlib
import json
import os
import select
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from lab.cores import on, usable
from lab.processes import Child, Guard
from lab.record import PulseSeen

PERIOD_S = 0.05
ROUNDS = 300  # of PBKDF2: about 70 us, after as much of a warm-up; in registers and the first cache
ROW_BYTES = 16
FEWEST = 3
LIMIT_S = 6 * 3600.0


def beat(path: Path) -> None:
    """Append a row every ``PERIOD_S`` until standard input ends."""
    end = time.monotonic() + LIMIT_S
    with path.open("ab", buffering=0) as file:
        while time.monotonic() < end and not select.select([sys.stdin], [], [], PERIOD_S)[0]:
            hashlib.pbkdf2_hmac(
                "sha256", b"warm", b"up", ROUNDS
            )  # a core that was idle takes its time to be itself again
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

    def during(self, start_ns: int, end_ns: int, cores: Collection[int] = ()) -> PulseSeen | None:
        """The pulses of these cores (default: all) between two instants; None below ``FEWEST``."""
        self._read()
        rows = [row for core in cores or self._seen for row in self._seen.get(core, ()) if start_ns <= row[0] <= end_ns]
        return PulseSeen(self.best_ns(), tuple(sorted(rows))) if len(rows) >= FEWEST else None

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
