"""The Locust users of the self-test: one that sends, one whose generator is throttled on purpose."""

from gevent.monkey import get_original
from locust import task

from lab.loadgen.users import LabUser

STALL_EVERY = 50
STALL_S = 0.06
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
