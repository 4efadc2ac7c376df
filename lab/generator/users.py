"""The Locust user of the lab.  A scenario subclasses ``LabUser``; by hand it is an ordinary Locust user.

In the lab's child every request becomes a row of ``SAMPLE_COLUMNS``; under plain ``locust -f`` it becomes Locust's own event, so
that its web page works.
"""

import os
import random
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from gevent import Timeout
from locust import User

from lab.generator.client import Connection
from lab.generator.exchange import CENSORED, HTTP_ERROR, OK, REFUSED, TIMEOUT, Exchange
from lab.generator.replies import Reply, reply_of
from lab.generator.schedule import arrival_seed, seed_for
from lab.generator.state import LoadState
from lab.generator.wire import build_request, check_url, encode_json
from lab.model import Burst, ClosedLoad, Condition, Scenario
from lab.target.address import Address
from lab.words.loads import ASKED_OTHERWISE

monotonic_ns = time.monotonic_ns
new_tuple = tuple.__new__  # a NamedTuple's own constructor is a Python function around it

OWN_HEADERS = {"x-lab-own": "1"}
"""What the lab asks for itself: the wrapper counts it apart from the load."""

ONE_AT_A_TIME = "a user has one connection and sends one request at a time; this one waits for an answer already: take further users"
"""Else the second would be given the answer to the first."""


LOCUSTS_OWN = {name for name in vars(User) if callable(getattr(User, name)) and not name.startswith("_")} - {"on_start", "on_stop", "wait_time"}
"""``start``, ``stop``, ``wait`` ...: a task of such a name would take the place of what Locust calls."""


class LabUser(User):  # type: ignore[misc]
    """One user, one connection.

    ``params``, ``condition`` and ``variant`` say what is run, ``rng`` gives numbers that are the same in both arms of a pair,
    ``number`` is the user's index, ``arrival`` the index of the planned request (-1 where nothing is planned, below it in a warm-up and before
    a burst).
    Where requests are planned any user may carry any arrival: what it asks for may depend on ``rng`` and ``arrival``, not on the user.
    """

    abstract = True
    timeout_s: ClassVar[float] = 30.0
    state: ClassVar[LoadState | None] = None  # set by the lab's child; None by hand

    def __init_subclass__(cls, **options: Any) -> None:
        """A task that a class writes anew replaces the inherited one; Locust would do both, in turn.

        Raises TypeError where a class takes the name of a method that Locust calls.
        """
        super().__init_subclass__(**options)
        if taken := sorted(LOCUSTS_OWN & vars(cls).keys()):
            raise TypeError(f"{cls.__name__}.{taken[0]}: Locust needs this name; give the method another one")
        cls.tasks = [one for one in cls.tasks if getattr(cls, getattr(one, "__name__", ""), one) is one]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        state = type(self).state
        self.condition = state.condition if state else _condition_by_hand(type(self))
        self.params: Mapping[str, Any] = self.condition.params
        self.variant = state.variant if state else os.environ.get("LAB_VARIANT", "naive")
        self.number = 0
        if state:
            self.number, state.number = state.number, state.number + state.processes
        self.arrival = -1
        self.planned_ns = self.dispatched_ns = 0
        self._seed = state.seed if state else 0
        self._rng: random.Random | None = None
        self._drawn_for = -1
        address = state.address if state else Address(str(environment.host or self.host))
        if state is None:
            check_url(address.url)
        self.address = address
        self._host, self._base, self._always = address.authority, address.base, dict(address.headers)
        self._connection = Connection(
            address.host, address.port, self.timeout_s, cooperative=state is not None, tls=address.context
        )
        self._requests: dict[Any, bytes] = {}

    # ---- what scenarios call

    @property
    def rng(self) -> random.Random:
        """Random numbers of the arrival where requests are planned, else the user's own.  Seeded when first used: seeding costs 5 us."""
        arrival, rng = self.arrival, self._rng
        if rng is None or arrival != self._drawn_for:
            seed = seed_for(self._seed, self.number) if arrival == -1 else arrival_seed(self._seed, arrival)
            rng, self._drawn_for = random.Random(seed), arrival
            self._rng = rng
        return rng

    def request(
        self, method: str, path: str, *, name: str | None = None, level: int = -1, json: Any = None,
        headers: Mapping[str, str] | None = None, body: bytes | None = None, expect: Collection[int] | None = None,
    ) -> Reply:  # fmt: skip
        """Send a request and wait for the answer.  Never raises for the network: see ``Reply.error``.

        ``expect`` are the statuses that count as a success (None: 200 to 299); any other answer is an ``http_error``.
        """
        state, connection = type(self).state, self._connection
        if connection.deadline_ns or connection.opening:
            raise RuntimeError(ONE_AT_A_TIME)
        wire = self._wire(method, path, json, headers, body)
        begin_ns = monotonic_ns()
        if state is None:
            done = connection.exchange(wire, to_head=method == "HEAD")
            self._report(method, name or path, begin_ns, done, expect)
            return reply_of(done, begin_ns)
        if state.reconnect:
            connection.close()
        name_id = state.recorder.names.id_of(name or f"{method} {path.partition('?')[0]}")
        if self.planned_ns:  # a task may send more than the request that was planned
            planned_ns, dispatched_ns, self.planned_ns = self.planned_ns, self.dispatched_ns, 0
            state.taken += 1
        else:
            planned_ns = dispatched_ns = begin_ns
        state.begun += 1
        state.in_flight_ns -= begin_ns
        try:
            done = connection.exchange(wire, to_head=method == "HEAD")
        except BaseException as problem:
            self._broken_off(state, problem, begin_ns, (planned_ns, dispatched_ns, name_id, level))
            raise
        if done.sent_ns:
            state.sent += 1
            state.in_flight_ns += done.done_ns
        else:
            state.not_sent(begin_ns, done.problem)
        head, outcome = done.head, done.outcome
        if expect is not None and outcome <= HTTP_ERROR:
            outcome = OK if head.status in expect else HTTP_ERROR
        state.recorder.add((
            planned_ns, dispatched_ns, done.sent_ns, done.first_byte_ns, done.done_ns, head.status,
            len(done.body) + len(done.head_block), name_id,
            level, head.pid, outcome, done.reused,
        ))  # fmt: skip
        return reply_of(done, begin_ns)

    def _broken_off(
        self, state: LoadState, problem: BaseException, begin_ns: int, row: tuple[int, int, int, int]
    ) -> None:
        """Record a request that is given up while it is under way: the load is over, or the user class has set itself a limit."""
        planned_ns, dispatched_ns, name_id, level = row
        sent_ns, now_ns = self._connection.broken_off_ns, monotonic_ns()
        outcome = TIMEOUT if isinstance(problem, Timeout) else CENSORED
        state.recorder.add((planned_ns, dispatched_ns, sent_ns, 0, now_ns, 0, 0, name_id, level, 0, outcome, 0))
        if sent_ns:
            state.sent += 1
            state.in_flight_ns += now_ns
        else:
            state.not_sent(begin_ns, "")

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

    def ask_otherwise(self, most: int) -> None:
        """Say that up to ``most`` requests are asked over a connection of the scenario's own, of which there are no rows."""
        self.count(ASKED_OTHERWISE, most)

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

    def rest(self) -> None:
        """Called when the user has done what the load asked of it; an arm of a duet gives up its turns then."""

    def connect(self) -> OSError | None:
        """Open the connection ahead of the load; the problem where that cannot be done, and the first request tries again."""
        try:
            self._connection.open()
        except OSError as problem:
            return problem
        return None

    def worker(self, path: str, *, anew: bool) -> int:
        """The pid of the worker that this connection (or a new one) leads to, 0 where it is not known or does not stay open.

        A request of the lab's own: it leaves no row.
        """
        if anew:
            self._connection.close()
        wire = build_request("GET", self._base + path, self._host, {**self._always, **OWN_HEADERS})
        head = self._connection.exchange(wire).head
        return 0 if head.close else head.pid

    def forget_draws(self) -> None:
        """Begin the user's own random numbers afresh: those of the measured part do not depend on how long the warm-up took."""
        self._rng = None

    def expire(self, now_ns: int) -> None:
        """End a request that has waited longer than ``timeout_s``."""
        if 0 < self._connection.deadline_ns < now_ns:
            self._connection.expire()

    @property
    def connection(self) -> Connection:
        """The user's connection, for its counters."""
        return self._connection

    def run_task(self) -> None:
        """One of the tasks, chosen by weight with ``rng``."""
        task = self.tasks[0] if len(self.tasks) == 1 else self.rng.choice(self.tasks)
        task(self)

    def _wire(self, method: str, path: str, json: Any, headers: Mapping[str, str] | None, body: bytes | None) -> bytes:
        if json is None and body is None and not headers:
            key = (method, path)
            known = self._requests.get(key)
            if known is None:
                known = build_request(method, self._base + path, self._host, self._always)
                if len(self._requests) < 10_000:
                    self._requests[key] = known
            return known
        own = {name.lower() for name in headers or {}}
        sent = {**{name: value for name, value in self._always.items() if name.lower() not in own}, **(headers or {})}
        if json is not None:
            body = encode_json(json)
            sent.setdefault("Content-Type", "application/json")
        return build_request(method, self._base + path, self._host, sent, body)

    def _report(self, method: str, name: str, begin_ns: int, done: Exchange, expect: Collection[int] | None) -> None:
        problem = None
        judged = expect is not None and done.outcome <= HTTP_ERROR
        if done.head.status not in (expect or ()) if judged else done.outcome:
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
    if condition.load.walks and not kind.tasks:
        kind.tasks = [_journey_as_task]
    return condition


def _journey_as_task(user: LabUser) -> None:
    user.journey()


__all__ = ["Burst", "LabUser", "LoadState", "Reply"]
