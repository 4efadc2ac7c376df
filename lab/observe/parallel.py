"""How much work the CPUs do at once: two that share a physical core, or whose host is full, do less than twice the work of one.

Neither shows as steal or as somebody else's CPU time, in particular not in a virtual machine, whose topology is what the host says it is.
"""

import hashlib
import os
import threading
import time
from collections.abc import Collection

WORK = b"\0" * (4 << 20)
"""Hashed outside the interpreter's lock: 2 to 20 ms, longer than a thread takes to start, short beside a load."""
LOOKS = 5
"""The best of so many: what is asked is whether the cores are there, not whether something ran for a moment."""


def _hash_on(cpu: int, at: threading.Barrier | None, took: dict[int, float]) -> None:
    os.sched_setaffinity(0, {cpu})  # of this thread alone
    if at:
        at.wait()
    begin = time.perf_counter()
    hashlib.sha256(WORK).digest()
    took[cpu] = time.perf_counter() - begin


def _run(cpus: Collection[int], at: threading.Barrier | None) -> dict[int, float]:
    took: dict[int, float] = {}
    threads = [threading.Thread(target=_hash_on, args=(cpu, at, took)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def cores_worth(cpus: Collection[int]) -> float:
    """How many cores' work these CPUs do at once: as many as there are, less where they slow each other down.

    The same hash on each CPU alone and on all together; the best of ``LOOKS``.  Raises OSError for a CPU that this process may not use.
    """
    worth = 0.0
    for _ in range(LOOKS):
        alone = {cpu: _run([cpu], None)[cpu] for cpu in cpus}
        together = _run(cpus, threading.Barrier(len(cpus)))
        worth = max(worth, sum(alone[cpu] / together[cpu] for cpu in cpus))
    return min(worth, float(len(cpus)))


def cores_missing(cpus: Collection[int]) -> float:
    """What these CPUs lack of the work of so many cores, as a share; 0 where threads cannot be put on a CPU (not on Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        return 0.0
    return 1 - cores_worth(cpus) / len(cpus)
