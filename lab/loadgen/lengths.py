"""How long a load takes: as planned, and at most.  Pure."""

from lab.model import Burst, ClosedLoad, Condition, Journey, OpenLoad, StagedLoad

MOST_EXTENSIONS = 3
"""Of a warm-up (docs/method.md section 2)."""

SPREAD_S = 10.0
"""For dealing the connections over the workers."""

BOUNDED_BY_COUNT_S = 60.0
"""For a load that ends when it is done: a journey, a number of requests."""

BURST_MARGIN_S = 30.0
"""For the answers to a burst and what the user class does before it."""

JOURNEY_S = 2.0
"""What a journey takes, roughly; nobody knows before."""


def is_timed(condition: Condition) -> bool:
    """Whether the load ends by the clock."""
    load = condition.load
    return isinstance(load, OpenLoad | StagedLoad) or (isinstance(load, ClosedLoad) and load.requests is None)


def warmup_s(condition: Condition) -> float:
    """How long the warm-up takes if it is not prolonged; only a load that ends by the clock has one."""
    return condition.warmup_s if is_timed(condition) else 0.0


def may_extend(condition: Condition) -> bool:
    """Whether a warm-up may be prolonged.

    Not where events are planned by the clock, which would fall into another part of the load, and not in a duet, whose arms share every second.
    """
    return not condition.events and not condition.duet


def planned_s(condition: Condition) -> float:
    """How long the load takes if all goes well, from its start to its last request."""
    load = condition.load
    if isinstance(load, Burst):
        return max(load.every_s * load.repeats, 1.0)
    if isinstance(load, Journey):
        return JOURNEY_S
    took = sum(stage.duration_s for stage in load.stages) if isinstance(load, StagedLoad) else condition.duration_s
    return took + warmup_s(condition)


def longest_s(condition: Condition) -> float:
    """How long it may take before it counts as hung, with every extension of the warm-up, spreading and draining."""
    load = condition.load
    took = planned_s(condition)
    if isinstance(load, Burst):
        took = load.every_s * load.repeats + BURST_MARGIN_S
    elif not is_timed(condition):
        took = max(condition.duration_s, BOUNDED_BY_COUNT_S)
    if may_extend(condition):
        took += MOST_EXTENSIONS * warmup_s(condition)
    return took + (SPREAD_S if load.spread else 0.0) + condition.drain_s
