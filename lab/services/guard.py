"""The guard: a small process that outlives the lab by a moment and takes everything down that the lab had started.

It reads lines from a pipe whose write end only the lab holds.  End of file means that the lab is gone, however it went (kill -9
included): the registered process groups get their stop signal, then KILL; processes that carry this run's marker in their
environment and left their group are killed (Linux); the registered folders are removed.  Standard library only.

    group <pgid> <signal>    take this group down at the end
    forget <pgid>            it is gone already; the number may be used again by somebody else
    folder <path>            remove this folder at the end
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


def _signal_group(pgid: int, number: int) -> bool:
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _alive(pgid: int) -> bool:
    """Whether a group has a member that is not a zombie (its parent, the lab, may never have reaped it)."""
    if not _signal_group(pgid, 0):
        return False
    if not Path("/proc/self/stat").exists():
        return True
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == pgid and fields[0] not in "ZX":
                    return True
    return False


def marked(marker: str) -> list[int]:
    """Pids of processes whose environment carries the marker (Linux; none elsewhere)."""
    needle = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def take_down(groups: dict[int, int], marker: str, folders: list[str]) -> None:
    """Stop the groups in reverse order of their start, kill what is left, remove the folders."""
    for pgid, number in reversed(groups.items()):
        _signal_group(pgid, number)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and any(_alive(pgid) for pgid in groups):
        time.sleep(0.02)
    for pgid in groups:
        _signal_group(pgid, signal.SIGKILL)
    for _ in range(20):
        left = marked(marker)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not left:
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
    groups: dict[int, int] = {}
    folders: list[str] = []
    swept: list[str] = []
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "group":
            pgid, number = rest.split()
            groups[int(pgid)] = int(number)
            sys.stdout.write("ok\n")
            sys.stdout.flush()
        elif word == "forget":
            groups.pop(int(rest), None)
        elif word == "folder":
            folders.append(rest)
        elif word == "sweep":
            swept.append(rest)
    take_down(groups, marker, folders)
    for folder in swept:
        for path in Path(folder).rglob(".*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
