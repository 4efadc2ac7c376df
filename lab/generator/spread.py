"""Connections dealt evenly over the server's workers: reopened until each worker has its share, within bounds, and recorded.

Which worker accepts a connection is up to the kernel: four workers of one server may well leave one of them without any.
"""

import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import TypeVar

import gevent

from lab.generator.evenness import UNKNOWN, surplus
from lab.generator.timer import end
from lab.generator.users import LabUser

LIMIT_S = 10.0
MOST_ROUNDS = 400
"""A worker that gets one new connection in twenty has its share of ten after some two hundred; one that gets none never has."""

T = TypeVar("T")


class Spread:
    """The connections of ``users`` and where they lead (``pids``, in the same order).

    A request of the lab's own to ``path`` tells where a connection leads.  ``first``: see ``surplus``.
    """

    def __init__(self, users: Sequence[LabUser], workers: int, path: str, first: int | None = None) -> None:
        self.users = users
        self.pids = [UNKNOWN] * len(users)
        self._workers, self._path, self._first = workers, path, first

    def deal(self) -> None:
        """Look where the connections lead and reopen them until each worker has its share, or the bounds are reached.

        In every other round all connections ask at once: the workers that have their share are busy while the others accept.
        """
        deadline = time.monotonic() + LIMIT_S
        everybody = range(len(self.users))
        self._ask_at_once(everybody, (), deadline)
        for number in range(MOST_ROUNDS):
            moving = surplus(self.pids, self._workers, self._first)
            if not moving or set(self.pids) == {UNKNOWN}:
                return
            if number % 2:
                for index in moving:
                    self._ask_at_once((), (index,), deadline)
            else:
                self._ask_at_once(sorted(set(everybody) - set(moving)), moving, deadline)
            if time.monotonic() > deadline:
                return

    def _ask_at_once(self, staying: Sequence[int], moving: Sequence[int], deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return
        asked = [gevent.spawn(self._ask, index, False) for index in staying]
        asked += [gevent.spawn(self._ask, index, True) for index in moving]
        gevent.joinall(asked, timeout=left_s)
        end(asked, 1.0)  # closes the connection of who has had no answer

    def _ask(self, index: int, anew: bool) -> None:
        self.pids[index] = UNKNOWN
        self.pids[index] = self.users[index].worker(self._path, anew=anew)


def by_turns(users: Sequence[T], pids: Sequence[int]) -> list[T]:
    """The users in an order in which neighbours lead to different workers: whoever takes them in turn meets the workers evenly."""
    queues: dict[int, list[T]] = {}
    for user, pid in zip(users, pids, strict=True):
        queues.setdefault(pid, []).append(user)
    return [user for row in zip_longest(*queues.values()) for user in row if user is not None]
