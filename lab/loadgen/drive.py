"""Drives Locust users through a load shape.  The users are spawned by Locust's runner; what they do next is decided here."""

import contextlib
import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.socket import wait_read

from lab.loadgen.client import CENSORED
from lab.loadgen.schedule import Trace, trace_of
from lab.loadgen.users import LabUser, LoadState
from lab.model import Burst, ClosedLoad, Journey, OpenLoad, StagedLoad

NS = 1_000_000_000
TIMEOUT_CHECK_S = 0.25
CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK = 0o4000
monotonic_ns = time.monotonic_ns


class _ITimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Timer:
    """Waits until an instant of CLOCK_MONOTONIC: by a timerfd that the hub watches (Linux), else by sleeping.  Never a spin.

    Sleeping on the hub is 1 ms coarse; a timerfd is late by less than 0.1 ms at the median (method.md section 1).
    """

    def __init__(self) -> None:
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)

    def wait_until(self, at_ns: int) -> None:
        """Return at ``at_ns`` or as soon after it as the hub allows."""
        if self._fd < 0:
            left = (at_ns - monotonic_ns()) / NS
            gevent.sleep(max(0.0, left))
            return
        if at_ns <= monotonic_ns():
            return
        spec = _ITimerSpec(0, 0, at_ns // NS, at_ns % NS)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        wait_read(self._fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Drive:
    """One load from its first to its last request."""

    def __init__(self, kind: type[LabUser], state: LoadState, runner: Any) -> None:
        self.kind = kind
        self.state = state
        self.runner = runner
        self.started_ns = self.ended_ns = 0
        self.planned = self.sent = 0
        self.trace_hash = ""
        self._released = Event()
        self._problem: Exception | None = None
        self._users: list[LabUser] = []
        self._trace = Trace((), (), 0.0, "")
        self._over = Event()
        self._stopping = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return (monotonic_ns() - self.started_ns) / NS if self.started_ns else 0.0

    @property
    def reconnects(self) -> int:
        """Reopened connections of all users."""
        return sum(user.reconnects for user in self._users)

    def stop(self) -> None:
        """End early; what was measured is kept."""
        self._stopping = True
        self.state.running = False
        self._over.set()

    def _count_users(self) -> int:
        load = self.state.condition.load
        if isinstance(load, ClosedLoad | Journey):
            return load.users
        return load.requests if isinstance(load, Burst) else load.connections

    def run(self, ready: Callable[[], int]) -> None:
        """Spawn the users through Locust, release them, wait for the end and drain.  Raises what a user class raises.

        ``ready`` is called when everybody stands at the line; it returns the instant (CLOCK_MONOTONIC ns) at which the load starts,
        the same one in every process.
        """
        load = self.state.condition.load
        body = {
            ClosedLoad: self._closed, Journey: self._journey, Burst: self._burst, OpenLoad: self._open, StagedLoad: self._open,
        }[type(load)]  # fmt: skip
        if isinstance(load, OpenLoad | StagedLoad):
            self._trace = self._planned_trace(load)
        self._spawn(self._count_users())
        watchdog = gevent.spawn(self._watch_timeouts)
        self.started_ns = ready()
        try:
            timer = Timer()
            timer.wait_until(self.started_ns)
            timer.close()
            body()
        finally:
            if not self.ended_ns:
                self.ended_ns = monotonic_ns()
            self.state.running = False
            self.sent = self.sent or len(self.state.recorder)
            self.planned = self.planned or self.sent
            watchdog.kill()
            self.runner.quit()
        if self._problem is not None:
            raise self._problem

    def _watch_timeouts(self) -> None:
        while True:
            gevent.sleep(TIMEOUT_CHECK_S)
            now_ns = monotonic_ns()
            for user in self._users:
                user.expire(now_ns)

    def _spawn(self, count: int) -> None:
        drive = self

        def run(user: LabUser) -> None:
            """What Locust runs as the user's greenlet: hand it to the drive and live until the load is over."""
            user._state = "running"
            user.connect()
            drive._users.append(user)
            user.on_start()
            drive._ready()
            drive._released.wait()

        self._all_ready = Event()
        self._expected = count
        self.kind.run = run
        # spawn_rate: all at once; Locust's own ramp would be another load shape
        self.runner.start(count, spawn_rate=max(count, 1))
        if not self._all_ready.wait(timeout=30):
            raise RuntimeError(f"only {len(self._users)} of {count} users could start within 30 s")
        self._users.sort(key=lambda user: user.number)

    def _ready(self) -> None:
        if len(self._users) >= self._expected:
            self._all_ready.set()

    def _each(self, what: Callable[[LabUser], None]) -> list[Any]:
        def guarded(user: LabUser) -> None:
            try:
                what(user)
            except Exception as problem:
                self._problem = self._problem or problem
                self.stop()

        return [gevent.spawn(guarded, user) for user in self._users]

    def _drain(self, greenlets: list[Any]) -> None:
        gevent.joinall(greenlets, timeout=self.state.condition.drain_s)
        left = [one for one in greenlets if not one.dead]
        gevent.killall(left, timeout=1)

    # ---- shapes

    def _closed(self) -> None:
        load, state = self.state.condition.load, self.state
        assert isinstance(load, ClosedLoad)

        def loop(user: LabUser) -> None:
            while state.take():
                user.run_task()
                if load.think_s:
                    gevent.sleep(load.think_s)

        greenlets = self._each(loop)
        if load.requests is None:
            self._over.wait(timeout=self.state.condition.warmup_s + self.state.condition.duration_s)
            state.running = False
            self.ended_ns = monotonic_ns()
            self._drain(greenlets)
        else:
            while not all(one.dead for one in greenlets) and not self._over.is_set():
                gevent.joinall(greenlets, timeout=0.5)
            self._drain(greenlets)
            self.ended_ns = monotonic_ns()

    def _journey(self) -> None:
        greenlets = self._each(lambda user: user.journey())
        while not all(one.dead for one in greenlets) and not self._over.is_set():
            gevent.joinall(greenlets, timeout=0.5)
        gevent.killall([one for one in greenlets if not one.dead], timeout=1)

    def _burst(self) -> None:
        load = self.state.condition.load
        assert isinstance(load, Burst)
        timer = Timer()
        for k in range(load.repeats):
            timer.wait_until(self.started_ns + round(k * load.every_s * NS))
            if self._stopping:
                break
            self._guard(lambda k=k: self._users[0].before_burst(k))  # type: ignore[misc]
            for user in self._users:
                user.connect()
            gate, at = Event(), [0]

            def one(user: LabUser, gate: Event = gate, at: list[int] = at, k: int = k) -> None:
                gate.wait()
                user.arrival = k * load.requests + user.number
                user.planned_ns = user.dispatched_ns = at[0]
                user.run_task()

            greenlets = self._each(one)
            gevent.sleep(0)  # every user stands at the gate
            at[0] = monotonic_ns()
            gate.set()
            self.planned += len(greenlets)
            gevent.joinall(greenlets, timeout=load.every_s + self.state.condition.drain_s)
            gevent.killall([g for g in greenlets if not g.dead], timeout=1)
        timer.close()

    def _guard(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as problem:
            self._problem = self._problem or problem
            self.stop()

    def _planned_trace(self, load: OpenLoad | StagedLoad) -> Trace:
        """This process's share of the arrivals, made before the start: a long trace takes a while."""
        condition, state = self.state.condition, self.state
        total_s = condition.warmup_s + (condition.duration_s if isinstance(load, OpenLoad) else 0.0)
        trace = trace_of(load, total_s, state.seed).share(state.process, state.processes)
        self.trace_hash = trace.hash
        self.planned = len(trace)
        return trace

    def _open(self) -> None:
        condition, state = self.state.condition, self.state
        load = condition.load
        assert isinstance(load, OpenLoad | StagedLoad)
        trace = self._trace
        free: deque[LabUser] = deque(self._users)
        waiting: deque[tuple[int, int, int]] = deque()
        wake = {id(user): Event() for user in self._users}
        given: dict[int, tuple[int, int, int]] = {}
        flying: dict[int, tuple[int, int, int]] = {}

        def serve(user: LabUser) -> None:
            event = wake[id(user)]
            while True:
                event.wait()
                event.clear()
                job: tuple[int, int, int] | None = given.pop(id(user))
                while job is not None:
                    flying[id(user)] = job
                    user.arrival, user.planned_ns, user.dispatched_ns = job
                    user.run_task()
                    del flying[id(user)]
                    job = waiting.popleft() if waiting else None
                free.append(user)

        greenlets = self._each(serve)
        gevent.sleep(0)
        timer = Timer()
        begin = self.started_ns
        for index, offset in zip(trace.indices, trace.offsets_ns, strict=True):
            timer.wait_until(begin + offset)
            if self._stopping:
                break
            job = (index, begin + offset, monotonic_ns())
            if free:
                user = free.pop()  # the connection used last is the warmest
                given[id(user)] = job
                wake[id(user)].set()
            else:
                waiting.append(job)
        timer.wait_until(begin + round(trace.duration_s * NS))
        timer.close()
        self.ended_ns = monotonic_ns()
        deadline = time.monotonic() + condition.drain_s
        while (flying or given or waiting) and time.monotonic() < deadline and not self._stopping:
            gevent.sleep(0.01)
        self.sent = len(state.recorder) + len(flying)
        end = monotonic_ns()
        gevent.killall(greenlets, timeout=1)
        name = state.recorder.names.id_of(state.recorder.names.all[0] if state.recorder.names.all else "request")
        for _, planned_ns, dispatched_ns in [*given.values(), *waiting]:  # the flying ones recorded themselves
            state.recorder.add((planned_ns, dispatched_ns, 0, 0, end, 0, 0, name, -1, 0, CENSORED, 0))
