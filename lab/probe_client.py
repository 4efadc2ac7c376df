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
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.model import Condition, GotchaPlan, OpenLoad, StagedLoad
from lab.processes import Child, Guard

LIMIT_S = 600.0
RATE_PER_S = 15.0
SHARE = 0.02
"""Of the offered rate at most: a bystander that is a tenth of the load is counted in every query, and is load (M/D/1 at rho 0.8: +30 %)."""
FEWEST = 8
"""Times from which the 99 % order-statistic interval of a median is still one: 1 - 2 / 2^8."""
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


@dataclass(frozen=True)
class Bystander:
    """What the bystander asks for and how often; an empty path is no bystander."""

    path: str = ""
    rate_per_s: float = 0.0


def bystander_of(plan: GotchaPlan, condition: Condition) -> Bystander:
    """The gotcha's first GET probe, beside loads with a steady state that are large enough: ``SHARE`` of them are ``FEWEST`` times or more."""
    load = condition.load
    if isinstance(load, OpenLoad):
        rate_per_s, seconds = load.rate_per_s, condition.duration_s
    elif isinstance(load, StagedLoad):
        rate_per_s = min(stage.rate_per_s for stage in load.stages)
        seconds = sum(stage.duration_s for stage in load.stages)
    else:
        return Bystander()
    own = min(RATE_PER_S, SHARE * rate_per_s)
    path = next((probe.path for probe in plan.probes if probe.method == "GET" and probe.status == 200), "")
    return Bystander(path, own) if path and own * seconds >= FEWEST else Bystander()


@contextmanager
def beside(guard: Guard, url: str, who: Bystander, seed: int, times: list[float]) -> Iterator[None]:
    """Run the bystander while the block runs; its times are appended to ``times``."""
    if not who.path:
        yield
        return
    from lab.locate import ROOT

    folder = guard.temporary_folder("probe-")
    command = [sys.executable, "-m", "lab.probe_client", url, who.path, str(who.rate_per_s), str(seed)]
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
