"""A target that runs already, here or elsewhere: the lab sends it requests and knows nothing of its processes.

Load, probes, final reads over HTTP, latencies, rates and answers work as ever.  CPU, memory, rows of the wrapper, signals and restarts need
the processes; what asks for them is refused with that reason.
"""

from dataclasses import dataclass

from lab.model import Condition
from lab.target.address import Address
from lab.words.errors import NotHereError


@dataclass(frozen=True)
class Remote:
    """See ``Target``."""

    address: Address
    command: tuple[str, ...] = ()

    def worker_pids(self) -> tuple[int, ...]:
        """Not known."""
        return ()

    def roots(self) -> list[int]:
        """None that could be seen."""
        return []

    def problem(self) -> str:
        """What it answers tells."""
        return ""

    def settle(self, seconds: float) -> None:
        """It was started by somebody else."""

    def wait_for_rows(self, until_ns: int) -> None:
        """There are none."""

    def stop(self) -> list[bytes]:
        """It is not ours to stop."""
        return []


def check_possible(condition: Condition) -> None:
    """Refuse what needs the processes of a target that the lab has not started.  Raises NotHereError with the reason."""
    needs = {
        "an event that signals or starts a server": any(
            one.action in ("kill", "term", "start") for one in condition.events
        ),
        "other library versions": bool(condition.packages or condition.python),
        "a Celery worker": condition.celery is not None,
        "a fault proxy before its services": condition.proxy is not None and condition.proxy.where != "target",
        "connections spread over its workers": condition.load.spread,
    }
    for what, wanted in needs.items():
        if wanted:
            raise NotHereError(
                f"{condition.label}: {what} needs a target that the lab starts; this one is only reached by its address"
            )
