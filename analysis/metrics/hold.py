"""What a variant holds while something fails: the longest wait for any answer, the time until nothing fails any more, and signs of the fault.

All three are about the whole load of a condition of the fault matrix (``lab.catalog.faults``), the time before the fault included: a remedy that
hangs without a fault does not hold either.
"""

import math

import numpy as np
from numpy.typing import NDArray

from analysis.frames import CENSORED, OK, TIMEOUT
from analysis.metrics.base import Context, Metric, difference, need_samples, outcome_is, refuse
from lab.words.record import EventSeen


def _fault_events(context: Context) -> tuple[EventSeen, ...]:
    if not context.condition.fault:
        raise refuse(
            "nothing fails under this condition", "Use it in a condition of the fault matrix (`run --faults`)."
        )
    return tuple(context.trial.record.events)


def _sent(context: Context) -> NDArray[np.bool_]:
    return np.asarray(context.trial.column("sent_ns") > 0)


def _failed(context: Context) -> NDArray[np.bool_]:
    """Requests that ended without the answer that they expect; what the end of the load cut off is no failure."""
    trial = context.trial
    return ~(outcome_is(trial, OK) | outcome_is(trial, CENSORED))


def hold_answer(context: Context) -> float:
    """The longest time from sending to anything: an answer, of whatever status, or a connection closed.  A request that hangs makes it never.

    A 503 after 10 ms holds, and so does a reset, which a client can retry; a time-out of the generator's own does not.
    """
    _fault_events(context)
    need_samples(context)
    trial, sent = context.trial, _sent(context)
    hung = outcome_is(trial, TIMEOUT) | outcome_is(trial, CENSORED)
    if np.any(hung & sent):
        return math.inf
    back = sent & (trial.column("done_ns") > 0)
    if not back.any():
        raise refuse("no request left the generator", "Look at the load's log.", "missing")
    return float(difference(trial, "done_ns", "sent_ns")[back].max()) / 1e9


def hold_recovery(context: Context) -> float:
    """From the end of the fault to the end of the last request that failed after it; 0 where none did.

    Never where no request succeeded after that one: a load that ends in failures has not recovered.
    """
    events = _fault_events(context)
    need_samples(context)
    trial = context.trial
    over_ns = max((event.at_ns for event in events), default=trial.record.load_started_ns)
    done = trial.column("done_ns")
    late = _failed(context) & (done > over_ns)
    last_ns = int(done[late].max()) if late.any() else over_ns
    good = outcome_is(trial, OK) & (trial.column("sent_ns") > (last_ns if late.any() else over_ns))
    if not good.any():
        return math.inf
    return (last_ns - over_ns) / 1e9


def hold_signs(context: Context) -> float:
    """Lines that the target logged from the fault's beginning on, and answers that were no success: 0 is an outage that nobody could see."""
    events = _fault_events(context)
    need_samples(context)
    lines = context.trial.record.extra.get("log_lines")
    if lines is None:
        raise refuse("the target's log was not counted in this trial", "Run it again with this version.", "missing")
    begin_ns = min((event.at_ns for event in events), default=0)
    failed = _failed(context) & (context.trial.column("done_ns") >= begin_ns)
    return float(lines) + float(np.count_nonzero(failed))


METRICS = [
    Metric("hold_answer_s", "hold", hold_answer),
    Metric("hold_recovery_s", "hold", hold_recovery),
    Metric("hold_signs", "hold", hold_signs),
]
