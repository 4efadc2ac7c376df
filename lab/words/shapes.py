"""What every load shape answers, and how a number is shared over processes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Arrivals: TypeAlias = Literal["poisson", "uniform"]


BOUNDED_BY_COUNT_S = 60.0
"""For a load that ends when it is done: a journey, a number of requests."""


def part_of(total: int, process: int, processes: int) -> int:
    """How many of ``total`` fall to a process when they are dealt round, like cards."""
    return (total - process + processes - 1) // processes


def counted(count: int, what: str) -> str:
    """A number of things in words: 1 user, 2 users."""
    return f"{count} {what}" + ("" if count == 1 else "s")


class Shape:
    """What is asked of every shape, with the answers that hold for most.  ``duration_s`` is that of the condition."""

    is_open = False
    """Whether requests are planned at instants that do not depend on the answers."""
    walks = False
    """Whether each user walks the user class's ``journey``."""

    @property
    def spacing(self) -> Arrivals:
        """How an open load's requests are spaced."""
        return "poisson"

    @property
    def members(self) -> int:
        """Users that it has from the start, each with a connection."""
        raise NotImplementedError

    @property
    def by_clock(self) -> bool:
        """Whether it ends by the clock; else it ends when it is done."""
        return True

    @property
    def bursts(self) -> int:
        """How many instants there are at which requests are released together; 0 for none."""
        return 0

    @property
    def population(self) -> int:
        """Users of a closed loop, who send again when they are answered; 0 where there are none."""
        return 0

    @property
    def pause_s(self) -> float:
        """How long a user of a closed loop thinks between an answer and the next request."""
        return 0.0

    @property
    def most_requests(self) -> int | None:
        """After how many requests it ends; None where it does not count them."""
        return None

    @property
    def fresh_connections(self) -> bool:
        """Whether every request opens a connection."""
        return False

    @property
    def most_processes(self) -> int:
        """Among how many generator processes it can be shared."""
        return self.members

    def can_spread(self, workers: int) -> bool:
        """Whether every worker can have a connection of this load, and keep it."""
        return self.members >= workers and not self.fresh_connections

    def lasts_s(self, duration_s: float) -> float:
        """From its start (or the end of its warm-up) to its last request, if all goes well."""
        return duration_s

    def longest_s(self, duration_s: float) -> float:
        """How long that may take before the load counts as hung."""
        return self.lasts_s(duration_s) if self.by_clock else max(duration_s, BOUNDED_BY_COUNT_S)

    def stages_over(self, duration_s: float) -> tuple["Stage", ...]:
        """The stretches of constant rate of an open load; empty for another."""
        return ()

    def words(self, duration_s: float) -> str:
        """The load as a page says it."""
        raise NotImplementedError

    @property
    def brief(self) -> str:
        """The load in a few words."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stage:
    """One step of a ``StagedLoad``."""

    rate_per_s: float
    duration_s: float
