"""What a metric is: a named function of one trial, its unit in its name, and a typed refusal where it cannot be had."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.frames import BAD_FRAMING, CENSORED, HTTP_ERROR, OK, REFUSED, RESET, TIMEOUT, Ints, Trial, in_window
from lab.model import Condition, GotchaPlan
from lab.words.errors import LabError

Family: TypeAlias = Literal["time", "inside", "rate", "cpu", "memory", "share", "count", "hold"]
"""What kind of quantity a metric is: gates invalidate by family, equivalence bands go by family.

``inside`` is a time that the server's own process measured: a generator that is late cannot spoil it, noise can.
``hold`` is a bound of seconds, or a count, under a fault: only lost or invented rows can spoil it.
"""


RefusalKind: TypeAlias = Literal["unsupported", "missing", "not_applicable", "unknown"]
"""Too few samples; a source that is not there; a question that makes no sense here; a name that does not exist."""


class MetricRefused(LabError):
    """A metric cannot be had from this trial; raised by metric functions, turned into a ``Refusal`` by ``measure``."""

    def __init__(self, message: str, hint: str = "", kind: RefusalKind = "not_applicable") -> None:
        super().__init__(message, hint)
        self.kind: RefusalKind = kind


@dataclass(frozen=True)
class Refusal:
    """A metric that cannot be had: why, and the next step.  Never a NaN."""

    reason: str
    hint: str = ""
    kind: RefusalKind = "not_applicable"


@dataclass(frozen=True)
class Context:
    """What a metric function reads: one trial under one condition of one gotcha, and the argument in brackets ("" where none)."""

    trial: Trial
    plan: GotchaPlan
    condition: Condition
    arg: str = ""


@dataclass(frozen=True)
class Metric:
    """What a name of ``lab.words.metrics`` (which has its unit and its argument) is computed by; ``queues``: it grows with a backlog."""

    name: str
    family: Family
    function: Callable[[Context], float]
    queues: bool = False


def refuse(reason: str, hint: str = "", kind: RefusalKind = "not_applicable") -> MetricRefused:
    """The error to raise where a metric cannot be had."""
    return MetricRefused(reason, hint, kind)


def need_samples(context: Context) -> int:
    """How many requests the trial recorded.  Raises MetricRefused where there is none."""
    rows = len(context.trial.column("outcome"))
    if rows == 0:
        raise refuse("the trial recorded no request", "Look at the trial's log.", "missing")
    return rows


def need_source(context: Context, source: str, service: str = "") -> None:
    """Refuse where the record says that ``source`` could not be read, or the gotcha does not use the ``service`` at all."""
    if service and service not in context.plan.services:
        raise refuse(f"the gotcha has no {service}", "Use a metric of a service that the scenario lists.", "missing")
    missing = context.trial.record.extra.get("missing", ())
    if source in missing:
        raise refuse(f"{source} could not be read in this trial", "`bench.py doctor` says why.", "missing")


# ---------------------------------------------------------------- selections that several metrics share


def outcome_is(trial: Trial, outcome: int) -> NDArray[np.bool_]:
    """Which requests ended so."""
    return trial.cached(("outcome", outcome), lambda: np.asarray(trial.column("outcome") == outcome))


def unanswered(trial: Trial) -> NDArray[np.bool_]:
    """Censored requests and timed-out ones: all that is known is that they would have taken longer."""
    return trial.cached("unanswered", lambda: outcome_is(trial, CENSORED) | outcome_is(trial, TIMEOUT))


def never(trial: Trial) -> NDArray[np.bool_]:
    """Requests that got no answer of any use: time-outs, censored, reset, refused, badly framed ones, and answers of 500 or more.

    In a percentile they are "never" (docs/method.md section 6): a variant that fails fast must not look fast.  A status from 300 to 499 that
    the request did not expect is an answer of the application (a limiter refuses): it counts neither as a success nor as never, and
    its time stands in ``error_latency``.  A scenario for which such an answer is right says so (``expect``) and it is a success.
    """

    def make() -> NDArray[np.bool_]:
        broken = np.isin(trial.column("outcome"), (TIMEOUT, RESET, REFUSED, CENSORED, BAD_FRAMING))
        return broken | (outcome_is(trial, HTTP_ERROR) & (trial.column("status") >= 500))

    return trial.cached("never", make)


def named(context: Context) -> NDArray[np.bool_] | None:
    """Which requests have the name in brackets; None for all of them.  Raises MetricRefused for a name that no request has."""
    if not context.arg:
        return None
    names = context.trial.record.request_names
    if context.arg not in names:
        raise refuse(f"no request is named {context.arg!r}", f"Names: {', '.join(names) or 'none'}.", "unknown")
    index = names.index(context.arg)
    return context.trial.cached(("named", index), lambda: np.asarray(context.trial.column("name_id") == index))


def selected(context: Context, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` narrowed to the name in brackets."""
    name = named(context)
    return mask if name is None else mask & name


def measured_ok(context: Context) -> NDArray[np.bool_]:
    """Successful answers to requests planned inside the window."""
    trial = context.trial
    return trial.cached("measured_ok", lambda: outcome_is(trial, OK) & in_window(trial, context.condition))


def answered_count(context: Context) -> int:
    """Requests that got an answer of any status, over the whole load, warm-up included (as the counters of the services are).

    Raises MetricRefused where there was none.
    """
    outcome = context.trial.column("outcome")
    answered = int(np.count_nonzero(outcome <= 1)) if len(outcome) else 0
    if answered == 0:
        raise refuse("no request was answered: nothing to divide by", "Look at the server's log.", "missing")
    return answered


def difference(trial: Trial, later: str, earlier: str) -> Ints:
    """``later - earlier`` in ns for every request."""
    result: Ints = trial.cached((later, earlier), lambda: trial.column(later) - trial.column(earlier))
    return result
