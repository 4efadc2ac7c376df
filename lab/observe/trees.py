"""CPU and memory of process trees around a load, seen from outside.

CPU is read from each process's own CPU clock (nanoseconds, all threads, other processes too), because ``/proc/<pid>/stat`` counts in
ticks.  A process that lives shorter than the time between two readings is in its parent's total of waited-for children, which is read
in ticks (``lab.observe.procfs.Look``): what that total holds of children that were seen alive is taken off, so that each counts once.

No rights are needed, and some things are not seen: a child that nobody waits for (the parent ignores SIGCHLD) and a process that left
the tree (its parent died), from their last reading on; what a root uses between its last reading and its end; up to two ticks of each
parent's short-lived children.  Whoever leaves both tree and session before he is ever seen is never found.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.observe.procfs import Key, Kin, Look, descendants, look, now_ticks, process_cpu_ns, pss_bytes
from lab.words.record import ProcessUse

POLL_S = 0.1
ACTIVITY_POLL_S = 0.02
THOROUGH_S = 0.5
"""Between two thorough readings: proportional memory (about a millisecond a process) and a search of all processes for orphans."""
THOROUGH_COST = 20
"""A thorough reading may come again after this many times what the last one took: at most 5 % of a core."""
PASSES = 5  # a reading in which a process vanished is done again, so that its parent's total holds it


@dataclass
class _Known:
    """A process that was seen; ``*_first`` is what it had used when the load began.

    ``owed_ns`` is what its total of waited-for children holds of processes that were seen alive, and counted by themselves.
    """

    parent: Key | None
    own_first: int
    reaped_first: int
    own_last: int = 0
    reaped_last: int = 0
    owed_ns: int = 0
    counted: bool = True
    gone: bool = False

    @property
    def used_ns(self) -> int:
        """CPU time since the start, with that of children that were never seen."""
        unseen = self.reaped_last - self.reaped_first - self.owed_ns
        return self.own_last - self.own_first + max(0, unseen)


@dataclass(frozen=True)
class _Seen:
    look: Look
    own_ns: int


@dataclass
class _Tree:
    known: dict[Key, _Known] = field(default_factory=dict)
    now: list[Look] = field(default_factory=list)
    rss_peak: int = 0
    pss_peak: int | None = None
    pss_denied: bool = False
    threads_peak: int = 0

    def _walk(self, pids: Iterable[int], kin: Kin) -> Iterator[_Seen]:
        """The processes and all below them, and everybody known, wherever he is now.

        A parent is looked at before its children: a child that can still be read was not in the total that was read before it.
        """
        visited: set[int] = set()
        for start in (*pids, *(key.pid for key, one in self.known.items() if not one.gone)):
            queue = [start]
            while queue:
                pid = queue.pop()
                seen = None if pid in visited else look(pid)
                own_ns = None if seen is None else process_cpu_ns(pid)
                if seen is not None and own_ns is not None:
                    visited.add(pid)
                    yield _Seen(seen, own_ns)
                    queue += kin.children(pid)

    def take(
        self, pids: Iterable[int], excluded: Callable[[], Collection[int]], began: int, *, starting: bool, kin: Kin
    ) -> bool:
        """One reading; whether a process has vanished since the last."""
        left_out = set(excluded())
        seen = list(self._walk(pids, kin))
        left_out |= set(excluded())
        keys = {one.look.key.pid: one.look.key for one in seen}
        for one in seen:
            self._update(one, keys.get(one.look.parent), left_out, born=not starting and one.look.key.start >= began)
        self.now = [one.look for one in seen if self.known[one.look.key].counted]
        self.rss_peak = max(self.rss_peak, sum(one.rss_bytes for one in self.now))
        self.threads_peak = max(self.threads_peak, sum(one.threads for one in self.now))
        return self._settle(set(keys.values()))

    def _update(self, seen: _Seen, parent: Key | None, left_out: Collection[int], *, born: bool) -> None:
        key, reaped_ns = seen.look.key, seen.look.reaped_ns
        if key not in self.known:
            # Who was born during the load has used nothing before; who is older and was missed counts from here.
            self.known[key] = _Known(parent, 0 if born else seen.own_ns, 0 if born else reaped_ns)
        known = self.known[key]
        known.parent, known.own_last, known.reaped_last = parent, seen.own_ns, reaped_ns
        above = self.known.get(parent) if parent else None
        known.counted = known.counted and key.pid not in left_out and (above is None or above.counted)

    def _settle(self, present: Collection[Key]) -> bool:
        """Who is gone was waited for by his parent, or by the next one above where that is gone too."""
        gone = [one for key, one in self.known.items() if not one.gone and key not in present]
        for one in gone:
            one.gone = True
        for one in gone:
            heir = self.known.get(one.parent) if one.parent else None
            while heir is not None and heir.gone:
                heir = self.known.get(heir.parent) if heir.parent else None
            if heir is not None:
                heir.owed_ns += one.own_last + one.reaped_last
        return bool(gone)

    def measure_memory(self) -> None:
        """Proportional memory of the processes of the last reading."""
        try:
            total = sum(pss_bytes(one.key.pid) or 0 for one in self.now)
        except PermissionError:
            self.pss_denied = True
            return
        self.pss_peak = max(self.pss_peak or 0, total)

    @property
    def used_ns(self) -> int:
        """CPU time since the start, of processes that are gone too."""
        return sum(one.used_ns for one in self.known.values() if one.counted)

    def use(self) -> ProcessUse:
        """The whole."""
        proportional = self.pss_peak is not None and not self.pss_denied
        return ProcessUse(
            cpu_ns=self.used_ns, rss_peak_bytes=self.pss_peak or 0 if proportional else self.rss_peak,
            processes=sum(one.counted for one in self.known.values()), threads_peak=self.threads_peak,
            memory_kind="pss" if proportional else "rss",
        )  # fmt: skip


class TreeWatch:
    """What named process trees use between ``start`` and ``stop``.

    ``roots`` gives the root pids when asked (they may change), ``exclude`` pids that are in a tree but do not belong to it, such as the
    lab's own database connections.  A tree that never had a process (a service of somebody else) is absent from the result.
    """

    def __init__(
        self, roots: Mapping[str, Callable[[], Iterable[int]]], exclude: Mapping[str, Callable[[], Collection[int]]] | None = None
    ) -> None:  # fmt: skip
        self._roots = roots
        self._exclude = exclude or {}
        self._trees = {name: _Tree() for name in roots}
        self._rows: list[tuple[int, tuple[int, ...]]] = []
        self._began = 0
        self._thorough_at_ns = 0

    @property
    def _present(self) -> list[str]:
        return [name for name, tree in self._trees.items() if tree.known]

    @property
    def series(self) -> list[tuple[int, ...]]:
        """Rows of (monotonic ns, CPU ns since ``start`` of each tree in the order of the result), one a reading."""
        columns = [list(self._trees).index(name) for name in self._present]
        return [(at_ns, *(used[column] for column in columns)) for at_ns, used in self._rows]

    def _read(self, *, starting: bool = False, thorough: bool = False) -> None:
        at_ns, kin = time.monotonic_ns(), Kin()
        for name, tree in self._trees.items():
            excluded = self._exclude.get(name, tuple)
            for _ in range(PASSES):
                roots = list(self._roots[name]())
                pids = [*roots, *_of_their_sessions(roots, kin)] if thorough else roots
                if not tree.take(pids, excluded, self._began, starting=starting, kin=kin):
                    break
            if thorough:
                tree.measure_memory()
        if thorough:
            ended_ns = time.monotonic_ns()
            self._thorough_at_ns = ended_ns + max(int(THOROUGH_S * 1e9), THOROUGH_COST * (ended_ns - at_ns))
        self._rows.append((at_ns, tuple(tree.used_ns for tree in self._trees.values())))

    def start(self) -> None:
        """Take the baseline."""
        self._began = now_ticks()
        self._read(starting=True)
        self._thorough_at_ns = time.monotonic_ns() + int(THOROUGH_S * 1e9)

    def poll(self) -> None:
        """Look again: peaks, and the CPU time of processes that may be gone later."""
        self._read(thorough=time.monotonic_ns() >= self._thorough_at_ns)

    def stop(self) -> dict[str, ProcessUse]:
        """Take the last reading and return the differences."""
        self._read(thorough=True)
        return {name: self._trees[name].use() for name in self._present}


def _of_their_sessions(roots: Iterable[int], kin: Kin) -> list[int]:
    """Orphans: who lost his parent is no longer below the root, but still in its session.

    Only of roots that lead their session: all who are in it descend from them.
    """
    sessions = {pid for pid in roots if (seen := look(pid)) is not None and seen.session == pid}
    return [one.key.pid for one in kin.everybody() if one.session in sessions] if sessions else []


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


__all__ = ["ACTIVITY_POLL_S", "POLL_S", "Poller", "TreeWatch", "descendants", "process_cpu_ns"]
