"""What a gate looks at and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats

from analysis.facts import TrialFacts
from analysis.gates.thresholds import limit
from analysis.metrics.latency import samples_needed
from lab.model import Condition

TAIL = 0.01
"""The share above a p99."""


@dataclass(frozen=True)
class Cell:
    """The finished trials of one condition, the conditions of the same gotcha beside it, and the generator's ceiling (of one process)."""

    condition: Condition
    trials: Sequence[TrialFacts]
    beside: Sequence[tuple[Condition, Sequence[TrialFacts]]] = ()
    ceiling_rps: float | None = None

    def arms(self) -> dict[str, list[TrialFacts]]:
        """The trials of each variant."""
        arms: dict[str, list[TrialFacts]] = {}
        for trial in self.trials:
            arms.setdefault(trial.variant, []).append(trial)
        return arms

    def pairs(self) -> dict[int, "Cell"]:
        """The cell of each pair alone, in order."""
        pairs: dict[int, list[TrialFacts]] = {}
        for trial in self.trials:
            pairs.setdefault(trial.record.pair, []).append(trial)
        return {pair: replace(self, trials=pairs[pair]) for pair in sorted(pairs)}

    @property
    def is_open(self) -> bool:
        """Whether requests are planned at instants of a schedule."""
        return self.condition.load.is_open


@dataclass(frozen=True)
class Outcome:
    """What a check found: see ``GateResult``."""

    passed: bool | None
    figure: float | None
    threshold: float | None
    detail: str


def skip(detail: str) -> Outcome:
    """The gate does not apply, and why."""
    return Outcome(None, None, None, detail)


def tail_refuted(late: int, count: int, p99_s: float, most_s: float) -> bool:
    """Whether a p99 of at most ``most_s`` is refuted: by the p99 itself where the sample supports one.

    In fewer samples one late one may be the p99 by chance.  There so many late ones refute it as come by chance in 2.5 % of samples of
    which 1 % may be late (exact binomial): two of twenty, four of a hundred.
    """
    if count >= samples_needed(1 - TAIL):
        return p99_s > most_s
    return bool(late) and float(stats.binom.sf(late - 1, count, TAIL)) < limit("tail_chance")
