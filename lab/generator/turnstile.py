"""Who sends next in a duet: the arms take turns within the same seconds, in a random order that is drawn anew for every round.

A core that a neighbour slows for seconds then slows both arms, and never two requests of one user's pair are on their way at once
(Bulej et al., Duet benchmarking, ICPE 2020).  Runs on gevent in the load child.
"""

import random
from collections.abc import Sequence

from gevent.event import Event


class Turnstile:
    """Deals turns to ``arms``: one turn each a round.  An arm that has ``retired`` is left out; the others go on without it."""

    def __init__(self, arms: Sequence[str], seed: int) -> None:
        self._draw = random.Random(seed)
        self._live = list(arms)
        self._gates = {arm: Event() for arm in arms}
        self._round: list[str] = []
        self._turn = ""
        self._next()

    def enter(self, arm: str) -> None:
        """Wait for this arm's turn."""
        self._gates[arm].wait()

    def leave(self, arm: str) -> None:
        """The request is done: the next arm may send."""
        self._gates[arm].clear()
        self._next()

    def retire(self, arm: str) -> None:
        """This arm sends no more.  Calling it twice does no harm."""
        if arm not in self._live:
            return
        self._live.remove(arm)
        if self._turn == arm:
            self.leave(arm)

    def _next(self) -> None:
        self._turn = ""
        while self._live and not self._turn:
            if not self._round:
                self._round = self._draw.sample(self._live, len(self._live))
            arm = self._round.pop()
            if arm in self._live:
                self._turn = arm
                self._gates[arm].set()
