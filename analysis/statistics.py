"""Estimates and intervals over trials.  Pure: values in, values out.

The unit of replication is the trial.  Sources, each tested on its printed example in ``tests/test_statistics.py``:

- paired t interval of log ratios: Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013
- signed ranks and Hodges-Lehmann: Hollander and Wolfe, Nonparametric Statistical Methods, 2nd ed. 1999, section 3.1-3.3
- exact permutation of signs: Fisher, The Design of Experiments, 1935, section 21
- exact binomial: Clopper and Pearson, Biometrika 26, 1934
- several claims at once: Holm, Scandinavian Journal of Statistics 6, 1979
- one more value: Hahn and Meeker, Statistical Intervals, 1991, section 4.2
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats

from analysis.model import Estimate

LEVEL = 0.95
MAX_PLANNED_PAIRS = 200
"""Beyond this many more pairs the answer is not "run more" but "this machine cannot tell"."""
EXACT_SIGNS = 20
"""Sign flips are enumerated up to this many pairs (a million), sampled above."""


# ---------------------------------------------------------------- intervals


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """``mean +- t sd / sqrt K``; None below two values.  Identical values give a point: nothing varied."""
    count = len(values)
    if count < 2:
        return None
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = _t_quantile(0.5 + level / 2, count - 1) * sd / math.sqrt(count)
    return mean - half, mean + half


@cache
def _t_quantile(quantile: float, freedom: int) -> float:
    return float(stats.t.ppf(quantile, freedom))


@cache
def _signed_rank_counts(count: int) -> tuple[int, ...]:
    """How many of the 2**count sign patterns give each value of the signed-rank sum (Hollander and Wolfe, table A.4)."""
    ways = [1] + [0] * (count * (count + 1) // 2)
    for rank in range(1, count + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(ways)


@cache
def _trimmed(count: int, level: float) -> int | None:
    """How many Walsh averages to leave off at each end: the most whose tail is at most (1 - level) / 2."""
    ways, total = _signed_rank_counts(count), 2**count
    tail = 0
    for value, number in enumerate(ways):
        tail += number
        if tail / total > (1 - level) / 2:
            return value - 1 if value else None
    return None


def walsh_averages(values: Sequence[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The sorted means of all pairs, each value with itself too."""
    x = np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(x))
    return np.sort((x[first] + x[second]) / 2)


def hodges_lehmann(values: Sequence[float]) -> float:
    """The median of the Walsh averages."""
    return float(np.median(walsh_averages(values)))


def signed_rank_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Exact interval of the centre from the signed-rank distribution; None where so few values cannot reach the level (95 % needs six)."""
    trimmed = _trimmed(len(values), level) if len(values) else None
    if trimmed is None:
        return None
    averages = walsh_averages(values)
    return float(averages[trimmed]), float(averages[len(averages) - 1 - trimmed])


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p: the share of the 2**K sign patterns whose mean is at least as far from zero.  K = 5 can never go below 0.0625."""
    d = np.asarray(differences, dtype=np.float64)
    count = len(d)
    if count == 0:
        raise ValueError("no differences")
    observed = abs(float(d.sum()))
    if count <= EXACT_SIGNS:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(100_000, count))
        sums = np.append(signs @ d, observed)
    # The sums of the same numbers in another order differ in the last digits.
    return float(np.mean(np.abs(sums) >= observed - 1e-12 * max(1.0, observed)))


def clopper_pearson(events: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if events == 0 else float(stats.beta.ppf(tail, events, trials - events + 1))
    high = 1.0 if events == trials else float(stats.beta.ppf(1 - tail, events + 1, trials - events))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values in the order given: reject below 0.05 with 5 % family-wise error."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for position, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = worst
    return adjusted


# ---------------------------------------------------------------- estimates


def of_values(values: Sequence[float], null: float | None = None, level: float = LEVEL) -> Estimate:
    """The mean of one variant's trials with its t interval and robust twin.  Needs one value.

    Counts and shares too: a share is one number a trial.  Requests of several trials put into one binomial would be correlated requests
    counted as independent ones, so identical shares of 0 or 1 are judged as identical values and get no interval from requests.
    A value of +inf (never) makes the mean infinite, and there is no interval.
    """
    if not all(map(math.isfinite, values)):
        return _never(values, level)
    low, high = t_interval(values, level) or (None, None)
    robust = signed_rank_interval(values, level) or (None, None)
    p = sign_flip_p([value - null for value in values]) if null is not None else None
    mean = float(np.mean(values)) if min(values) < max(values) else float(values[0])
    return Estimate(
        mean, low, high, tuple(values), p, hodges_lehmann(values), robust[0], robust[1], min(values), max(values),
        level=level,
    )  # fmt: skip


def of_ratios(ratios: Sequence[float], null: float | None = 1.0, level: float = LEVEL) -> Estimate:
    """The geometric mean of paired ratios: ``exp(mean d +- t sd(d) / sqrt K)`` with ``d = ln ratio``.

    So too for one variant's times, rates and CPU, whose noise multiplies: their interval never reaches below zero.
    A zero has no logarithm: then the plain mean is taken (counts that can be zero).
    """
    if min(ratios) <= 0 or not all(map(math.isfinite, ratios)):
        return of_values(ratios, null, level)
    logs = [math.log(ratio) for ratio in ratios]
    low, high = _exp(t_interval(logs, level))
    robust = _exp(signed_rank_interval(logs, level))
    p = sign_flip_p([log - math.log(null) for log in logs]) if null is not None and null > 0 else None
    mean = math.exp(float(np.mean(logs))) if min(ratios) < max(ratios) else float(ratios[0])
    return Estimate(
        mean, low, high, tuple(ratios), p, math.exp(hodges_lehmann(logs)), robust[0], robust[1], min(ratios), max(ratios),
        level=level,
    )  # fmt: skip


def _never(values: Sequence[float], level: float) -> Estimate:
    return Estimate(math.inf, None, None, tuple(values), lowest=min(values), highest=max(values), level=level)


def _exp(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (math.exp(interval[0]), math.exp(interval[1])) if interval else (None, None)


def interval(
    estimate: Estimate, level: float, *, logarithmic: bool, robust: bool = False
) -> tuple[float, float] | None:
    """The interval of an estimate's values at another level, on the scale that the estimate was made on."""
    make = signed_rank_interval if robust else t_interval
    if logarithmic and min(estimate.values) > 0:
        found = make([math.log(value) for value in estimate.values], level)
        return (math.exp(found[0]), math.exp(found[1])) if found else None
    return make(estimate.values, level)


def another_value(values: Sequence[float], level: float, *, logarithmic: bool) -> tuple[float, float] | None:
    """Between which two numbers one more value of the same kind lies: the prediction interval, and all that was seen.

    ``mean +- t sd sqrt(1 + 1/K)`` (Hahn and Meeker, Statistical Intervals, 1991, section 4.2).  None below two values.
    """
    if len(values) < 2:
        return None
    logarithmic = logarithmic and min(values) > 0
    seen = [math.log(value) for value in values] if logarithmic else list(values)
    low, high = t_interval(seen, level) or (0.0, 0.0)
    middle, half = (low + high) / 2, (high - low) / 2 * math.sqrt(len(seen) + 1)
    ends = (middle - half, middle + half)
    if logarithmic:
        ends = (math.exp(ends[0]), math.exp(ends[1]))
    return min(ends[0], *values), max(ends[1], *values)


def t_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test that the differences have a mean of zero; None below two.  Identical ones are 0 or certain."""
    count = len(differences)
    if count < 2:
        return None
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if mean == 0:
        return 1.0
    if sd <= 1e-12 * abs(mean):
        return 0.0
    return 2 * float(stats.t.sf(abs(mean) / sd * math.sqrt(count), count - 1))


def excludes(estimate: Estimate, value: float) -> bool:
    """Whether the interval leaves ``value`` out: a difference was detected."""
    return estimate.low is not None and estimate.high is not None and not estimate.low <= value <= estimate.high


# ---------------------------------------------------------------- planning


def more_pairs(values: Sequence[float], distance: float, level: float = LEVEL) -> int | None:
    """How many more values until the half width of the t interval at ``level`` is at most ``distance``; None where that is beyond reason.

    The spread is taken as it was seen.
    """
    count = len(values)
    if count < 2:
        return max(1, 3 - count)
    sd = float(np.std(values, ddof=1))
    if distance <= 0:
        return None
    for wanted in range(count + 1, count + MAX_PLANNED_PAIRS + 1):
        if _t_quantile(0.5 + level / 2, wanted - 1) * sd / math.sqrt(wanted) <= distance:
            return wanted - count
    return None


def power_of(effect: float, sd: float, pairs: int) -> float:
    """Power of the two-sided 5 % paired t test for a shift of ``effect`` in log units (noncentral t)."""
    if pairs < 2:
        return 0.0
    if sd == 0:
        return 1.0
    freedom, shift = pairs - 1, effect / sd * math.sqrt(pairs)
    critical = _t_quantile(0.975, freedom)
    power = float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))
    # far beyond the critical value scipy's noncentral t gives NaN where the answer is 1 to machine precision
    return 1.0 if math.isnan(power) else power


def detectable_effect(sd: float, pairs: int, power: float = 0.8) -> float:
    """The smallest slow-down, as a share (0.06 = 6 %), that ``pairs`` pairs detect with that power; ``sd`` of the log ratios of A/A pairs.

    Raises ValueError below two pairs.
    """
    if pairs < 2:
        raise ValueError("an effect needs two pairs")
    if sd == 0:
        return 0.0
    top = 40 * sd
    found = float(optimize.brentq(lambda effect: power_of(effect, sd, pairs) - power, 1e-9, top))
    return math.expm1(found)


def marginal_cost(requests: Sequence[float], used: Sequence[float]) -> tuple[float, float]:
    """Cost of one more request and cost of none, by least squares over several rates: slope and intercept.

    CPU seconds of a trial against its completed requests at three rates; the intercept is the idle machine.
    Raises ValueError for fewer than two different numbers of requests.
    """
    x, y = np.asarray(requests, dtype=np.float64), np.asarray(used, dtype=np.float64)
    if len(set(requests)) < 2:
        raise ValueError("a regression needs two different rates")
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return slope, float(y.mean() - slope * x.mean())
