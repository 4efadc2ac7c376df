"""Statistics on the printed examples of their sources."""

import math

import numpy as np
import pytest

from analysis import statistics as s
from analysis.selftest import lindley

# Hollander and Wolfe, Nonparametric Statistical Methods, table 3.1: Hamilton depression scale before and after a tranquilizer
BEFORE = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
AFTER = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
CHANGE = tuple(after - before for before, after in zip(BEFORE, AFTER, strict=True))


def test_hodges_lehmann_is_the_printed_estimate() -> None:
    assert s.hodges_lehmann(CHANGE) == pytest.approx(-0.46, abs=0.005)


def test_the_signed_rank_interval_is_the_printed_one() -> None:
    low, high = s.signed_rank_interval(CHANGE) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((-0.786, -0.010), abs=0.0005)


def test_five_values_have_no_exact_interval_and_six_have() -> None:
    assert s.signed_rank_interval([1, 2, 3, 4, 5]) is None
    assert s.signed_rank_interval([1, 2, 3, 4, 5, 6]) == (1, 6)


def test_clopper_pearson_agrees_with_the_tables() -> None:
    assert s.clopper_pearson(4, 20) == pytest.approx((0.0573, 0.4366), abs=5e-5)
    assert s.clopper_pearson(0, 10) == pytest.approx((0.0, 0.3085), abs=5e-5)


def test_holm_adjusts_as_in_the_paper() -> None:
    assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_five_pairs_can_never_be_significant_by_signs() -> None:
    assert s.sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 2**5
    assert s.sign_flip_p([1.0] * 8) == 2 / 2**8


def test_fishers_sleep_data_give_students_interval() -> None:
    # Student (1908), the extra hours of sleep: mean 1.58, t = 4.06 on 9 degrees of freedom
    extra = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
    low, high = s.t_interval(extra) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((0.7001, 2.4599), abs=5e-5)


def test_a_ratio_and_its_inverse_say_the_same() -> None:
    ratios = (1.9, 2.1, 2.0, 2.2)
    one, other = s.of_ratios(ratios), s.of_ratios([1 / ratio for ratio in ratios])
    assert one.value == pytest.approx(1 / other.value)
    assert (one.low, one.high) == pytest.approx((1 / (other.high or 0), 1 / (other.low or 0)))


def test_the_detectable_effect_has_the_power_that_was_asked_for() -> None:
    for spread in (1e-4, 0.02, 0.18):
        effect = s.detectable_effect(spread, 8)
        assert s.power_of(math.log1p(effect), spread, 8) == pytest.approx(0.8, abs=0.01)


def test_the_false_alarm_rate_of_a_paired_comparison_is_five_percent() -> None:
    draw = np.random.default_rng(7)
    experiments = 4000
    alarms = sum(s.excludes(s.of_ratios(tuple(np.exp(draw.normal(0, 0.05, 8)))), 1.0) for _ in range(experiments))
    low, high = s.clopper_pearson(alarms, experiments)
    assert low <= 0.05 <= high


def test_lindley_gives_the_mean_of_an_md1_queue() -> None:
    draw = np.random.default_rng(3)
    service, rho = 0.005, 0.7
    planned = np.cumsum(draw.exponential(service / rho, 400_000) * 1e9).astype(np.int64)
    assert lindley(planned, service) == pytest.approx(service + rho * service / (2 * (1 - rho)), rel=0.03)


# ---------------------------------------------------------------- held to tables, so that another quantile fails


def test_an_interval_uses_the_two_sided_quantile_of_its_level() -> None:
    # Student's t with 2 degrees of freedom: 4.3027 at 0.975, 2.9200 at 0.95, 5.643 at 0.985 (Abramowitz and Stegun, table 26.10)
    values = (1.0, 2.0, 3.0)
    for level, t in ((0.95, 4.30265), (0.90, 2.91999), (0.97, 5.64278)):
        low, high = s.t_interval(values, level) or (math.nan, math.nan)
        assert (high - low) / 2 == pytest.approx(t / math.sqrt(3), rel=1e-5)
        assert s.of_values(values, level=level).high == high and s.of_values(values, level=level).level == level


def test_of_ratios_uses_the_level_on_the_scale_of_logarithms() -> None:
    ratios = tuple(math.exp(d) for d in (0.1, 0.2, 0.3))
    for level, t in ((0.95, 4.30265), (0.97, 5.64278)):
        found = s.of_ratios(ratios, level=level)
        assert math.log(found.high or 0) == pytest.approx(0.2 + t * 0.1 / math.sqrt(3), rel=1e-5)
        assert math.log(found.low or 0) == pytest.approx(0.2 - t * 0.1 / math.sqrt(3), rel=1e-4)


def test_a_signed_rank_interval_needs_more_values_for_a_greater_level() -> None:
    six, seven = [1.0, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, 6, 7]
    assert s.of_values(six).robust_low == 1 and s.of_values(six, level=0.97).robust_low is None
    assert s.of_values(seven, level=0.97).robust_low == 1


def test_more_pairs_is_what_the_interval_then_needs() -> None:
    values = (
        1.0,
        2.0,
        3.0,
    )  # sd 1; half width t / sqrt K: 2.48 at three, 1.59 at four, 1.24 at five, 1.05 at six values
    assert [s.more_pairs(values, distance) for distance in (2.0, 1.5, 1.2, 1.06, 1.04)] == [1, 2, 3, 3, 4]
    assert s.more_pairs(values, 1.06, level=0.90) == 2  # 0.95 at five values
    assert s.more_pairs(values, 0.0) is None and s.more_pairs(values, 1e-6) is None
    assert [s.more_pairs(values[:count], 0.1) for count in (0, 1)] == [3, 2]


def test_one_more_value_lies_in_the_prediction_interval() -> None:
    low, high = s.another_value((1.0, 2.0, 3.0), 0.95, logarithmic=False) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((2 - 4.30265 * math.sqrt(4 / 3), 2 + 4.30265 * math.sqrt(4 / 3)), rel=1e-5)
    down, up = s.another_value((1.0, math.e, math.e**2), 0.95, logarithmic=True) or (math.nan, math.nan)
    assert (math.log(down), math.log(up)) == pytest.approx(
        (1 - 4.30265 * math.sqrt(4 / 3), 1 + 4.30265 * math.sqrt(4 / 3)), rel=1e-5
    )
    assert s.another_value((2.0,), 0.95, logarithmic=False) is None
    assert s.another_value((2.0, 2.0), 0.95, logarithmic=True) == pytest.approx((2.0, 2.0))


def test_the_coverage_of_the_prediction_interval_is_its_level() -> None:
    draw = np.random.default_rng(2)
    inside = 0
    for _ in range(4000):
        *seen, new = draw.normal(10.0, 1.0, 5)
        low, high = s.another_value(seen, 0.90, logarithmic=False) or (math.nan, math.nan)
        inside += bool(low <= new <= high)
    low, high = s.clopper_pearson(inside, 4000, level=0.999)
    assert low <= 0.90 <= high


def test_the_t_test_is_fishers_on_the_sleep_data() -> None:
    # Student (1908): t = 4.062 on 9 degrees of freedom, two-sided p = 0.002833
    extra = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
    assert s.t_p(extra) == pytest.approx(0.002833, rel=1e-3)
    assert s.t_p([0.0, 0.0, 0.0]) == 1.0 and s.t_p([0.5, 0.5, 0.5]) == 0.0 and s.t_p([0.5]) is None


def test_never_makes_a_mean_infinite_and_leaves_no_interval() -> None:
    for found in (s.of_values([1.0, math.inf]), s.of_ratios([1.0, math.inf, 2.0])):
        assert found.value == math.inf and (found.low, found.high, found.p_value, found.robust_low) == (None,) * 4
        assert (found.lowest, found.highest, found.never) == (1.0, math.inf, 1)


def test_identical_shares_have_an_interval_of_no_width() -> None:
    found = s.of_values([0.0] * 8)
    assert (found.low, found.high, found.lowest, found.highest) == (0.0, 0.0, 0.0, 0.0)
