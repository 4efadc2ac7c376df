"""The guard: a small process that outlives the lab by a moment and takes everything down that the lab had started.

It reads lines from a pipe whose write end only the lab holds.  End of file means that the lab is gone, however it went (kill -9
included): the registered process groups get their stop signal, then KILL; processes that carry this run's marker in their
environment and left their group are killed (Linux); the registered folders are removed.  Standard library only.

    group <pgid> <signal>    take this group down at the end
    forget <pgid>            it is gone already; the number may be used again by somebody else
    folder <path>            remove this folder at the end
    removed <path>           it is gone already; the name may be used again by somebody else
    sweep <path>             remove the half-written files (.*.tmp) in this folder at the end, and nothing else
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARKER = "LAB_GUARD"
GRACE_S = 3.0


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, group and start (ticks since boot) of a process; None where it is gone, or where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[2]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def started(pid: int) -> int:
    """When a process began, in ticks since boot: with its number it never names another process.  0 where that cannot be known."""
    seen = _stat(pid)
    return seen[2] if seen else 0


def _carries(pid: int, marker: str) -> bool:
    try:
        return f"{MARKER}={marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def signal_exactly(pid: int, start: int, number: int) -> None:
    """Signal the process that began at ``start`` and no other one that has been given its number since."""
    with contextlib.suppress(OSError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, number)
            return
        handle = os.pidfd_open(pid)
        try:
            if started(pid) == start:  # looked at after the handle was taken: the handle cannot move to another process
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def marked(marker: str) -> list[tuple[int, int]]:
    """Pid and start of every process whose environment carries the marker (Linux; none elsewhere)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        start = started(int(entry.name))
        if start and int(entry.name) != os.getpid() and _carries(int(entry.name), marker):
            found.append((int(entry.name), start))
    return found


class Group:
    """A registered process group: the signal that stops it, when its leader began, and the members that were seen (pid and start)."""

    def __init__(self, pgid: int, number: int) -> None:
        self.pgid = pgid
        self.number = number
        self.start = started(pgid)
        self.known: set[tuple[int, int]] = set()

    def members(self, running: dict[int, set[tuple[int, int]]], marker: str) -> set[tuple[int, int]]:
        """Its processes among those that run (by group), none where the number belongs to another group by now.

        The kernel gives a group's number away once the last member has left.  So it is ours as long as its leader is the one that was
        registered or a member is there that was seen before; where neither is known, a member must carry the marker.
        """
        found = running.get(self.pgid, set())
        leader = started(self.pgid)
        if not found & self.known and (not leader or leader != self.start):
            found = {one for one in found if not leader and _carries(one[0], marker)}
        self.known |= found
        return found


def _running() -> dict[int, set[tuple[int, int]]]:
    """Pid and start of every process that is not a zombie (its parent, the lab, may never have reaped it), by group."""
    found: dict[int, set[tuple[int, int]]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        seen = _stat(int(entry.name))
        if seen and seen[0] not in "ZX":
            found.setdefault(seen[1], set()).add((int(entry.name), seen[2]))
    return found


def _signal_groups(groups: dict[int, Group], marker: str, number: int | None) -> bool:
    """Send each group its stop signal, or ``number`` (0: none), last started first; returns whether anybody was there."""
    running, there = _running(), False
    if not running:  # no /proc: macOS
        for pgid, group in reversed(groups.items()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pgid, group.number if number is None else number)
                there = True
        return there
    for group in reversed(groups.values()):
        for pid, start in group.members(running, marker):
            there = True
            if number != 0:
                signal_exactly(pid, start, group.number if number is None else number)
    return there


def take_down(groups: dict[int, Group], marker: str, folders: list[str]) -> None:
    """Stop the groups in reverse order of their start, kill what is left, remove the folders."""
    _signal_groups(groups, marker, None)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and _signal_groups(groups, marker, 0):
        time.sleep(0.02)
    for _ in range(20):
        there = _signal_groups(groups, marker, signal.SIGKILL)
        left = marked(marker)
        for pid, start in left:
            signal_exactly(pid, start, signal.SIGKILL)
        if not left and not there:
            break
        time.sleep(0.05)
    for folder in folders:
        for _ in range(5):  # a dying process may still write into it
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break
            time.sleep(0.05)


def main(marker: str) -> None:
    """Read until the lab is gone, then clean up."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, Group] = {}
    folders: list[str] = []
    swept: list[str] = []
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "group":
            pgid, number = rest.split()
            groups[int(pgid)] = Group(int(pgid), int(number))
            sys.stdout.write("ok\n")
            sys.stdout.flush()
        elif word == "forget":
            groups.pop(int(rest), None)
        elif word == "folder":
            folders.append(rest)
        elif word == "removed" and rest in folders:
            folders.remove(rest)
        elif word == "sweep":
            swept.append(rest)
    take_down(groups, marker, folders)
    for folder in swept:
        for path in Path(folder).rglob(".*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
