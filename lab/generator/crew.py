"""The users of one generator process: spawned by Locust's runner before the load, joined by further ones where an open load needs them."""

import resource
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from lab.generator.state import OURS, LoadState
from lab.generator.timer import end
from lab.generator.users import LabUser

START_TIMEOUT_S = 30.0
QUIT_S = 1.0
MAX_CONNECTIONS = 4096
"""Of one generator process, so that an overload ends in a record and not in a machine without memory (a user takes some 40 kB)."""

FILES_KEPT = 64
"""Open files that are not connections: logs, pipes, epoll, what a user class opens."""


class Crew:
    """Makes the users, keeps them, and knows how many connections may be open.

    ``failed`` is told what a user class raises.  Everybody who has come (``on_start`` is over) stands in ``users``; ``everybody`` holds
    those as well who are on their way.
    """

    def __init__(self, kind: type[LabUser], state: LoadState, runner: Any, failed: Callable[[Exception], None]) -> None:
        self.users: list[LabUser] = []
        self.everybody: list[LabUser] = []
        self.arriving = 0
        self.peak = 0
        self._kind, self._state, self._runner, self._failed = kind, state, runner, failed
        self._limit, self._reason = connections_allowed()
        self._expected = 0
        self._sent_for = 0  # their greenlet has not begun yet, and ``everybody`` does not hold them
        self._settled = Event()
        self._over = Event()
        self._joined: Callable[[LabUser], None] = lambda user: None
        crew = self

        def run(user: LabUser) -> None:
            crew._live(user)

        kind.run = run

    def spawn(self, count: int) -> None:
        """Let Locust make the users that are there from the start; returns when all have come, or at once when one has failed."""
        self._expected = count
        # spawn_rate: all at once; Locust's own ramp would be another load shape
        self._runner.start(count, spawn_rate=max(count, 1))
        self._runner.spawning_greenlet.link_exception(lambda greenlet: self._fail(greenlet.exception))
        if not self._settled.wait(timeout=START_TIMEOUT_S):
            raise RuntimeError(f"only {len(self.users)} of {count} users could start within {START_TIMEOUT_S:.0f} s")
        self.users.sort(key=lambda user: user.number)

    def welcome(self, joined: Callable[[LabUser], None]) -> None:
        """Whom to tell of further users as they come."""
        self._joined = joined

    def hire(self) -> bool:
        """Send for one more user; False where no further connection can be opened: the reason is kept, the request counted."""
        if len(self.everybody) + self._sent_for >= self._limit:
            self._state.short(self._reason)
            return False
        self.arriving += 1
        self._sent_for += 1
        gevent.spawn(self._make)
        return True

    def _make(self) -> None:
        try:
            user = self._kind(self._runner.environment)
        except Exception as problem:
            self._fail(problem)
        else:
            user.start(self._runner.user_greenlets)

    def _live(self, user: LabUser) -> None:
        """What Locust runs as a user's greenlet: come, then live until the load is over."""
        user._state = "running"
        self.everybody.append(user)
        further = len(self.everybody) > self._expected
        self._sent_for -= further
        problem = user.connect()
        if problem is not None and problem.errno in OURS:
            self._limit, self._reason = len(self.everybody) - 1, str(problem)
            if further:
                self.everybody.remove(user)
                self.arriving -= 1
                self._state.short(self._reason)
                return
        elif problem is None:
            self.peak += 1
        try:
            user.on_start()
        except Exception as raised:
            self._fail(raised)
            return
        self.users.append(user)
        if further:
            self.arriving -= 1
            self._joined(user)
        elif len(self.users) >= self._expected:
            self._settled.set()
        self._over.wait()

    def _fail(self, problem: Exception) -> None:
        self._failed(problem)
        self._settled.set()

    def dismiss(self) -> None:
        """Send everybody home; a request that is still under way in an ``on_start`` is recorded as such."""
        end(list(self._runner.user_greenlets), QUIT_S)
        # Locust itself would wait without end for a user that swallows its end
        gevent.with_timeout(QUIT_S, self._runner.quit, timeout_value=None)


def connections_allowed() -> tuple[int, str]:
    """How many connections this process may open, and what the limit is.  Asks the system for as many open files as it grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + FILES_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS, f"the lab opens at most {MAX_CONNECTIONS} connections in a generator process"
    return max(1, soft - FILES_KEPT), f"the limit of {soft} open files (ulimit -n)"
