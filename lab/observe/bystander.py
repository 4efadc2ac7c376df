"""The bystander: a separate process that asks at Poisson instants, so that the generator is not its own witness.

Its schedule is planned and open: it never waits for an answer before it asks again, and what is not answered is told, not dropped.
``python -m lab.observe.bystander URL PATH RATE_PER_S SEED`` says ``ready``, reads the load's start (CLOCK_MONOTONIC ns) from its standard
input, asks from then on until that input ends (bounded by ``LIMIT_S``), and prints one JSON list of what it asked.  Beside the lab's own
client standard library only, no gevent.
"""

import json
import math
import os
import queue
import random
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lab.generator.client import Connection
from lab.generator.exchange import CENSORED, OK
from lab.generator.wire import build_request
from lab.model import OUTCOMES, Condition, GotchaPlan
from lab.observe.probes import OWN
from lab.processes import Child, Guard
from lab.target.address import Address, address_of
from lab.words.errors import LoadError

MORE = "LAB_ADDRESS"
"""The rest of the address, as JSON in the environment: a header may be a secret, and arguments are for everybody to see."""
LIMIT_S = 600.0
RATE_PER_S = 15.0
SHARE = 0.02
"""Of the offered rate at most: a bystander that is a tenth of the load is counted in every query, and is load (M/D/1 at rho 0.8: +30 %)."""
FEWEST = 8
"""Times from which the 99 % order-statistic interval of a median is still one: 1 - 2 / 2^8."""
TIMEOUT_S = 10.0
DRAIN_S = 2.0
"""How long the last answers are waited for once the load has ended; what has not come by then is censored."""
START_S = 20.0  # a Python process that imports a little, on a machine that is busy with starting everything else


class Asked(NamedTuple):
    """One planned request.  Times are CLOCK_MONOTONIC ns; ``sent_ns`` and ``done_ns`` are 0 where that did not happen."""

    planned_ns: int
    sent_ns: int
    done_ns: int
    outcome: str


# ---------------------------------------------------------------- in its own process


def instants_ns(start_ns: int, rate_per_s: float, seed: int) -> Iterator[int]:
    """When to ask, from the start on, for at most ``LIMIT_S``.  Its own draw: the load's arrivals come from the same seed."""
    draw, at_s = random.Random(f"bystander {seed}"), 0.0
    while (at_s := at_s + draw.expovariate(rate_per_s)) < LIMIT_S:
        yield start_ns + round(at_s * 1e9)


class _Asker:
    """A thread with a connection: idle, or busy with one request."""

    def __init__(self, address: Address, idle: "deque[_Asker]") -> None:
        self.connection = Connection(address.host, address.port, TIMEOUT_S, tls=address.context)
        self._jobs: queue.SimpleQueue[tuple[bytes, list[Asked], int]] = queue.SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, request: bytes, asked: list[Asked], index: int) -> None:
        """Send it now; the place ``index`` will tell what became of it."""
        self._jobs.put((request, asked, index))

    def _run(self) -> None:
        while True:
            request, asked, index = self._jobs.get()
            seen = self.connection.exchange(request)
            done_ns = seen.done_ns if seen.first_byte_ns else 0
            asked[index] = Asked(asked[index].planned_ns, seen.sent_ns, done_ns, OUTCOMES[seen.outcome])
            self._idle.append(self)


def ask_until_told(where: str | Address, path: str, instants: Iterator[int], told: int) -> list[Asked]:
    """Ask at each instant until the file descriptor ``told`` is at its end; each instant up to then is in the result."""
    address = address_of(where)
    request = build_request("GET", address.base + path, address.authority, {**address.headers, **OWN})
    idle: deque[_Asker] = deque()
    asked: list[Asked] = []
    busy: list[int] = []
    ended_ns = 0
    for planned_ns in instants:
        ended_ns = ended_ns or _end_before(told, planned_ns)
        if ended_ns and planned_ns > ended_ns:
            break
        asked.append(Asked(planned_ns, 0, 0, OUTCOMES[CENSORED]))
        if not ended_ns:  # else this process was late, and now there is no load any more to stand beside
            # The connection used last is the warmest; at most rate times timeout of them are busy.
            asker = idle.pop() if idle else _Asker(address, idle)
            asker.ask(request, asked, len(asked) - 1)
            busy.append(len(asked) - 1)
    deadline = time.monotonic() + DRAIN_S
    while any(asked[index].outcome == OUTCOMES[CENSORED] for index in busy) and time.monotonic() < deadline:
        time.sleep(0.005)
    return list(asked)


def _end_before(told: int, until_ns: int) -> int:
    """Wait until an instant; where ``told`` came to its end before, when that was, else 0."""
    while True:
        left_s = max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
        ready, _, _ = select.select([told], [], [], left_s)
        if ready and not os.read(told, 4096):
            return time.monotonic_ns()
        if not ready:
            return 0


def main(where: str | Address, path: str, rate_per_s: float, seed: int) -> None:
    """See the module."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    found = ask_until_told(where, path, instants_ns(int(line), rate_per_s, seed), 0) if line.strip() else []
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- beside the load


@dataclass(frozen=True)
class Bystander:
    """What the bystander asks for and how often; an empty path is no bystander."""

    path: str = ""
    rate_per_s: float = 0.0


def bystander_of(plan: GotchaPlan, condition: Condition) -> Bystander:
    """The gotcha's first GET probe, beside loads with a steady state that are large enough: ``SHARE`` of them are ``FEWEST`` times or more.

    Where a law is claimed there is none: what it asks for would be in the count that must be exact.
    """
    load = condition.load
    if not load.is_open:
        return Bystander()
    if any(claim.tolerance == 0 and condition.key in claim.predictions for claim in plan.claims):
        return Bystander()
    rate_per_s = min(stage.rate_per_s for stage in load.stages_over(condition.duration_s))
    own = min(RATE_PER_S, SHARE * rate_per_s)
    path = next((probe.path for probe in plan.probes if probe.method == "GET" and probe.status == 200), "")
    return Bystander(path, own) if path and own * load.lasts_s(condition.duration_s) >= FEWEST else Bystander()


def report(
    asked: Sequence[Asked], condition: Condition, started_ns: int, ended_ns: int, warmup_s: float | None = None
) -> dict[str, Any]:
    """What the record keeps, of the requests that were planned after the warm-up and before the load's end.

    ``probe_client_s`` holds the times of the good answers, ``probe_client`` all: ``times_s`` in the order planned, null for what failed
    or never came, ``outcomes`` beside them, ``late_s`` the 99th percentile of its own lateness.
    """
    begin_ns = started_ns + round((condition.warmup_s if warmup_s is None else warmup_s) * 1e9)
    end_ns = min(ended_ns, begin_ns + round(condition.load.lasts_s(condition.duration_s) * 1e9))
    inside = [one for one in asked if begin_ns <= one.planned_ns < end_ns]
    times = [(one.done_ns - one.sent_ns) / 1e9 if one.outcome == OUTCOMES[OK] else None for one in inside]
    answered = [time_s for time_s in times if time_s is not None]
    late = sorted((one.sent_ns - one.planned_ns) / 1e9 for one in inside if one.sent_ns)
    return {
        "probe_client_s": answered,
        "probe_client": {
            "planned": len(inside), "answered": len(answered), "failed": len(inside) - len(answered),
            "late_s": late[math.ceil(0.99 * len(late)) - 1] if late else None,
            "times_s": times, "outcomes": [one.outcome for one in inside],
        },
    }  # fmt: skip


@dataclass
class Witness:
    """The bystander as the lab holds it; ``asked`` is filled when the block of ``beside`` ends."""

    child: Child | None = None
    asked: list[Asked] = field(default_factory=list)

    def begin(self, start_ns: int) -> None:
        """The load starts (CLOCK_MONOTONIC ns).  Raises LoadError where the bystander is gone."""
        if self.child is not None:
            assert self.child.stdin is not None
            try:
                self.child.stdin.write(f"{start_ns}\n")
                self.child.stdin.flush()
            except OSError:
                raise _broke(self.child, "is gone") from None

    def report(
        self, condition: Condition, started_ns: int, ended_ns: int, warmup_s: float | None = None
    ) -> dict[str, Any]:
        """See ``report``; empty where there was no bystander."""
        return report(self.asked, condition, started_ns, ended_ns, warmup_s) if self.child is not None else {}


@contextmanager
def beside(guard: Guard, where: str | Address, who: Bystander, seed: int) -> Iterator[Witness]:
    """The bystander stands ready while the block runs; it asks from ``Witness.begin`` to the block's end.  Raises LoadError."""
    if not who.path:
        yield Witness()
        return
    from lab.locate import ROOT

    address = address_of(where)
    more = {"headers": dict(address.headers), "ca": address.ca, "verify": address.verify}
    with guard.folder("probe-") as folder:
        command = [sys.executable, "-m", "lab.observe.bystander", address.url, who.path, str(who.rate_per_s), str(seed)]
        child = guard.spawn(
            command,
            env={**os.environ, MORE: json.dumps(more)},
            cwd=ROOT,
            log_path=folder / "probe.log",
            name="probe client",
            pipes=True,
        )
        try:
            _line(child, START_S, "does not start")
            witness = Witness(child)
            yield witness
            assert child.stdin is not None
            with suppress(OSError):
                child.stdin.close()
            witness.asked += [Asked(*one) for one in json.loads(_line(child, DRAIN_S + START_S, "says nothing"))]
        finally:
            child.stop(2.0)


def _line(child: Child, timeout_s: float, problem: str) -> str:
    """Its next line.  Raises LoadError where none comes in time."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], timeout_s)
    line = child.stdout.readline() if ready else ""
    if not line:
        raise _broke(child, problem)
    return line


def _broke(child: Child, problem: str) -> LoadError:
    return LoadError(f"the bystander {problem}: {child.log_tail(3)}", "Run it again; the load itself may be all right.")


if __name__ == "__main__":
    main(
        Address(sys.argv[1], **json.loads(os.environ.get(MORE, "{}"))),
        sys.argv[2],
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
