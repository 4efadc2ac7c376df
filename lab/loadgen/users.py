"""The Locust user of the lab.  A scenario subclasses ``LabUser``; by hand it is an ordinary Locust user.

In the lab's child every request becomes a row of ``SAMPLE_COLUMNS``; under plain ``locust -f`` it becomes Locust's own event, so
that its web page works.
"""

import json as json_module
import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from gevent import GreenletExit
from locust import User

from lab.loadgen.client import CENSORED, REFUSED, Connection, Exchange
from lab.loadgen.framing import build_request, encode_json
from lab.loadgen.recorder import Recorder
from lab.loadgen.schedule import seed_for
from lab.model import OUTCOMES, Burst, ClosedLoad, Condition, Journey, Scenario

monotonic_ns = time.monotonic_ns


@dataclass(frozen=True)
class Reply:
    """An answer.  ``status`` is 0 and ``error`` one of ``OUTCOMES`` where there was none."""

    status: int
    body: bytes
    head: bytes
    error: str
    latency_s: float

    def header(self, name: str) -> str:
        """A header's value, empty where it is missing."""
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == wanted:
                return value.strip().decode("latin-1")
        return ""

    def json(self) -> Any:
        """The body as JSON.  Raises ValueError."""
        return json_module.loads(self.body)


class LoadState:
    """What the users of one process share: the recorder, the condition with the process's part of the load, the requests still to send."""

    def __init__(
        self, condition: Condition, variant: str, url: str, seed: int, recorder: Recorder, process: int = 0, processes: int = 1
    ) -> None:  # fmt: skip
        self.condition = condition
        self.variant = variant
        self.url = url
        self.seed = seed
        self.recorder = recorder
        self.in_flight = 0
        self.in_flight_ns = 0  # time in flight of all requests: ends less beginnings, apart from the rows (gate G5 compares)
        self.reconnects = 0
        self.process, self.processes = process, processes
        self.number = process  # users are dealt round: the numbers of all processes are those of one
        load = condition.load
        self.left = load.requests if isinstance(load, ClosedLoad) and load.requests is not None else None
        self.reconnect = isinstance(load, ClosedLoad) and load.reconnect
        self.running = True

    def take(self) -> bool:
        """Whether one more request may be sent; counts it."""
        if self.left is None:
            return self.running
        if self.left <= 0 or not self.running:
            return False
        self.left -= 1
        return True


class LabUser(User):  # type: ignore[misc]
    """One user, one connection.

    ``params``, ``condition`` and ``variant`` say what is run, ``rng`` gives numbers that are the same in both arms of a pair,
    ``number`` is the user's index, ``arrival`` the index of the planned request (-1 where nothing is planned).
    """

    abstract = True
    timeout_s: ClassVar[float] = 30.0
    state: ClassVar[LoadState | None] = None  # set by the lab's child; None by hand

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        state = type(self).state
        self.condition = state.condition if state else _condition_by_hand(type(self))
        self.params: Mapping[str, Any] = self.condition.params
        self.variant = state.variant if state else os.environ.get("LAB_VARIANT", "naive")
        self.number = 0
        if state:
            self.number, state.number = state.number, state.number + state.processes
        self.rng = random.Random(seed_for(state.seed if state else 0, self.number))
        self.arrival = -1
        self.planned_ns = self.dispatched_ns = 0
        parts = urlsplit(state.url if state else str(environment.host or self.host))
        self._host = parts.netloc
        self._connection = Connection(
            parts.hostname or "127.0.0.1", parts.port or 80, self.timeout_s, cooperative=state is not None
        )
        self._requests: dict[Any, bytes] = {}

    # ---- what scenarios call

    def request(
        self, method: str, path: str, *, name: str | None = None, level: int = -1, json: Any = None,
        headers: Mapping[str, str] | None = None, body: bytes | None = None,
    ) -> Reply:  # fmt: skip
        """Send a request and wait for the answer.  Never raises for the network: see ``Reply.error``."""
        state = type(self).state
        wire = self._wire(method, path, json, headers, body)
        begin_ns = monotonic_ns()
        planned_ns, dispatched_ns = self.planned_ns or begin_ns, self.dispatched_ns or begin_ns
        self.planned_ns = self.dispatched_ns = 0  # a task may send more than the request that was planned
        if state is None:
            done = self._connection.exchange(wire, to_head=method == "HEAD")
            self._report(method, name or path, begin_ns, done)
        else:
            if state.reconnect:
                self._connection.close()
            name_id = state.recorder.names.id_of(name or f"{method} {path.partition('?')[0]}")
            state.in_flight += 1
            state.in_flight_ns -= begin_ns
            try:
                done = self._connection.exchange(wire, to_head=method == "HEAD")
            except GreenletExit:  # the load is over and this request is still unanswered: it counts as such
                row = (planned_ns, dispatched_ns, begin_ns, 0, monotonic_ns(), 0, 0, name_id, level, 0, CENSORED, 0)
                state.recorder.add(row)
                state.in_flight_ns += row[4]
                raise
            finally:
                state.in_flight -= 1
            head = done.head
            state.in_flight_ns += done.done_ns
            state.recorder.add((
                planned_ns, dispatched_ns, done.sent_ns, done.first_byte_ns, done.done_ns, head.status,
                len(done.body) + len(done.head_block), name_id,
                level, head.pid, done.outcome, done.reused,
            ))  # fmt: skip
        error = "" if done.outcome <= 1 else OUTCOMES[done.outcome]
        return Reply(done.head.status, done.body, done.head_block, error, (done.done_ns - begin_ns) / 1e9)

    def get(self, path: str, **options: Any) -> Reply:
        """GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Reply:
        """POST."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Reply:
        """PUT."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Reply:
        """PATCH."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Reply:
        """DELETE."""
        return self.request("DELETE", path, **options)

    def reconnect(self) -> None:
        """Close the connection: the next request opens a new one, perhaps to another worker."""
        self._connection.close()

    def count(self, name: str, n: float = 1) -> None:
        """Add to a number that the trial keeps: ``observed[name]``."""
        if type(self).state is not None:
            type(self).state.recorder.count(name, n)  # type: ignore[union-attr]

    def observe_max(self, name: str, value: float) -> None:
        """Keep the largest value: ``observed[name]``."""
        if type(self).state is not None:
            type(self).state.recorder.observe_max(name, value)  # type: ignore[union-attr]

    def journey(self) -> None:
        """The sequence of a ``Journey`` load; by hand it is repeated."""
        raise NotImplementedError(f"{type(self).__name__} has no journey()")

    def before_burst(self, k: int) -> None:
        """Called on one user before burst ``k`` (from 0), while the others wait."""

    # ---- inside

    def connect(self) -> bool:
        """Open the connection ahead of a burst; False where nobody listens."""
        try:
            self._connection.open()
        except OSError:
            return False
        return True

    def expire(self, now_ns: int) -> None:
        """End a request that has waited longer than ``timeout_s``."""
        if 0 < self._connection.deadline_ns < now_ns:
            self._connection.expire()

    @property
    def reconnects(self) -> int:
        """Connections that the server had closed while they were idle."""
        return self._connection.reconnects

    def run_task(self) -> None:
        """One of the tasks, chosen by weight with the user's own random numbers."""
        task = self.tasks[0] if len(self.tasks) == 1 else self.rng.choice(self.tasks)
        task(self)

    def _wire(self, method: str, path: str, json: Any, headers: Mapping[str, str] | None, body: bytes | None) -> bytes:
        if json is None and body is None and not headers:
            key = (method, path)
            known = self._requests.get(key)
            if known is None:
                known = build_request(method, path, self._host)
                if len(self._requests) < 10_000:
                    self._requests[key] = known
            return known
        sent = dict(headers or {})
        if json is not None:
            body = encode_json(json)
            sent.setdefault("Content-Type", "application/json")
        return build_request(method, path, self._host, sent, body)

    def _report(self, method: str, name: str, begin_ns: int, done: Exchange) -> None:
        problem = None
        if done.outcome:
            problem = RuntimeError(done.problem or f"status {done.head.status}")
        self.environment.events.request.fire(
            request_type=method, name=name, response_time=(done.done_ns - begin_ns) / 1e6, response_length=len(done.body),
            exception=problem, context={}, response=None,
        )  # fmt: skip
        if done.outcome == REFUSED:
            time.sleep(0.5)  # by hand, against a server that is not there: do not spin


def _condition_by_hand(kind: type[LabUser]) -> Condition:
    scenario = getattr(sys.modules[kind.__module__], "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        return Condition("by hand", ClosedLoad(1))
    wanted = os.environ.get("LAB_CONDITION", "")
    mine = [one for one in scenario.conditions if one.user in ("", kind.__name__)]
    chosen = [one for one in mine if wanted in (one.label, one.key)] or mine or list(scenario.conditions)
    condition = chosen[0]
    if isinstance(condition.load, Journey) and not kind.tasks:
        kind.tasks = [_journey_as_task]
    return condition


def _journey_as_task(user: LabUser) -> None:
    user.journey()


__all__ = ["Burst", "LabUser", "LoadState", "Reply"]
