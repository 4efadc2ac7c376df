"""What a trial asks of the thing under test, whether the lab has started it or not."""

from typing import Protocol

from lab.target.address import Address


class Target(Protocol):
    """Something that answers on ``address``.  ``command`` is what was started, for the record; empty where nothing was."""

    @property
    def address(self) -> Address:
        """Where it listens."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        ...

    def worker_pids(self) -> tuple[int, ...]:
        """The processes that answer; empty where they are not known."""
        ...

    def roots(self) -> list[int]:
        """The roots of the trees whose CPU and memory are its own; empty where there are none to be seen: both are refused then, not 0."""
        ...

    def problem(self) -> str:
        """Why it cannot answer any more, or an empty string."""
        ...

    def settle(self, seconds: float) -> None:
        """Wait until the work of its own start is over, at most so long."""
        ...

    def wait_for_rows(self, until_ns: int) -> None:
        """Wait until the wrapper's rows tell of the time up to an instant (CLOCK_MONOTONIC)."""
        ...

    def stop(self) -> list[bytes]:
        """Stop what was started, and give the wrapper's rows, one element for each worker; none where there is no wrapper."""
        ...
