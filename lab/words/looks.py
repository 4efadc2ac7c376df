"""A second look at what a quick run left undecided, as it is registered before any load.  Part of the words of ``lab.model``."""

from dataclasses import dataclass

ERROR = 0.05
"""Share of false conclusions of a verdict, by default: 95 % intervals (docs/method.md section 3)."""


@dataclass(frozen=True)
class SecondLook:
    """An undecided condition is looked at again, once, with ``times`` as many pairs as at first.

    ``errors`` are the shares of false conclusions that the first and the second look may have.  Together they are 5 %: whatever makes
    somebody look again, and whichever look decides, a false conclusion is one of the two (union bound).  That needs the second
    number of pairs to be fixed in advance.  Three pairs whose prediction ends two spreads away are settled in 79 % of runs with 3 % and
    2 %, in 64 % with 4 % and 1 %, and in 32 % by one look (``tests/test_simulation.py``).  Below ``fewest`` pairs nothing is looked at
    twice: their intervals say nothing at these levels.  All that is added takes at most ``time_share`` of the time of the plan again,
    the cheapest conditions first.
    """

    errors: tuple[float, float] = (0.03, 0.02)
    times: int = 2
    fewest: int = 3
    time_share: float = 0.5

    def error(self, first: int, pairs: int) -> float:
        """The share of false conclusions of a verdict from ``pairs`` pairs where the plan had ``first``."""
        if first < self.fewest:
            return ERROR
        return self.errors[0] if pairs <= first else self.errors[1]
