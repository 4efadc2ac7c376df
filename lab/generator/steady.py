"""Whether a load has become steady: the slope of windowed medians of the service time, and of the backlog (docs/method.md section 2).  Pure.

Looked at is the second half of what the warm-up has taken so far: what a cold start leaves behind is in the first.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lab.generator.recorder import DONE_COLUMN, NAME_COLUMN, OUTCOME_COLUMN, SENT_COLUMN
from lab.model import OUTCOMES

Word: TypeAlias = Literal["steady", "drifting", "overload", "unknown"]
"""``overload``: the backlog grows, which is a finding and no matter of warming up.  ``unknown``: too few answers to tell."""

WINDOWS = 8
LEAST_WINDOWS = 4
"""A line through fewer points fits whatever there is; eight are enough to see a trend and leave a median in each."""

LARGEST_DRIFT = 0.10
"""From the first to the last window, as a share: less is no difference by docs/method.md section 3 (equivalence band of latencies)."""

BACKLOG_FACTOR = 3.0
"""Times the root of the arrivals: beyond that a backlog is no chance (docs/method.md section 3, overload)."""

T_975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}
"""Student's t by degrees of freedom (windows less 2), two-sided 95 %."""

ANSWERED = tuple(OUTCOMES.index(name) for name in ("ok", "http_error"))
Rows: TypeAlias = npt.NDArray[np.int64]


def word_of(medians: Sequence[float], backlog: Sequence[float] = (), arrivals: int = 0) -> Word:
    """What windows in the order of time say.  ``backlog`` is empty where nothing is planned; ``arrivals`` are those so far."""
    if backlog:
        rise, chance = fitted(backlog)[0], BACKLOG_FACTOR * math.sqrt(arrivals)
        if rise > 0 and backlog[-1] > chance:
            return "overload"
        if rise < -chance:
            return "drifting"
    if len(medians) < LEAST_WINDOWS:
        return "unknown"
    change, error = fitted(medians)
    beyond_chance = abs(change) > T_975[len(medians) - 2] * error
    return "drifting" if beyond_chance and abs(change) > LARGEST_DRIFT * float(np.mean(medians)) else "steady"


def fitted(values: Sequence[float]) -> tuple[float, float]:
    """The change from the first to the last value along the line of least squares, and its standard error."""
    n = len(values)
    at = np.arange(n) - (n - 1) / 2
    y = np.asarray(values, dtype=float)
    spread = float(at @ at)
    slope = float(at @ y) / spread
    rest = y - y.mean() - slope * at
    error = math.sqrt(float(rest @ rest) / (n - 2) / spread) if n > 2 else math.inf
    return slope * (n - 1), error * (n - 1)


def look(rows: Rows, planned_ns: npt.NDArray[np.int64], begin_ns: int, now_ns: int) -> Word:
    """What the rows of a warm-up say that began at ``begin_ns``; ``planned_ns`` are its planned instants, ascending, none in a closed load."""
    middle_ns = begin_ns + (now_ns - begin_ns) // 2
    medians = medians_of(rows, middle_ns)
    if not len(planned_ns):
        return word_of(medians)
    ends = np.linspace(middle_ns, now_ns, WINDOWS + 1)[1:]
    arrived = np.searchsorted(planned_ns, ends, side="right")
    done = np.searchsorted(np.sort(rows[:, DONE_COLUMN]), ends, side="right")
    return word_of(medians, (arrived - done).tolist(), int(arrived[-1]))


def medians_of(rows: Rows, begin_ns: int) -> list[float]:
    """Medians of the service time of the answers from ``begin_ns`` on, in windows of as many answers each.

    Each time is divided by the median of the requests of its name: a mixture of short and long ones would look like a drift.
    """
    rows = rows[(rows[:, DONE_COLUMN] > begin_ns) & np.isin(rows[:, OUTCOME_COLUMN], ANSWERED)]
    if not len(rows):
        return []
    rows = rows[np.argsort(rows[:, DONE_COLUMN], kind="stable")]
    times = (rows[:, DONE_COLUMN] - rows[:, SENT_COLUMN]).astype(float)
    for name in np.unique(rows[:, NAME_COLUMN]):
        mine = rows[:, NAME_COLUMN] == name
        times[mine] /= max(float(np.median(times[mine])), 1.0)
    return [float(np.median(window)) for window in np.array_split(times, min(WINDOWS, len(times)))]
