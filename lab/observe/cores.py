"""Which cores the generator and which the target has, so that neither waits for the other (docs/method.md, section 2).

Linux only: elsewhere, and where there are too few cores, nothing is pinned and the scheduler shares them out.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

SYSFS = Path("/sys/devices/system/cpu")
ROOM = 4
"""Cores of the target beyond two a worker (its own, and one for the statement that it waits for): Redis, upstream, fault proxy, Celery.

More would only widen the part of a busy machine in which somebody else's work counts as noise.
"""


@dataclass(frozen=True)
class Cores:
    """``generator`` is for the load, its probe client and the lab itself, ``target`` for the target and its services; empty: not pinned."""

    generator: tuple[int, ...] = ()
    target: tuple[int, ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """All of them, or all that this process may use where nothing is pinned."""
        return (*self.generator, *self.target) or tuple(sorted(usable()))


SHARED = Cores()
"""Nothing is pinned."""


def divide(usable: Collection[int], target: int, generators: int, siblings: Collection[Collection[int]] = ()) -> Cores:
    """A core for each of the ``generators`` and the rest for the target, which must then have ``target`` of them; else nothing is pinned.

    ``siblings`` are CPUs that share a physical core: either side is given whole cores where that leaves a CPU for each worker; only
    where it does not may generator and target share one.
    """
    whole = _groups(usable, siblings)
    rest = len(whole) - generators
    ours = whole[max(0, rest - 2 * target - ROOM) : rest] if rest > 0 else []
    if sum(map(len, ours)) >= max(target, 1):
        return Cores(_flat(whole[rest:]), _flat(ours))
    ordered = list(chain.from_iterable(whole))
    if len(ordered) < generators + max(target, 1):
        return SHARED
    return Cores(_flat([ordered[-generators:]]), _flat([ordered[:-generators]]))


def _groups(usable: Collection[int], siblings: Collection[Collection[int]]) -> list[list[int]]:
    """The usable CPUs by physical core, in order of their first; a CPU that nothing is known of counts as a core."""
    groups = [sorted(set(group) & set(usable)) for group in siblings]
    alone = set(usable) - set(chain.from_iterable(groups))
    return sorted([group for group in groups if group] + [[cpu] for cpu in alone])


def _flat(groups: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(sorted(chain.from_iterable(groups)))


def usable() -> set[int]:
    """Cores that this process may run on; empty where that cannot be known."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def siblings(cpus: Collection[int], root: Path = SYSFS) -> tuple[tuple[int, ...], ...]:
    """Those of ``cpus`` that share a physical core with another of them, by core; empty where none does or nothing is told."""
    found = set()
    for cpu in cpus:
        with suppress(OSError, ValueError):
            listed = parse_list((root / f"cpu{cpu}/topology/thread_siblings_list").read_text())
            group = tuple(sorted(listed & set(cpus)))
            if len(group) > 1:
                found.add(group)
    return tuple(sorted(found))


def parse_list(text: str) -> set[int]:
    """CPUs as the kernel lists them: ``0,4`` or ``0-3,8``.  Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@contextmanager
def on(cores: Collection[int]) -> Iterator[None]:
    """This thread runs on these cores inside the block, and so does every process and thread that it starts there."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def place(pids: Iterable[int], cores: Collection[int]) -> None:
    """Move processes that run already, with all their threads; one that is gone, or belongs to somebody else, stays where it is."""
    if not cores:
        return
    for pid in pids:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    os.sched_setaffinity(int(thread.name), cores)
