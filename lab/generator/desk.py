"""The desk of an open load: it hands every arrival to a free user at once, and sends for a further user where none is free."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gevent.event import Event

from lab.generator.crew import Crew
from lab.generator.state import LoadState
from lab.generator.timer import Timer, monotonic_ns
from lab.generator.users import LabUser

Arrival = tuple[int, int, int]
"""Index, planned and dispatched instant."""


class Desk:
    """Arrivals wait for nobody: ``dispatch`` never blocks.  ``in_turn`` deals them round (where the connections are spread over workers);
    otherwise the connection used last is taken, which is the warmest.
    """

    def __init__(
        self, crew: Crew, state: LoadState, start: Callable[[Callable[[LabUser], None], LabUser], Any], *, in_turn: bool
    ) -> None:
        self.greenlets: list[Any] = []
        self.waiting: deque[Arrival] = deque()
        self._crew, self._state, self._start = crew, state, start
        self._free: deque[LabUser] = deque()
        self._take = self._free.popleft if in_turn else self._free.pop
        self._wake: dict[LabUser, Event] = {}
        crew.welcome(self.welcome)

    def welcome(self, user: LabUser) -> None:
        """One more user to hand arrivals to."""
        self._wake[user] = Event()
        self.greenlets.append(self._start(self._serve, user))

    def _serve(self, user: LabUser) -> NoReturn:
        event, free, waiting = self._wake[user], self._free, self.waiting
        while True:
            if waiting:
                user.arrival, user.planned_ns, user.dispatched_ns = waiting.popleft()
            else:
                free.append(user)
                event.wait()
                event.clear()
            user.run_task()
            if user.planned_ns:
                self._state.skip(user)

    def dispatch(self, arrival: int, planned_ns: int) -> None:
        """Hand over an arrival that is due."""
        if self._free:
            user = self._take()
            user.arrival, user.planned_ns, user.dispatched_ns = arrival, planned_ns, monotonic_ns()
            self._wake[user].set()
            return
        self.waiting.append((arrival, planned_ns, monotonic_ns()))
        if self._crew.arriving < len(self.waiting):  # somebody on the way may be free before the one who is sent for
            self._crew.hire()

    @property
    def busy(self) -> bool:
        """Whether somebody still works or waits."""
        return bool(self.waiting) or len(self._free) < len(self._wake)


class Round:
    """Arrivals of one trace from ``begin_ns`` on, handed to a desk as they become due."""

    def __init__(self, desk: Desk, offsets_ns: Sequence[int], indices: Sequence[int], begin_ns: int) -> None:
        self._desk, self._offsets_ns, self._indices, self._begin_ns = desk, offsets_ns, indices, begin_ns
        self.handed = 0

    def until(self, end_ns: int, timer: Timer, stopping: Callable[[], bool]) -> None:
        """Hand over all that are due before ``end_ns``, and return then; earlier where the load is to stop."""
        dispatch, wait_until, begin_ns = self._desk.dispatch, timer.wait_until, self._begin_ns
        offsets_ns, indices = self._offsets_ns, self._indices
        for position in range(self.handed, len(offsets_ns)):
            planned_ns = begin_ns + offsets_ns[position]
            if planned_ns >= end_ns:
                break
            wait_until(planned_ns)
            if stopping():
                return
            dispatch(indices[position], planned_ns)
            self.handed = position + 1
        if not stopping():
            wait_until(end_ns)
