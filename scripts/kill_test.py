"""kill -9 of `bench.py` at random moments of a run: nothing may be left but whole results.

    uv run scripts/kill_test.py [--kills 20] [--seed 1] [--gotcha in_process_limiter]

After each kill it looks for processes that the run had started (by the environment marker that all children carry), listening ports of
theirs, temporary folders, and results that cannot be read.  Exit code 1 if anything was found.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
LONGEST_S = 14.0
SETTLE_S = 8.0
MINE = "LAB_KILL_TEST"


def carrying(marker: str) -> dict[int, str]:
    """Pid and command of the processes whose environment carries the marker."""
    needle, found = f"{MINE}={marker}".encode(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(bytes(1), b" ").decode()[:80]
        except OSError:
            continue
    return found


def ports_of(pids: Iterable[int]) -> set[int]:
    """Ports on which these processes listen."""
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(pid).net_connections(kind="tcp")
            found |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def listening() -> set[int]:
    """Loopback ports on which somebody listens."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].split(":")[1], 16) for line in lines if line.split()[3] == "0A"}


def unreadable(results: Path) -> list[str]:
    """Results that are not whole: JSON that does not parse, or a file that was being written."""
    bad = [str(path) for path in results.rglob("*.tmp")]
    for path in results.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            bad.append(str(path))
    return bad


def one(number: int, after_s: float, gotcha: str) -> list[str]:
    """Start a run, kill it, and say what is left."""
    marker = f"{os.getpid()}-{number}"
    with tempfile.TemporaryDirectory(prefix="kill-test-") as where:
        temporary, results = Path(where) / "tmp", Path(where) / "results"
        temporary.mkdir(mode=0o755)
        Path(where).chmod(0o755)  # PostgreSQL runs under another account where we are root
        command = [sys.executable, "bench.py", "run", gotcha, "--quiet", "--results", str(results)]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, MINE: marker, "TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(after_s)  # the random moment is what is tested
        ports = ports_of(carrying(marker))
        process.kill()
        process.wait()
        deadline = time.monotonic() + SETTLE_S
        while (carrying(marker) or any(temporary.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [f"process {pid} {command}" for pid, command in carrying(marker).items()]
        left += [f"folder {one.name}" for one in temporary.iterdir()]
        left += [f"port {one}" for one in listening() & ports]
        left += [f"result {one}" for one in unreadable(results)]
    return left


def main() -> int:
    """Kill, look, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gotcha", default="in_process_limiter")
    options = parser.parse_args()
    draw, bad = random.Random(options.seed), 0
    for number in range(options.kills):
        after_s = draw.uniform(0.1, LONGEST_S)
        left = one(number, after_s, options.gotcha)
        bad += bool(left)
        print(
            f"kill {number + 1}/{options.kills} after {after_s:.1f} s: {'; '.join(left) or 'nothing left'}", flush=True
        )
    print(f"{options.kills} kills, {bad} with something left")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
