"""What one core of generator sends: the lab's users, Locust's FastHttpUser, and wrk where it is on the PATH, at the same null server."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.generator.engine import Measured, job_of, load_child
from lab.locate import ROOT, scenario_file
from lab.model import SAMPLE_COLUMNS, ClosedLoad, Condition
from lab.observe.cores import on
from lab.ports import PortReservation, is_listening
from lab.processes import Guard, wait_until
from lab.words.errors import LabError

USERS = 32
ROUNDS = 2
QUICK_S = 1.0
WINDOW_S = 0.25
"""A ceiling is what can be reached: the best quarter of a second, so that a neighbour who takes the core for the rest does not count."""
FAST_USER = """
from locust import FastHttpUser, constant, task


class Fast(FastHttpUser):
    wait_time = constant(0)

    @task
    def read(self):
        self.client.get("/")
"""


def _cores() -> tuple[set[int], set[int]]:
    """The generator's core and the server's; the same where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, {cores[-1]}


def measure(guard: Guard, seconds: float) -> dict[str, float]:
    """Requests per second by generator: ``lab``, ``fast_http_user`` and ``wrk`` (only where it is on the PATH).

    The best of ``ROUNDS`` rounds in turns: a ceiling is what can be reached, and a neighbour on the host takes half of it for seconds.
    """
    folder = guard.temporary_folder("ceiling-")
    found: dict[str, float] = {}
    with _null_server(guard, folder) as url, on(_cores()[0]):
        for turn in range(ROUNDS):
            seen = {
                "lab": _lab(guard, url, folder / f"lab-{turn}", seconds),
                "fast_http_user": _fast(url, folder, seconds),
            }
            if shutil.which("wrk"):
                seen["wrk"] = _wrk(url, seconds)
            found = {name: max(rate, found.get(name, 0.0)) for name, rate in seen.items()}
    return found


def quick_ceiling(guard: Guard) -> float | None:
    """Requests per second of one generator process at the null target, in about two seconds; None where it cannot be had."""
    folder = guard.temporary_folder("ceiling-")
    try:
        with _null_server(guard, folder) as url, on(_cores()[0]):
            measured = _reader(guard, url, folder / "lab", QUICK_S)
            return best_rate(measured)
    except (LabError, OSError):
        return None


@contextlib.contextmanager
def _null_server(guard: Guard, folder: Path) -> Iterator[str]:
    """The null target on its own core; its address."""
    with PortReservation() as reservation:
        with on(_cores()[1]):
            command = [sys.executable, "-m", "lab.selftest.null_server", "--port", str(reservation.port)]
            null = guard.spawn(command, env={**os.environ}, cwd=ROOT, log_path=folder / "null.log", name="null server")
        try:
            wait_until(lambda: is_listening(reservation.port), 10, null, "the null server to listen")
            yield f"http://127.0.0.1:{reservation.port}"
        finally:
            null.stop(2.0)


def _reader(guard: Guard, url: str, folder: Path, seconds: float) -> Measured:
    condition = Condition("ceiling", ClosedLoad(USERS), duration_s=seconds, user="Reader")
    with load_child(guard, folder, {}) as child:
        job = job_of(scenario_file("selftest/ceiling"), condition, "null", url, 1)
        return child.run(job, seconds + 10, lambda at_ns: None, lambda message: None)


def best_rate(measured: Measured) -> float:
    """Answers per second in the best ``WINDOW_S`` of a load that lasted at least so long."""
    import numpy as np

    done_ns = np.load(measured.samples)[:, SAMPLE_COLUMNS.index("done_ns")]
    windows = int((measured.ended_ns - measured.started_ns) / 1e9 / WINDOW_S)
    edges = measured.started_ns + (np.arange(max(windows, 1) + 1) * WINDOW_S * 1e9).astype(np.int64)
    return float(np.histogram(done_ns, bins=edges)[0].max() / WINDOW_S)


def _lab(guard: Guard, url: str, folder: Path, seconds: float) -> float:
    import numpy as np

    measured = _reader(guard, url, folder, seconds)
    rows = len(np.load(measured.samples, mmap_mode="r"))
    return rows / ((measured.ended_ns - measured.started_ns) / 1e9)


def _fast(url: str, folder: Path, seconds: float) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as where:
        path = Path(where) / "fast.py"
        path.write_text(FAST_USER)
        command = [sys.executable, "-m", "locust", "-f", str(path), "--headless", "-u", str(USERS), "-r", "100", "-t", f"{seconds + 2:.0f}s",
                   "-H", url, "--json", "--skip-log", "-L", "ERROR"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    # the middle of the run: Locust's own average would count the ramp
    rates = [count for entry in json.loads(done.stdout) for count in entry["num_reqs_per_sec"].values()]
    full = sorted(rates)[len(rates) // 2 :] if rates else [0]
    return float(sum(full) / len(full))


def _wrk(url: str, seconds: float) -> float:
    command = ["wrk", "-t1", f"-c{USERS}", f"-d{seconds:.0f}s", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    match = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    return float(match[1]) if match else 0.0
