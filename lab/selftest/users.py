"""The Locust users of the self-test: one that sends, and one for each fault of a generator that the lab must notice."""

import errno
from typing import ClassVar

from gevent.monkey import get_original
from locust import task

from lab.generator.users import LabUser

STALL_EVERY = 50
STALL_S = 0.06
SENT_TWICE = 40
"""The arrival that one generator sends twice and records once."""
MOST_CONNECTIONS = 128
MOST_TRIES = 50
"""Connections that a user opens to get away from a worker: with three workers all of them lead there once in 3**50 times."""
really_sleep = get_original("time", "sleep")


class Reader(LabUser):
    """Sends GET / and nothing else."""

    @task
    def read(self) -> None:
        """One request."""
        self.get("/", name="/")


class Throttled(LabUser):
    """Stops the whole generator process now and then, as a neighbour on its core would."""

    @task
    def read(self) -> None:
        """One request, and a stop of the process at every fiftieth."""
        if self.arrival % STALL_EVERY == 0:
            really_sleep(STALL_S)
        self.get("/", name="/")


class SendsTwice(LabUser):
    """Sends one of its requests twice, and its rows tell of one: what a client does that tries again by itself."""

    @task
    def read(self) -> None:
        """One request."""
        if self.arrival == SENT_TWICE:
            self.connection.exchange(self._wire("GET", "/", None, None, None))
        self.get("/", name="/")


class Bounded(Reader):
    """A generator that may open so many connections and no more, as with a low limit on open files."""

    def connect(self) -> OSError | None:
        """Open the connection, as long as that is allowed."""
        if self.number >= MOST_CONNECTIONS:
            return OSError(errno.EMFILE, "the limit of the self-test on connections")
        return super().connect()


class Shunning(Reader):
    """Keeps away from the worker that it met first: that one gets no connection, however often the lab deals them anew."""

    shunned: ClassVar[int] = 0

    def worker(self, path: str, *, anew: bool) -> int:
        """Where the connection leads: nowhere near the worker that is shunned."""
        pid = super().worker(path, anew=anew)
        Shunning.shunned = Shunning.shunned or pid
        for _ in range(MOST_TRIES):
            if pid != Shunning.shunned:
                break
            pid = super().worker(path, anew=True)
        return pid
