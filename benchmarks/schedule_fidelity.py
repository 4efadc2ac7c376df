"""How exactly an open loop keeps its schedule: 1,000/s against a null server.  ``uv run -m benchmarks.schedule_fidelity``"""

import os
import sys

import numpy as np

from lab.load import job_of, load_child
from lab.locate import ROOT, scenario_file
from lab.model import SAMPLE_COLUMNS, Condition, OpenLoad
from lab.processes import Guard, PortReservation, is_listening, wait_until

RATE_PER_S = 1000.0
SECONDS = 5.0


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with Guard() as guard, PortReservation() as reservation:
        folder = guard.temporary_folder("fidelity-")
        os.sched_setaffinity(0, {cores[-1]})
        command = [sys.executable, "-m", "lab.selftest.null_server", "--port", str(reservation.port)]
        null = guard.spawn(command, env={**os.environ}, cwd=ROOT, log_path=folder / "null.log", name="null server")
        wait_until(lambda: is_listening(reservation.port), 10, null, "the null server to listen")
        os.sched_setaffinity(0, {cores[0]})
        condition = Condition("fidelity", OpenLoad(RATE_PER_S), duration_s=SECONDS, user="Reader")
        with load_child(guard, folder / "load", {}) as child:
            url = f"http://127.0.0.1:{reservation.port}"
            job = job_of(scenario_file("selftest/fidelity"), condition, "null", url, 1)
            measured = child.run(job, SECONDS + 10, lambda at_ns: None, lambda message: None)
            rows = np.load(measured.samples)
    at = {name: index for index, name in enumerate(SAMPLE_COLUMNS)}
    lag = (rows[:, at["dispatched_ns"]] - rows[:, at["planned_ns"]]) / 1e6
    service = (rows[:, at["done_ns"]] - rows[:, at["sent_ns"]]) / 1e6
    for name, values in (("client lag", lag), ("service time", service)):
        p50, p99 = np.quantile(values, [0.5, 0.99])
        print(f"{name:>13}: p50 {p50:.3f} ms, p99 {p99:.3f} ms over {len(values):,} requests at {RATE_PER_S:,.0f}/s")


if __name__ == "__main__":
    main()
