"""What the users of one generator process share: the job, the recorder, and the counts of what became of every request."""

import errno
from typing import Protocol

from lab.generator.recorder import Recorder
from lab.model import Condition
from lab.target.address import Address, address_of

OURS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
"""Why no connection can be opened that is no doing of the target: open files, ports, buffers, memory of this machine."""


class Planned(Protocol):
    """Who may have been given a planned instant."""

    planned_ns: int


class LoadState:
    """What the users of one process share: the recorder, the condition with the process's part of the load, the requests still to send.

    Requests are counted where things happen to them, apart from the rows: ``begun`` when a user sends one, ``sent`` when one is over of
    which something left, ``unsent`` when one is over of which nothing did (refused, or given up while it was connecting).  ``taken``
    counts the planned ones among those begun, ``skipped`` planned ones that no request was made of.
    """

    def __init__(
        self, condition: Condition, variant: str, where: str | Address, seed: int, recorder: Recorder, process: int = 0, processes: int = 1,
        own_path: str = "/", spread_first: int | None = None,
    ) -> None:  # fmt: skip
        self.condition = condition
        self.variant = variant
        self.address = address_of(where)
        self.seed = seed
        self.recorder = recorder
        self.own_path = own_path  # what the lab asks for itself to learn where a connection leads
        self.spread_first = spread_first  # see lab.generator.evenness.surplus
        self.begun = self.taken = self.sent = self.unsent = self.skipped = 0
        self.in_flight_ns = (
            0  # time in flight of all requests: ends less beginnings, apart from the rows (gate G5 compares)
        )
        self.connections_short = 0
        self.connection_problem = ""
        self.process, self.processes = process, processes
        self.number = process  # users are dealt round: the numbers of all processes are those of one
        load = condition.load
        self.left = load.most_requests
        self.reconnect = load.fresh_connections
        self.running = True
        self.warming = False
        self.place: tuple[int, int] | None = None  # in a duet: which arm this is, of how many

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self.begun - self.sent - self.unsent

    def take(self) -> bool:
        """Whether one more request may be sent; counts it."""
        if self.left is None:
            return self.running
        if self.left <= 0 or not self.running:
            return False
        self.left -= 1
        return True

    def not_sent(self, begin_ns: int, problem: str) -> None:
        """Count a request of which nothing left: it was not in flight.  ``problem`` says whether this machine had no connection for it."""
        self.unsent += 1
        self.in_flight_ns += begin_ns
        if any(f"[Errno {number}]" in problem for number in OURS):
            self.short(problem)

    def skip(self, user: Planned) -> None:
        """A task ended without a request: its planned instant must not stay for the next one.  The trial's record shows how often."""
        user.planned_ns = 0
        self.skipped += 1
        self.recorder.count("tasks_without_request")

    def short(self, problem: str) -> None:
        """Count a request that no connection could be opened for, and keep the first reason."""
        self.connections_short += 1
        self.connection_problem = self.connection_problem or problem
