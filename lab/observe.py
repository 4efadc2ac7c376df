"""CPU, memory and connections around a load, seen from outside.

CPU is read from each process's own CPU clock (``clock_gettime`` on ``(~pid << 3) | 2``: nanoseconds, all threads, other processes
too), because ``/proc/<pid>/stat`` counts in ticks of 10 ms; psutil where there is no such clock.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lab.record import ProcessUse

POLL_S = 0.1
ACTIVITY_POLL_S = 0.02


def process_cpu_ns(pid: int) -> int | None:
    """CPU time of a whole process so far, or None where it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, OverflowError):
        pass
    try:
        times = psutil.Process(pid).cpu_times()
        return int((times.user + times.system) * 1e9)
    except psutil.Error:
        return None


def descendants(pid: int) -> list[int]:
    """A process and all below it; gone ones are left out."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        if current in found:
            continue
        try:
            threads = list(Path(f"/proc/{current}/task").iterdir())
            found.append(current)
            for thread in threads:
                queue += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            if not Path("/proc/self/task").exists():  # not Linux
                try:
                    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
                except psutil.Error:
                    return []
    return found


def _memory_and_threads(pid: int) -> tuple[int, int]:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return process.memory_info().rss, process.num_threads()
    except psutil.Error:
        return 0, 0


@dataclass
class _Tree:
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    rss_peak: int = 0
    threads_peak: int = 0

    @property
    def used_ns(self) -> int:
        """CPU time since the start, of processes that are gone too."""
        return sum(self.last[pid] - self.first[pid] for pid in self.last)


class TreeWatch:
    """What named process trees use between ``start`` and ``stop``.  ``roots`` gives the root pids when asked (they may change)."""

    def __init__(self, roots: Mapping[str, Callable[[], Iterable[int]]]) -> None:
        self._roots = roots
        self._trees = {name: _Tree() for name in roots}
        self.series: list[tuple[int, ...]] = []
        """Rows of (monotonic ns, CPU ns since ``start`` of each tree in the order of ``roots``), one a reading."""

    def _read(self, *, starting: bool) -> None:
        at_ns = time.monotonic_ns()
        for name, roots in self._roots.items():
            tree = self._trees[name]
            rss = threads = 0
            for root in roots():
                for pid in descendants(root):
                    cpu = process_cpu_ns(pid)
                    if cpu is None:
                        continue
                    # A process that appears later was born during the load: all its CPU time counts.
                    tree.first.setdefault(pid, cpu if starting else 0)
                    tree.last[pid] = cpu
                    more_rss, more_threads = _memory_and_threads(pid)
                    rss, threads = rss + more_rss, threads + more_threads
            tree.rss_peak = max(tree.rss_peak, rss)
            tree.threads_peak = max(tree.threads_peak, threads)
        self.series.append((at_ns, *(tree.used_ns for tree in self._trees.values())))

    def start(self) -> None:
        """Take the baseline."""
        self._read(starting=True)

    def poll(self) -> None:
        """Look again: peaks, and the CPU time of processes that may be gone later."""
        self._read(starting=False)

    def stop(self) -> dict[str, ProcessUse]:
        """Take the last reading and return the differences."""
        self._read(starting=False)
        return {
            name: ProcessUse(
                cpu_ns=tree.used_ns, rss_peak_bytes=tree.rss_peak, processes=len(tree.last), threads_peak=tree.threads_peak,
            )
            for name, tree in self._trees.items()
        }  # fmt: skip


class Poller:
    """Calls ``look`` every ``period_s`` on a thread until stopped; an error ends it and is raised by ``stop``."""

    def __init__(self, look: Callable[[], None], period_s: float) -> None:
        self._look = look
        self._period_s = period_s
        self._done = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.started = False

    def _run(self) -> None:
        while not self._done.wait(self._period_s):
            try:
                self._look()
            except Exception as error:
                self._error = error
                return

    def start(self) -> None:
        """Begin."""
        self.started = True
        self._thread.start()

    def stop(self) -> Exception | None:
        """End, and return the error that ended it early, if any."""
        self._done.set()
        self._thread.join(timeout=5)
        return self._error
