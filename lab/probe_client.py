"""The bystander: a process of its own that sends one request at a time at Poisson instants, so that the generator is not its own witness.

``python -m lab.probe_client URL PATH RATE_PER_S SEED`` sends until its standard input ends (bounded by ``LIMIT_S``) and prints the
times in seconds as one JSON list.  Standard library only, no gevent.
"""

import http.client
import json
import os
import random
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from lab.model import GotchaPlan, OpenLoad, StagedLoad
from lab.processes import Child, Guard

LIMIT_S = 600.0
RATE_PER_S = 15.0
TIMEOUT_S = 10.0


def send_until_told(url: str, path: str, rate_per_s: float, seed: int) -> list[float]:
    """Times of the requests that were answered, in seconds; the first, which opens the connection, is left out."""
    parts = urlsplit(url)
    draw = random.Random(seed)
    times: list[float] = []
    end = time.monotonic() + LIMIT_S
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    while time.monotonic() < end:
        ready, _, _ = select.select([sys.stdin], [], [], draw.expovariate(rate_per_s))
        if ready:
            break
        begin = time.perf_counter()
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            continue
        times.append(time.perf_counter() - begin)
    connection.close()
    return times[1:]


def path_of(plan: GotchaPlan, load: object) -> str:
    """What the bystander asks for: the gotcha's first GET probe, beside loads that have a steady state; empty elsewhere."""
    if not isinstance(load, OpenLoad | StagedLoad):
        return ""
    return next((probe.path for probe in plan.probes if probe.method == "GET" and probe.status == 200), "")


@contextmanager
def beside(guard: Guard, url: str, path: str, seed: int, times: list[float]) -> Iterator[None]:
    """Run the bystander while the block runs; its times are appended to ``times``.  An empty path runs none."""
    if not path:
        yield
        return
    from lab.locate import ROOT

    folder = guard.temporary_folder("probe-")
    command = [sys.executable, "-m", "lab.probe_client", url, path, str(RATE_PER_S), str(seed)]
    child: Child = guard.spawn(
        command, env={**os.environ}, cwd=ROOT, log_path=folder / "probe.log", name="probe client", pipes=True
    )
    try:
        yield
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        times += json.loads(child.stdout.readline() or "[]")
    finally:
        child.stop(2.0)


if __name__ == "__main__":
    print(json.dumps(send_until_told(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))  # noqa: T201
