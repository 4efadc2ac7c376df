"""How exactly an open loop keeps its schedule: 1,000/s against a null server.

uv run benchmarks/schedule_fidelity.py [SECONDS]
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, it would not find the lab

import numpy as np

from lab.generator.engine import job_of, load_child
from lab.locate import ROOT, scenario_file
from lab.model import SAMPLE_COLUMNS, Condition, OpenLoad
from lab.ports import PortReservation, is_listening
from lab.processes import Guard, wait_until

RATE_PER_S = 1000.0
SECONDS = 5.0


def fidelity(guard: Guard, seconds: float) -> dict[str, tuple[float, float]]:
    """Client lag (dispatched - planned) and service time, each as p50 and p99 in milliseconds."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    folder = guard.temporary_folder("fidelity-")
    try:
        with PortReservation() as reservation:
            os.sched_setaffinity(0, {cores[-1]})
            command = [sys.executable, "-m", "lab.selftest.null_server", "--port", str(reservation.port)]
            null = guard.spawn(command, env={**os.environ}, cwd=ROOT, log_path=folder / "null.log", name="null server")
            wait_until(lambda: is_listening(reservation.port), 10, null, "the null server to listen")
            os.sched_setaffinity(0, {cores[0]})
            condition = Condition("fidelity", OpenLoad(RATE_PER_S), duration_s=seconds, user="Reader")
            with load_child(guard, folder / "load", {}) as child:
                job = job_of(
                    scenario_file("selftest/fidelity"), condition, "null", f"http://127.0.0.1:{reservation.port}", 1
                )
                measured = child.run(job, seconds + 10, lambda at_ns: None, lambda message: None)
                rows = np.load(measured.samples)
            null.stop(2.0)
    finally:
        os.sched_setaffinity(0, before)
    at = {name: rows[:, index] for index, name in enumerate(SAMPLE_COLUMNS)}
    times = {"dispatch lag": at["dispatched_ns"] - at["planned_ns"], "service time": at["done_ns"] - at["sent_ns"]}
    return {name: (float(np.quantile(ns, 0.5)) / 1e6, float(np.quantile(ns, 0.99)) / 1e6) for name, ns in times.items()}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with Guard() as guard:
        found = fidelity(guard, seconds)
    for name, (p50_ms, p99_ms) in found.items():
        print(f"{name:>13}: p50 {p50_ms:.3f} ms, p99 {p99_ms:.3f} ms at {RATE_PER_S:,.0f}/s")


if __name__ == "__main__":
    main()
