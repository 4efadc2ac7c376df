"""Whether connections lead to the workers evenly, and which must be reopened where they do not.  Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

UNKNOWN = 0
"""The pid of a worker that does not name itself: the wrapper is off, nobody answered, or the server closes after each answer."""


def is_even(workers: Mapping[int, int], wanted: int) -> bool:
    """Whether ``wanted`` workers (pids to connections) have as many each, up to one."""
    counts = sorted([*workers.values(), *([0] * (wanted - len(workers)))])
    return UNKNOWN not in workers and len(counts) == wanted and counts[-1] - counts[0] <= 1


def surplus(pids: Sequence[int], wanted: int, first: int | None = None) -> list[int]:
    """Which connections (by index) must be reopened so that ``wanted`` workers have as many each, up to one.

    Where they do not come out even some workers have one more: those that have most already.  Several processes must not choose the
    same: theirs are, once all workers are known, those from the ``first`` on in the order of their pids.
    """
    share, more = divmod(len(pids), wanted)
    counts = Counter(pid for pid in pids if pid != UNKNOWN)
    if first is not None and len(counts) == wanted:
        known = sorted(counts)
        favoured = [known[(first + n) % wanted] for n in range(more)]
    else:
        favoured = sorted(counts, key=lambda pid: (-counts[pid], pid))[:more]
    left = {pid: share + (pid in favoured) for pid in counts}
    found = []
    for index, pid in enumerate(pids):
        if left.get(pid, 0) > 0:
            left[pid] -= 1
        else:
            found.append(index)
    return found
