"""The arrivals of one load process: its share of the load's, in a duet its arm's, and those of the warm-up."""

from lab.generator.duet import moved
from lab.generator.schedule import Trace, trace_of, warmup_seed
from lab.generator.state import LoadState
from lab.model import Load, OpenLoad

NO_TRACE = Trace((), (), 0.0, "")


def trace_of_load(load: Load, state: LoadState) -> Trace:
    """This process's share of the arrivals; in a duet the arm's."""
    trace = trace_of(load, state.condition.duration_s, state.seed).share(state.process, state.processes)
    return moved(trace, load, *state.place, state.seed) if state.place else trace


def trace_of_warmup(load: Load, state: LoadState, longest_s: float) -> Trace:
    """Arrivals for as long as the warm-up may take, at the rate of the start, from a seed of their own; none for a start without load."""
    rate = load.stages_over(longest_s)[0].rate_per_s
    if not longest_s or not rate:
        return NO_TRACE
    trace = trace_of(OpenLoad(rate, load.spacing), longest_s, warmup_seed(state.seed))
    return trace.share(state.process, state.processes)
