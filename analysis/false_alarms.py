"""How often a comparison of a thing with itself would have a word for it."""

from dataclasses import dataclass

import numpy as np

from analysis import statistics
from analysis.compare import word_of


@dataclass(frozen=True)
class FalseAlarms:
    """How often the same server twice is called different, with its exact binomial interval."""

    experiments: int
    share: float
    interval: tuple[float, float]
    nominal: float = 1 - statistics.LEVEL


def false_alarms(
    seed: int = 1, experiments: int = 2000, *, pairs: int = 3, spread: float = 0.05, band: float = 0.0
) -> FalseAlarms:
    """Simulate A/A grids: two cells of one server, whose pairs' harms differ by noise of ``spread`` (in logarithms) alone.

    With a ``band`` of 0 the interval itself is tried; the words of a real band need a shift of that much more and are rarer.
    """
    draw = np.random.default_rng(seed)
    alarms = 0
    for _ in range(experiments):
        before, after = np.exp(1.0 + draw.normal(0, spread, (2, pairs)))
        word = word_of(statistics.of_ratios((after / before).tolist()), statistics.of_ratios(after.tolist()), band)
        alarms += word in ("gone", "smaller", "larger")
    return FalseAlarms(experiments, alarms / experiments, statistics.clopper_pearson(alarms, experiments))
