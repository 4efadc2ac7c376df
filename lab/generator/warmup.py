"""The warm-up of a timed load: how long it takes, and how it ended (docs/method.md section 2).

It lasts ``warmup_s`` and is prolonged by as much, three times at most, until the load is steady.  It is only looked at where several
processes share the load (they would have to agree), where events are planned by the clock, and in a duet.  A growing backlog is an
overload: that would never become steady and is a finding, so the measured part begins.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lab.generator.recorder import COLUMNS
from lab.generator.schedule import NS_PER_S
from lab.generator.state import LoadState
from lab.generator.steady import Word, look
from lab.words.lengths import MOST_EXTENSIONS, may_extend, warmup_s

LOOK_NS = 50_000_000
"""The warm-up is looked at that long before its end: sorting 100,000 rows takes some 17 ms, and what is measured must not begin late."""


class Warmup:
    """The warm-up of one process, from ``begin_ns`` to ``end_ns``, which moves while the load is not steady."""

    def __init__(self, state: LoadState) -> None:
        self.length_ns = round(warmup_s(state.condition) * NS_PER_S)
        self.extensions = 0
        self.begin_ns = self.end_ns = 0
        self._most = MOST_EXTENSIONS if may_extend(state.condition) and state.processes == 1 else 0
        self._state = state
        self._word: Word | None = None

    @property
    def longest_s(self) -> float:
        """How long it may take."""
        return (1 + self._most) * self.length_ns / NS_PER_S

    @property
    def took_s(self) -> float:
        """How long it took."""
        return (self.end_ns - self.begin_ns) / NS_PER_S

    @property
    def steady(self) -> bool | None:
        """Whether it ended in a steady state; None where there was none, for an overload, and where there were too few answers to tell."""
        return {"steady": True, "drifting": False}.get(self._word or "")

    def rehearse(self) -> None:
        """Look at something before the load starts: the first look takes 30 ms, for numpy imports what it needs."""
        if self.length_ns:
            look(np.ones((1, COLUMNS), dtype=np.int64), np.ones(1, dtype=np.int64), 0, 1)

    def begin(self, at_ns: int) -> None:
        """The load starts."""
        self.begin_ns, self.end_ns = at_ns, at_ns + self.length_ns

    @property
    def look_ns(self) -> int:
        """When to look."""
        return self.end_ns - min(LOOK_NS, self.length_ns // 4)

    def over(self, planned_ns: npt.NDArray[np.int64]) -> bool:
        """Look at the rows so far; prolongs the warm-up where the load is not steady yet.  ``planned_ns``: see ``look``."""
        self._word = look(self._state.recorder.matrix(), planned_ns, self.begin_ns, self.look_ns)
        if self._word in ("steady", "overload") or self.extensions == self._most:
            return True
        self.extensions += 1
        self.end_ns += self.length_ns
        return False

    def perform(
        self, until: Callable[[int], None], planned_ns: npt.NDArray[np.int64], stopping: Callable[[], bool]
    ) -> None:
        """Let the load run ``until`` it is steady.  What the user class counted so far counts no more."""
        if not self.length_ns:
            return
        while not stopping():
            until(self.look_ns)
            if self.over(planned_ns):
                break
        until(self.end_ns)
        self._state.recorder.forget_counts()
