"""Arrival schedules: a load shape, a seed and a duration in, absolute nanoseconds out.  Pure; no clock and no gevent.

Locust has no open model, so the lab plans every arrival in advance (docs/method.md section 1).  The uniform variates come from
``random.Random``, whose ``random()`` is the same in every Python version: an old run can be replayed from its seed.
"""

import hashlib
import math
import random
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lab.model import Load, Stage
from lab.words.errors import UsageError

Arrivals = Literal["poisson", "uniform"]

NS_PER_S = 1_000_000_000

# A trace is held in memory, 8 bytes an arrival; beyond this somebody has mistaken the unit of a rate.
MAX_ARRIVALS = 50_000_000


@dataclass(frozen=True)
class Trace:
    """Planned arrivals: ``offsets_ns`` from the load's start, ascending; ``duration_s`` is the end of arrivals.

    ``indices`` are the arrivals' positions in the whole trace, which differ from 0, 1, 2... in the share of one process.
    """

    offsets_ns: Sequence[int]
    indices: Sequence[int]
    duration_s: float
    hash: str

    def __len__(self) -> int:
        return len(self.offsets_ns)

    def share(self, process: int, processes: int) -> "Trace":
        """Every ``processes``-th arrival, from ``process`` on: the shares of all processes add up to the whole, exactly.

        A share of a Poisson process taken round-robin is not Poisson by itself; the sum, which is what the target sees, is.
        The hash stays that of the whole trace.
        """
        return Trace(self.offsets_ns[process::processes], self.indices[process::processes], self.duration_s, self.hash)


def trace_of(load: Load, duration_s: float, seed: int) -> Trace:
    """The trace of an open or staged load.  A staged load lasts as long as its stages and ignores ``duration_s``.

    The same seed gives the same trace, whatever runs it: both arms of a pair replay it.  Raises UsageError for a rate or
    a duration that is not positive, or more than ``MAX_ARRIVALS``.
    """
    stages = load.stages_over(duration_s)
    _check(stages)
    rng = random.Random(seed)
    offsets = array("q")
    begin_s = 0.0
    for stage in stages:
        begin_ns = round(begin_s * NS_PER_S)
        offsets.extend(begin_ns + at for at in arrivals_ns(stage, load.spacing, rng))
        begin_s += stage.duration_s
    return Trace(offsets, range(len(offsets)), begin_s, hash_of(offsets))


def arrivals_ns(stage: Stage, arrivals: Arrivals, rng: random.Random) -> Iterable[int]:
    """Offsets of one stage from its own start, all before its end.

    Uniform: one every 1/rate, the first at 0.  Poisson: gaps -ln(1 - u)/rate (inversion of the exponential distribution).
    A Poisson process has no memory, so each stage may begin afresh.
    """
    if stage.rate_per_s == 0:
        return
    end_ns = round(stage.duration_s * NS_PER_S)
    gap_ns = NS_PER_S / stage.rate_per_s
    if arrivals == "uniform":
        # rounded: 10 s at 3/s are 30 gaps, and 30.000000000000004 of them in floating point
        for index in range(math.ceil(round(end_ns / gap_ns, 6))):
            yield int(index * gap_ns)
        return
    uniform, log = rng.random, math.log
    at = -log(1.0 - uniform()) * gap_ns
    while at < end_ns:
        yield int(at)
        at -= log(1.0 - uniform()) * gap_ns


def hash_of(offsets_ns: Sequence[int]) -> str:
    """A short hash that identifies a trace: sha256 of its little-endian int64 offsets."""
    data = array("q", offsets_ns)
    if sys.byteorder == "big":
        data.byteswap()
    return hashlib.sha256(data.tobytes()).hexdigest()[:16]


def seed_for(seed: int, index: int) -> int:
    """The seed of one user's own random numbers: the same in both arms of a pair, another for each user."""
    return (seed << 40) ^ (index + 1)


def arrival_seed(seed: int, arrival: int) -> int:
    """The seed of one arrival's random numbers: the same in both arms of a pair, whichever connection carries it."""
    return (seed << 41) + (1 << 40) + arrival


def warmup_seed(seed: int) -> int:
    """The seed of a warm-up's own arrivals: the measured ones are the same however long it takes."""
    return seed + (1 << 70)  # beyond every seed of a trial


def _check(stages: Sequence[Stage]) -> None:
    expected = 0.0
    for stage in stages:
        if not (stage.duration_s > 0 and math.isfinite(stage.duration_s)):
            raise UsageError(f"open load: a duration of {stage.duration_s} s", "Give every stage a duration above 0.")
        if not (stage.rate_per_s >= 0 and math.isfinite(stage.rate_per_s)):
            raise UsageError(f"open load: a rate of {stage.rate_per_s}/s", "Give a finite rate of 0 or more.")
        expected += stage.duration_s * stage.rate_per_s
    if not expected > 0:
        raise UsageError("open load: no arrivals are planned", "Give at least one stage a rate above 0.")
    if expected > MAX_ARRIVALS:
        raise UsageError(f"open load: {expected:.0f} arrivals", f"Plan at most {MAX_ARRIVALS}; rates are per second.")
