"""One load shared among several generator processes: what each of them does, so that the parts add up to the whole exactly."""

from dataclasses import replace
from pathlib import Path

from lab.model import Burst, ClosedLoad, Journey, Load


def processes_for(load: Load, wanted: int) -> int:
    """How many processes may carry a load: at most one a user or connection, and one for a burst, whose instant is one clock's."""
    if isinstance(load, Burst):
        return 1
    return max(1, min(wanted, members(load)))


def members(load: Load) -> int:
    """How many users a load has from the start, each with a connection."""
    if isinstance(load, ClosedLoad | Journey):
        return load.users
    return load.requests if isinstance(load, Burst) else load.connections


def part_of(total: int, process: int, processes: int) -> int:
    """How many of ``total`` fall to a process when they are dealt round, like cards."""
    return (total - process + processes - 1) // processes


def share_of(load: Load, process: int, processes: int) -> Load:
    """The part of one process: its users, connections and requests.  The arrivals of an open load are shared by ``Trace.share``."""
    if processes == 1 or isinstance(load, Burst):
        return load
    if isinstance(load, ClosedLoad):
        requests = load.requests
        if requests is not None:
            before = sum(part_of(load.users, one, processes) for one in range(process))
            after = before + part_of(load.users, process, processes)
            requests = requests * after // load.users - requests * before // load.users
        return replace(load, users=part_of(load.users, process, processes), requests=requests)
    if isinstance(load, Journey):
        return replace(load, users=part_of(load.users, process, processes))
    return replace(load, connections=part_of(load.connections, process, processes))


def arm_folder(folder: Path, variant: str) -> Path:
    """Where a duet leaves what it measured of an arm."""
    return folder / f"arm-{variant}"
