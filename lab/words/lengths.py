"""How long a load takes: as planned, at most, and with everything around it.  Pure, and quick to import: ``bench.py list`` asks it too."""

from typing import TYPE_CHECKING

from lab.words.loads import Load

if TYPE_CHECKING:
    from lab.model import Condition

MOST_EXTENSIONS = 3
"""Of a warm-up (docs/method.md section 2)."""

SPREAD_S = 10.0
"""For dealing the connections over the workers."""

START_S = 1.6
"""Of a trial without its load: the server's start, probes, settling, reads, the stop."""

PER_WORKER_S = 0.35
"""Of each worker after the first."""


def warmup_s(condition: "Condition") -> float:
    """How long the warm-up takes if it is not prolonged; only a load that ends by the clock has one."""
    return condition.warmup_s if condition.load.by_clock else 0.0


def may_extend(condition: "Condition") -> bool:
    """Whether a warm-up may be prolonged.

    Not where events are planned by the clock, which would fall into another part of the load, and not in a duet, whose arms share every second.
    """
    return not condition.events and not condition.duet


def planned_s(condition: "Condition") -> float:
    """How long the load takes if all goes well, from its start to its last request."""
    return condition.load.lasts_s(condition.duration_s) + warmup_s(condition)


def longest_s(condition: "Condition") -> float:
    """How long it may take before it counts as hung, with every extension of the warm-up, spreading and draining."""
    took = condition.load.longest_s(condition.duration_s)
    took += warmup_s(condition) * (1 + (MOST_EXTENSIONS if may_extend(condition) else 0))
    return took + (SPREAD_S if condition.load.spread else 0.0) + condition.drain_s


def trial_s(load: Load, duration_s: float, warmup_s: float, workers: int) -> float:
    """Roughly how long a trial takes, with its overhead."""
    warm = warmup_s if load.by_clock else 0.0
    return load.lasts_s(duration_s) + warm + START_S + PER_WORKER_S * (workers - 1)
