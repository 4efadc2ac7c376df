"""Drives Locust users through a load shape.  The users are made by the crew; what they do next is decided here."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import gevent
import numpy as np
from gevent import GreenletExit
from gevent.event import Event

from lab.generator.crew import Crew
from lab.generator.desk import Desk, Round
from lab.generator.exchange import CENSORED
from lab.generator.schedule import NS_PER_S
from lab.generator.spread import Spread, by_turns
from lab.generator.state import LoadState
from lab.generator.timer import Timer, end, monotonic_ns
from lab.generator.traces import NO_TRACE, trace_of_load, trace_of_warmup
from lab.generator.users import LabUser
from lab.generator.warmup import Warmup
from lab.model import Burst, ClosedLoad

TIMEOUT_CHECK_S = 0.25
KILL_S = 1.0


class Drive:
    """One load from its first to its last request.

    ``planned`` requests are the arrivals that were due and whatever else users began.  Each becomes ``sent`` or ``never_sent``, and
    one row; all are counted apart from the rows.
    """

    def __init__(self, kind: type[LabUser], state: LoadState, runner: Any) -> None:
        self.state = state
        self.started_ns = self.ended_ns = 0
        self.trace = NO_TRACE
        self.warmup = Warmup(state)
        self.spread: Spread | None = None
        self.crew = Crew(kind, state, runner, self._failed)
        self._kind = kind
        self._load = state.condition.load
        self._arrivals = self._never_begun = 0
        self._problem: Exception | None = None
        self._over = Event()
        self._stopping = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return (monotonic_ns() - self.started_ns) / NS_PER_S if self.started_ns else 0.0

    def counts(self) -> dict[str, Any]:
        """What became of requests and connections, in the words of ``GeneratorSeen``."""
        state, connections = self.state, [user.connection for user in self.crew.everybody]
        return {
            "planned": self._arrivals + state.begun - state.taken - state.skipped, "sent": state.sent,
            "never_sent": state.unsent + self._never_begun, "rows": len(state.recorder), "in_flight_s": state.in_flight_ns / 1e9,
            **{name: sum(getattr(one, name) for one in connections) for name in ("reconnects", "unsolicited", "resent")},
            "connections_peak": self.crew.peak, "connections_short": state.connections_short,
            "connection_problem": state.connection_problem,
            "spread": Counter(self.spread.pids) if self.spread else {},
            "spread_over": state.condition.workers if self.spread else 0,
            "warmup_s": self.warmup.took_s, "warmup_extensions": self.warmup.extensions, "steady": self.warmup.steady,
        }  # fmt: skip

    def stop(self) -> None:
        """End early; what was measured is kept."""
        self._stopping = True
        self.state.running = False
        self._over.set()

    def _failed(self, problem: Exception) -> None:
        self._problem = self._problem or problem
        self.stop()

    def run(self, ready: Callable[[], int]) -> None:
        """Make the users, release them, wait for the end and drain.  Raises what a user class raises.

        ``ready`` is called when everybody stands at the line; it returns the instant (CLOCK_MONOTONIC ns) at which the load starts,
        the same one in every process.
        """
        watchdog = gevent.spawn(self._watch_timeouts)
        try:
            self._prepare()
            if self._problem is None:
                self._perform(ready)
        finally:
            if not self.ended_ns:
                self.ended_ns = monotonic_ns()
            self.state.running = False
            watchdog.kill()
            with self._nothing_new():
                self.crew.dismiss()
        if self._problem is not None:
            raise self._problem

    def _prepare(self) -> None:
        load, state = self._load, self.state
        if load.is_open:  # before the start: a long trace takes a while
            self.trace = trace_of_load(load, state)
            self._warm_trace = trace_of_warmup(load, state, self.warmup.longest_s)
        self.warmup.rehearse()
        self.crew.spawn(load.members)
        if load.spread and self._problem is None:
            self.spread = Spread(self.crew.users, state.condition.workers, state.own_path, state.spread_first)
            self.spread.deal()

    def _perform(self, ready: Callable[[], int]) -> None:
        body = {
            "closed": self._closed, "journey": self._journey, "burst": self._burst, "open": self._open, "staged": self._open,
        }[self._load.shape]  # fmt: skip
        self.started_ns = ready()
        self.warmup.begin(self.started_ns)
        timer = Timer()
        timer.wait_until(self.started_ns)
        try:
            body(timer)
        finally:
            timer.close()

    def _watch_timeouts(self) -> None:
        while True:
            gevent.sleep(TIMEOUT_CHECK_S)
            now_ns = monotonic_ns()
            for user in self.crew.everybody:
                user.expire(now_ns)

    # ---- users at work, and their end

    def _start(self, what: Callable[[LabUser], None], user: LabUser) -> Any:
        def guarded() -> None:
            try:
                what(user)
            except Exception as problem:
                self._failed(problem)
            finally:
                user.rest()

        return gevent.spawn(guarded)

    def _each(self, what: Callable[[LabUser], None]) -> list[Any]:
        return [self._start(what, user) for user in self.crew.users]

    @contextmanager
    def _nothing_new(self) -> Iterator[None]:
        """Users who are being stopped send nothing more, whatever their ``finally`` says.  Who tries twice would go on trying: it waits."""
        refused: set[LabUser] = set()

        def refuse(user: LabUser, *_: Any, **__: Any) -> NoReturn:
            if user in refused:
                Event().wait()
            refused.add(user)
            raise GreenletExit

        inherited = vars(self._kind).get("request")  # of this class alone: the other arm of a duet may still be sending
        setattr(self._kind, "request", refuse)  # noqa: B010
        try:
            yield
        finally:
            if inherited:
                setattr(self._kind, "request", inherited)  # noqa: B010
            else:
                delattr(self._kind, "request")

    def _stop_those(self, greenlets: list[Any]) -> list[Any]:
        """End them; a request that is under way is recorded as unanswered.  Returns those that did not end."""
        with self._nothing_new():
            return end(greenlets, KILL_S)

    def _drain(self, greenlets: list[Any]) -> None:
        gevent.joinall(greenlets, timeout=self.state.condition.drain_s)
        self._stop_those(greenlets)

    def _wait_until(self, at_ns: int) -> None:
        self._over.wait(timeout=max(0.0, (at_ns - monotonic_ns()) / NS_PER_S))

    def _until_done(self, greenlets: list[Any]) -> None:
        while not all(one.dead for one in greenlets) and not self._over.is_set():
            gevent.joinall(greenlets, timeout=0.5)

    def _record_never_begun(self, planned_ns: int, dispatched_ns: int) -> None:
        names = self.state.recorder.names
        name = names.id_of(names.all[0] if names.all else "request")
        self.state.recorder.add((planned_ns, dispatched_ns, 0, 0, monotonic_ns(), 0, 0, name, -1, 0, CENSORED, 0))
        self._never_begun += 1

    def _record_interrupted(self) -> None:
        """Arrivals that a user had been given and was stopped before it sent anything."""
        for user in self.crew.users:
            if user.planned_ns:
                self._record_never_begun(user.planned_ns, user.dispatched_ns)
                user.planned_ns = 0

    # ---- shapes

    def _closed(self, timer: Timer) -> None:
        load, state = self._load, self.state
        assert isinstance(load, ClosedLoad)
        warms_up = state.warming = self.warmup.length_ns > 0

        def loop(user: LabUser) -> None:
            while state.warming and state.running:
                turn(user)
            if warms_up:
                user.forget_draws()
            while state.take():
                turn(user)

        def act_and_think(user: LabUser) -> None:
            user.run_task()
            gevent.sleep(load.think_s)

        turn = act_and_think if load.think_s else LabUser.run_task
        greenlets = self._each(loop)
        if load.requests is None:
            self.warmup.perform(self._wait_until, np.empty(0, np.int64), lambda: self._stopping)
            state.warming = False
            self._wait_until(self.warmup.end_ns + round(state.condition.duration_s * NS_PER_S))
            state.running = False
            self.ended_ns = monotonic_ns()
        else:
            self._until_done(greenlets)
        self._drain(greenlets)
        self.ended_ns = self.ended_ns or monotonic_ns()

    def _journey(self, timer: Timer) -> None:
        greenlets = self._each(lambda user: user.journey())
        self._until_done(greenlets)
        self._stop_those(greenlets)

    def _burst(self, timer: Timer) -> None:
        load = self._load
        assert isinstance(load, Burst)
        for k in range(load.repeats):
            timer.wait_until(self.started_ns + round(k * load.every_s * NS_PER_S))
            if not self._stopping:
                self.crew.users[0].arrival = -2 - k  # separate numbers, whatever the burst before has drawn
                self._start(lambda user, k=k: user.before_burst(k), self.crew.users[0]).join()  # type: ignore[misc]
            if self._stopping:
                break
            if self.spread:
                self.spread.deal()
            gevent.joinall([gevent.spawn(user.connect) for user in self.crew.users])
            self._release(k, load)

    def _release(self, k: int, load: Burst) -> None:
        gate, at = Event(), [0]

        def one(user: LabUser) -> None:
            gate.wait()
            user.arrival, user.planned_ns, user.dispatched_ns = k * load.requests + user.number, at[0], at[0]
            user.run_task()
            if user.planned_ns:
                self.state.skip(user)

        greenlets = self._each(one)
        gevent.sleep(0)  # every user stands at the gate
        self._arrivals += len(greenlets)
        at[0] = monotonic_ns()
        gate.set()
        gevent.joinall(greenlets, timeout=load.every_s + self.state.condition.drain_s)
        stubborn = self._stop_those(greenlets)
        self._record_interrupted()
        if stubborn:  # it would go on in the middle of the next burst
            self._failed(RuntimeError(f"{len(stubborn)} users did not stop after burst {k}: they catch GreenletExit"))

    def _open(self, timer: Timer) -> None:
        state = self.state
        desk = Desk(self.crew, state, self._start, in_turn=self.spread is not None)
        users = by_turns(self.crew.users, self.spread.pids) if self.spread else self.crew.users
        for user in users:
            desk.welcome(user)
        gevent.sleep(0)
        warm, stopping = self._warm_trace, lambda: self._stopping
        rounds = [Round(desk, warm.offsets_ns, [-2 - index for index in warm.indices], self.started_ns)]
        planned_ns = self.started_ns + np.asarray(warm.offsets_ns, dtype=np.int64)
        self.warmup.perform(lambda at_ns: rounds[0].until(at_ns, timer, stopping), planned_ns, stopping)
        begin_ns = self.warmup.end_ns
        rounds.append(Round(desk, self.trace.offsets_ns, self.trace.indices, begin_ns))
        rounds[1].until(begin_ns + round(self.trace.duration_s * NS_PER_S), timer, stopping)
        self.ended_ns = monotonic_ns()
        self._arrivals = sum(one.handed for one in rounds)
        deadline = time.monotonic() + state.condition.drain_s
        while desk.busy and time.monotonic() < deadline and not self._stopping:
            gevent.sleep(0.01)
        self._stop_those(desk.greenlets)
        self._record_interrupted()
        for _, planned, dispatched in desk.waiting:
            self._record_never_begun(planned, dispatched)
