"""Which cores the generator and which the target has, so that neither waits for the other (method.md, section 2).

Linux only: elsewhere, and where there are too few cores, nothing is pinned and the scheduler shares them out.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """``generator`` is for the load, its probe client and the lab itself, ``target`` for the target and its services; empty: not pinned."""

    generator: tuple[int, ...] = ()
    target: tuple[int, ...] = ()


SHARED = Cores()
"""Nothing is pinned."""


def divide(usable: Collection[int], target: int, generators: int) -> Cores:
    """A core for each of the ``generators`` and the rest for the target, which must then have ``target`` of them; else nothing is pinned."""
    ordered = sorted(usable)
    if len(ordered) < generators + max(target, 1):
        return SHARED
    return Cores(tuple(ordered[-generators:]), tuple(ordered[:-generators]))


def usable() -> set[int]:
    """Cores that this process may run on; empty where that cannot be known."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


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
