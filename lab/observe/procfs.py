"""Single processes as the kernel tells of them: CPU time, children, start, memory.

On Linux from ``/proc``, elsewhere from psutil, which knows less: no CPU time of ended children, and memory is resident memory.
"""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

PROC = Path("/proc")
TICK_NS = 1_000_000_000 // (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
"""The unit of the CPU times and the start time in ``/proc/<pid>/stat``, 10 ms nearly everywhere."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
READ_BYTES = 65_536
TRIES = 3  # a thread that ends while it is read: its children pass to another thread of the same process, so looking again finds them


class Key(NamedTuple):
    """One process, never another: a pid is given again, a pid with its start is not.  ``start`` is in ticks since the boot."""

    pid: int
    start: int


@dataclass(frozen=True)
class Look:
    """A process at one moment.

    ``reaped_ns`` is the CPU time of the children that it has waited for, with all that those had waited for: kept by the kernel in
    nanoseconds, told in ticks, user and system time apart, so that it is up to two ticks too small, however many children there were.
    """

    key: Key
    parent: int
    session: int
    reaped_ns: int
    threads: int
    rss_bytes: int


def is_linux() -> bool:
    """Whether there is a ``/proc`` of the Linux kind."""
    return (PROC / "self/task").exists()


def now_ticks() -> int:
    """The clock that ``Key.start`` is read from."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS
    return time.time_ns() // TICK_NS


def process_cpu_ns(pid: int) -> int | None:
    """CPU time of a whole process so far, its ended threads too, or None where it is gone.  One that ended unwaited for still has it."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, OverflowError):
        pass
    try:
        times = psutil.Process(pid).cpu_times()
        return int((times.user + times.system) * 1e9)
    except psutil.Error:
        return None


def parse_stat(pid: int, text: str) -> Look:
    """A line of ``/proc/<pid>/stat``; the name in it may hold spaces and brackets.  Raises ValueError, IndexError."""
    rest = text[text.rindex(")") + 1 :].split()
    return Look(
        Key(pid, int(rest[19])), int(rest[1]), int(rest[3]), (int(rest[13]) + int(rest[14])) * TICK_NS, int(rest[17]),
        int(rest[21]) * PAGE_BYTES,
    )  # fmt: skip


def _read(path: str) -> str:
    """A file of the kernel's at a fifth of the cost of Path.read_text: ten a second for each process are many.  Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, READ_BYTES), b"")).decode(errors="replace")
    finally:
        os.close(file)


def look(pid: int) -> Look | None:
    """A process now, or None where it is gone or hidden."""
    try:
        return parse_stat(pid, _read(f"{PROC}/{pid}/stat"))
    except (OSError, ValueError, IndexError):
        return None if is_linux() else _look_elsewhere(pid)


def _look_elsewhere(pid: int) -> Look | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            reaped_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            return Look(
                Key(pid, int(process.create_time() * 1e9) // TICK_NS), process.ppid(), 0, int(reaped_s * 1e9),
                process.num_threads(), process.memory_info().rss,
            )  # fmt: skip
    except psutil.Error:
        return None


def pss_bytes(pid: int) -> int | None:
    """Proportional memory: a page that n processes share counts as an n-th in each.  None where the process is gone.

    The kernel walks the page tables for it, about a millisecond a process.  Raises PermissionError where it may not be read.
    """
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except PermissionError:
        raise
    except OSError:
        if not (PROC / "self/smaps_rollup").exists():
            raise PermissionError("no smaps_rollup here") from None
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


@dataclass
class Kin:
    """Who is whose child, for one reading: asked of each process, and of all processes (once) where that does not work."""

    _all: list[Look] | None = field(default=None, repr=False)

    def everybody(self) -> Sequence[Look]:
        """All processes of the machine: some ten microseconds each."""
        if self._all is None:
            pids = [int(one.name) for one in PROC.iterdir() if one.name.isdigit()] if is_linux() else psutil.pids()
            self._all = [seen for pid in pids if (seen := look(pid)) is not None]
        return self._all

    @functools.cached_property
    def _by_parent(self) -> Mapping[int, list[int]]:
        found: dict[int, list[int]] = {}
        for seen in self.everybody():
            found.setdefault(seen.parent, []).append(seen.key.pid)
        return found

    def children(self, pid: int) -> list[int]:
        """Children of all threads of a process."""
        tasks = PROC / str(pid) / "task"
        if _has_children_files():
            for _ in range(TRIES):
                try:
                    lists = [(thread / "children").read_text() for thread in tasks.iterdir()]
                except OSError:
                    if not tasks.exists():
                        return []
                    continue
                return [int(child) for text in lists for child in text.split()]
        return self._by_parent.get(pid, [])


@functools.cache
def _has_children_files() -> bool:
    """Kernels built without CONFIG_PROC_CHILDREN have no such file."""
    return (PROC / "self/task" / str(os.getpid()) / "children").exists()


def descendants(pid: int) -> list[int]:
    """A process and all below it, parents before their children; gone ones are left out."""
    kin, found, queue = Kin(), dict[int, None](), [pid]
    while queue:
        current = queue.pop()
        if current not in found and look(current) is not None:
            found[current] = None
            queue += kin.children(current)
    return list(found)
