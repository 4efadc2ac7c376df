"""A duet in the load child: the whole loads of all arms in one process, dealt out so that the arms share every second.

Users of a closed load or a journey take turns (``Turnstile``): the first users of all arms, the second ones, and so on.  An open load waits
for nobody, so there every arrival is moved within its place of the trace instead: which arm comes first is drawn for each arrival.
"""

import random
from collections.abc import Sequence
from typing import Any, cast

from lab.generator.replies import Reply
from lab.generator.schedule import NS_PER_S, Trace
from lab.generator.turnstile import Turnstile
from lab.generator.users import LabUser
from lab.model import Load


def arm_of(kind: type[LabUser], arm: str, turnstiles: "Turnstiles") -> type[LabUser]:
    """The user class for one arm: the scenario's own, whose requests in the load wait for their turn."""

    class Arm(kind):  # type: ignore[misc, valid-type]
        def request(self, *arguments: Any, **options: Any) -> Reply:
            if not turnstiles.open:
                return cast(Reply, super().request(*arguments, **options))
            turnstile = turnstiles.of(self.number)
            turnstile.enter(arm)
            try:
                reply: Reply = super().request(*arguments, **options)
                return reply
            finally:
                turnstile.leave(arm)

        def rest(self) -> None:
            turnstiles.of(self.number).retire(arm)

    Arm.__name__ = kind.__name__
    return Arm


class Turnstiles:
    """One turnstile for the users of each number, made when the first of them comes.

    They are ``open`` from the start of the load on.  Before it the arms ask as much as each needs: who has asked all it wanted stands
    at the line, and would never take the turn that the other waits for.
    """

    def __init__(self, arms: Sequence[str], seed: int) -> None:
        self._arms, self._seed = tuple(arms), seed
        self._made: dict[int, Turnstile] = {}
        self.open = False

    def of(self, number: int) -> Turnstile:
        """The turnstile of the users of this number."""
        if number not in self._made:
            self._made[number] = Turnstile(self._arms, self._seed + number)
        return self._made[number]


def moved(trace: Trace, load: Load, arm: int, arms: int, seed: int) -> Trace:
    """The arrivals of one arm of an open duet: each up to a mean gap later, at its drawn place among the arms.

    All arms draw from the same seed, so that they have different places at every arrival and each place equally often.  The hash stays
    that of the trace that they share.
    """
    rates = [stage.rate_per_s for stage in load.stages_over(trace.duration_s)]
    step_ns = NS_PER_S / max(rates) / arms
    last_ns = round(trace.duration_s * NS_PER_S) - 1  # what is due later would never be sent, in one arm only
    draw = random.Random(f"{seed}/duet")
    placed = []
    for offset_ns, index in zip(trace.offsets_ns, trace.indices, strict=True):
        place = draw.sample(range(arms), arms)[arm]
        placed.append((min(round(offset_ns + place * step_ns), last_ns), index))
    placed.sort()
    offsets = [offset_ns for offset_ns, _ in placed]
    return Trace(offsets, [index for _, index in placed], trace.duration_s, trace.hash)
