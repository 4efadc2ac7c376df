"""From an estimate to a verdict: the lattice, laws, gates, crashes, several claims at once."""

import math
from dataclasses import replace

import pytest

from analysis import statistics
from analysis.facts import TrialFacts
from analysis.judge import Case, judge_claim
from analysis.laws import judge_trials
from analysis.metrics import Family, Refusal
from analysis.model import ClaimVerdict, Estimate, GateResult, VerdictName
from analysis.readings import estimate_of, is_logarithmic, read_pairs
from analysis.verdicts import Question, gotcha_verdict, judge_estimate, worst
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan, MetricExpression, Relation, RunPlan
from lab.words.metrics import Notation, correct, naive
from lab.words.record import TrialRecord
from tests.fakes import gotcha_plan

CONDITION = Condition("one", ClosedLoad(10), duration_s=2.0)


def ratio(*values: float) -> Estimate:
    return statistics.of_ratios(values)


def question(
    predicted: float, relation: Relation = "about", tolerance: float = 0.10, null: float | None = 1.0, family: Family = "time"
) -> Question:  # fmt: skip
    return Question(predicted, relation, tolerance, null, family, logarithmic=True)


@pytest.mark.parametrize(
    ("asked", "values", "verdict"),
    [
        (question(4.0), (3.95, 4.0, 4.05, 4.0), "reproduced"),
        (question(4.0), (2.0, 2.02, 1.98, 2.01), "smaller"),
        (question(4.0), (0.5, 0.51, 0.5, 0.49), "reversed"),
        (question(4.0), (1.01, 0.99, 1.0, 1.02), "not_reproduced"),
        (question(4.0), (8.0, 8.1, 7.9, 8.0), "larger"),
        (question(4.0), (1.0, 4.0, 2.0, 9.0), "inconclusive"),
        (question(4.0), (1.12, 0.9, 1.3, 1.25), "inconclusive"),  # includes no effect, but does not show it
        (question(2.0, "at_least"), (9.0, 9.5, 9.2, 9.1), "reproduced"),
        (question(1.2, "at_most"), (1.0, 1.01, 0.99, 1.02), "reproduced"),
        (question(1.2, "at_most"), (2.0, 2.02, 1.98, 2.01), "larger"),  # a tax that is dearer than predicted
        (question(0.25, null=1.0), (0.5, 0.51, 0.5, 0.49), "smaller"),
        (question(0.25, null=1.0), (0.1, 0.101, 0.1, 0.099), "larger"),  # more of the effect, whichever way it goes
        (question(0.25, null=1.0), (2.0, 2.02, 1.98, 2.01), "reversed"),
        (question(4.0, null=None), (2.0, 2.02, 1.98, 2.01), "smaller"),  # nobody said what no effect would be
        (question(4.0, null=None), (8.0, 8.1, 7.9, 8.0), "larger"),
        (question(1.0, "at_least", null=None), (0.5, 0.51, 0.5, 0.49), "smaller"),
    ],
)
def test_the_lattice(asked: Question, values: tuple[float, ...], verdict: VerdictName) -> None:
    assert judge_estimate(asked, ratio(*values)).verdict == verdict


def test_no_effect_needs_the_equivalence_band_not_just_a_wide_interval() -> None:
    wide = judge_estimate(question(4.0), ratio(0.8, 1.25, 1.0, 1.1))
    assert wide.verdict == "inconclusive"
    narrow = judge_estimate(question(4.0), ratio(0.99, 1.01, 1.0, 1.005))
    assert narrow.verdict == "not_reproduced" and "practically no effect" in narrow.reason


def values_with(mean: float, half_width: float) -> tuple[float, ...]:
    """Four values whose 90 % t interval is ``mean +- half_width``: t = 2.35336 with 3 degrees of freedom, sd of (-1, -1, 1, 1) 1.1547."""
    step = half_width / (2.35336 * 1.154701 / 2)
    return tuple(mean + sign * step for sign in (-1, -1, 1, 1))


@pytest.mark.parametrize(
    ("family", "share"),
    [
        ("time", 0.10),
        ("inside", 0.10),
        ("rate", 0.10),
        ("cpu", 0.05),
        ("memory", 0.10),
        ("share", 0.05),
        ("count", 0.05),
    ],
)
@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_the_equivalence_band_around_a_null_of_zero_is_a_share_of_the_prediction(
    family: Family, share: float, scale: float
) -> None:
    """Around zero nothing can be a share of the null.  A band a third or three times as wide fails one of the two."""
    asked = Question(100.0, "about", 0.1, 0.0, family)
    found = judge_estimate(asked, statistics.of_values(values_with(0.0, scale * share * 100.0)))
    assert found.verdict == ("not_reproduced" if scale < 1 else "inconclusive")


@pytest.mark.parametrize("scale", [0.97, 1.03])
@pytest.mark.parametrize(("family", "share"), [("time", 0.10), ("cpu", 0.05)])
def test_the_equivalence_band_around_a_null_of_one_is_a_share_of_it_either_way(
    family: Family, share: float, scale: float
) -> None:
    logs = values_with(0.0, scale * math.log1p(share))
    found = judge_estimate(question(4.0, family=family), ratio(*map(math.exp, logs)))
    assert found.verdict == ("not_reproduced" if scale < 1 else "inconclusive")


@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_the_interval_that_reproduces_is_at_95_percent(scale: float) -> None:
    """t(0.975, 3) = 3.18245 against 2.35336 at 0.95: a quantile of 0.95 would reproduce both."""
    asked = Question(100.0, "about", 0.10, None, "count")
    half_95 = scale * 10.0
    found = judge_estimate(asked, statistics.of_values(values_with(100.0, half_95 * 2.35336 / 3.18245)))
    assert found.verdict == ("reproduced" if scale < 1 else "inconclusive")


def test_a_smaller_error_needs_a_wider_interval_and_a_wider_one_for_no_effect() -> None:
    """97 %: t(0.985, 3) = 3.89605 decides, and t(0.97, 3) = 2.95051 (94 %) shows "no effect"."""
    asked = Question(100.0, "about", 0.10, 0.0, "count", level=0.97)
    for scale in (0.97, 1.03):
        values = values_with(100.0, scale * 10.0 * 2.35336 / 3.89605)
        assert judge_estimate(asked, asked.estimate(values)).verdict == ("reproduced" if scale < 1 else "inconclusive")
        values = values_with(0.0, scale * 5.0 * 2.35336 / 2.95051)
        found = judge_estimate(asked, asked.estimate(values))
        assert found.verdict == ("not_reproduced" if scale < 1 else "inconclusive")
    assert asked.narrow_level == pytest.approx(0.94)
    assert "94 %" in judge_estimate(asked, asked.estimate(values_with(0.0, 2.0))).reason


def test_more_pairs_would_settle_what_is_nearly_nothing() -> None:
    """The interval includes the null, near its middle: only fitting into "no effect" can end it."""
    asked = Question(100.0, "about", 0.1, 0.0, "count")
    found = judge_estimate(asked, asked.estimate(values_with(0.1, 6.0)))
    assert found.verdict == "inconclusive" and found.more_pairs is not None and 1 <= found.more_pairs <= 5
    nearer_an_end = judge_estimate(asked, asked.estimate(values_with(3.0, 6.0)))
    assert (
        nearer_an_end.more_pairs is not None and 8 <= nearer_an_end.more_pairs <= 14
    )  # to tell 3 from 0 is nearer than from 5


def test_an_inconclusive_verdict_says_how_many_more_pairs() -> None:
    found = judge_estimate(question(1.5, "at_most"), ratio(1.0, 1.2, 1.7))
    assert found.verdict == "inconclusive" and found.more_pairs is not None and 1 <= found.more_pairs <= 20
    hopeless = judge_estimate(question(1.0, "at_most", tolerance=0.0001), ratio(0.5, 2.0, 1.0))
    assert hopeless.more_pairs is None


def test_a_zero_has_no_logarithm_and_is_planned_for_all_the_same() -> None:
    asked = Question(10.0, "at_least", 0.1, None, "rate", logarithmic=True)
    found = judge_estimate(asked, asked.estimate((0.0, 14.0, 14.0, 13.0)))
    assert found.verdict == "inconclusive" and found.more_pairs is not None


@pytest.mark.parametrize(
    ("relation", "told"), [("about", "[3.6, 4.4]"), ("at_least", "at least 3.6"), ("at_most", "at most 4.4")]
)
def test_the_prediction_is_told_with_its_relation(relation: Relation, told: str) -> None:
    assert judge_estimate(question(4.0, relation), ratio(3.9, 4.0, 4.1)).reason.endswith(
        f"lies in the predicted {told}"
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("naive.requests_ok", False), ("naive.error_share", False), ("naive.throughput_rps", True), ("naive.latency_p50_s", True),
     ("naive.requests_ok / correct.requests_ok", True)],
)  # fmt: skip
def test_what_multiplies_is_estimated_on_logarithms(metric: str, expected: bool) -> None:
    assert is_logarithmic(MetricExpression.parse(metric)) is expected


def test_a_ratio_is_tested_against_one_where_no_null_is_named() -> None:
    expression = MetricExpression.parse("naive.latency_p50_s / correct.latency_p50_s")
    trials = pairs((0.2, 0.21, 0.2), (0.1, 0.1, 0.1))
    found = estimate_of(read_pairs(trials, expression), expression, None)
    assert found is not None and found.p_value == 2 / 2**3
    alone = estimate_of(
        read_pairs(trials, MetricExpression.parse("naive.latency_p50_s")),
        MetricExpression.parse("naive.latency_p50_s"),
        None,
    )
    assert alone is not None and alone.p_value is None


def test_one_pair_decides_a_count_and_never_a_time() -> None:
    assert (
        judge_estimate(Question(4.0, "about", 0.1, None, "count"), statistics.of_values([4.0])).verdict == "reproduced"
    )
    assert judge_estimate(question(4.0), ratio(4.0)).verdict == "inconclusive"


def test_a_law_must_hold_in_every_trial() -> None:
    law = Question(400.0, "about", 0.0, None, "count")
    assert judge_trials(law, [400.0, 400.0]).verdict == "reproduced"
    broken = judge_trials(law, [400.0, 401.0, 400.0])
    assert broken.verdict == "law_broken" and "2 of 3 trials agree" in broken.reason
    assert judge_trials(law, [401.0, 402.0]).verdict == "larger"
    assert judge_trials(law, [0.0, 399.0]).verdict == "smaller"
    assert judge_trials(law, [399.0, 401.0]).verdict == "law_broken"  # neither less nor more


def test_a_law_with_a_null_knows_absent_from_less() -> None:
    law = Question(400.0, "about", 0.0, 100.0, "count")
    assert judge_trials(law, [300.0, 320.0]).verdict == "smaller"
    assert judge_trials(law, [90.0, 99.0]).verdict == "reversed"
    assert judge_trials(law, [100.0, 100.0]).verdict == "not_reproduced"
    assert judge_trials(law, [100.0, 101.0]).verdict == "law_broken"
    assert judge_trials(law, [401.0, 402.0]).verdict == "larger"
    saves = Question(1.0, "at_most", 0.0, 40.0, "count")
    assert judge_trials(saves, [2.0, 39.0]).verdict == "smaller"
    assert judge_trials(saves, [41.0]).verdict == "reversed"
    quick = Question(
        0.1, "at_least", 0.0, 0.01, "time"
    )  # a time is never equal to anything: the equivalence band stands for it
    assert judge_trials(quick, [0.0101, 0.0098]).verdict == "not_reproduced"
    assert judge_trials(quick, [0.0115, 0.0120]).verdict == "smaller"


def test_a_bound_on_a_time_is_a_law_too() -> None:
    bound = Question(0.1, "at_least", 0.0, None, "inside")
    wild = [0.105, 0.72, 0.93]  # the interval of their mean reaches far below the bound, no trial does
    assert judge_trials(bound, wild).verdict == "reproduced"
    found = judge_trials(bound, [0.09, 0.72, 0.93])
    assert found.verdict == "law_broken"
    assert found.reason == "predicted at least 0.1, observed [0.09, 0.93]: 2 of 3 trials agree"


def test_the_robust_twin_can_only_make_it_inconclusive() -> None:
    steady = ratio(4.0, 4.01, 3.99, 4.0, 4.02, 3.98, 4.0, 4.0)
    assert judge_estimate(question(4.0), steady).verdict == "reproduced"
    contradicted = judge_estimate(question(4.0), replace(steady, robust_low=2.0, robust_high=2.1))
    assert contradicted.verdict == "inconclusive" and "robust twin smaller" in contradicted.reason
    cannot_tell = replace(steady, robust_low=3.0, robust_high=4.2)  # a little wider by nature: no contradiction
    assert judge_estimate(question(4.0), cannot_tell).verdict == "reproduced"


def test_the_worst_part_speaks_for_the_whole_and_nothing_is_never_a_pass() -> None:
    assert worst(["reproduced", "smaller", "invalid"]) == "invalid"
    assert worst(["reproduced", "smaller"]) == "smaller"
    assert worst(["smaller", "larger", "reproduced"]) == "larger"
    assert worst(["larger", "law_broken"]) == "law_broken"
    assert worst(["law_broken", "not_reproduced"]) == "not_reproduced"
    assert worst([]) == "inconclusive"


def claim_verdict(kind: str, verdict: VerdictName) -> ClaimVerdict:
    return ClaimVerdict(kind, kind, "", "", "", "", "", "about", 0.1, verdict, "one", (), False)


def test_harm_without_its_mechanism_is_a_symptom_only() -> None:
    harm, fix = claim_verdict("harm", "reproduced"), claim_verdict("fix", "reproduced")
    assert gotcha_verdict([harm, claim_verdict("mechanism", "not_reproduced"), fix]) == "symptom_only"
    assert gotcha_verdict([harm, claim_verdict("mechanism", "reproduced"), fix]) == "reproduced"
    more = claim_verdict("harm", "larger")
    assert gotcha_verdict([more, claim_verdict("mechanism", "not_reproduced"), fix]) == "symptom_only"
    no_harm = claim_verdict("harm", "not_reproduced")
    assert gotcha_verdict([no_harm, claim_verdict("mechanism", "not_reproduced")]) == "not_reproduced"


# ---------------------------------------------------------------- from trials


def trial(variant: str, pair: int, **values: "float | Refusal") -> TrialFacts:
    record = TrialRecord(
        "event_loop/example", CONDITION.key, pair, variant, pair, "ok", load_started_ns=0, load_ended_ns=2 * 10**9
    )
    return TrialFacts(record, f"{pair}-{variant}", values, requests=100)


def case(claim: Claim, trials: list[TrialFacts], gates: tuple[GateResult, ...] = ()) -> tuple[Case, GotchaPlan]:
    plan = gotcha_plan(claim, conditions=(CONDITION,))
    return Case(
        plan, RunPlan("r", "full", 1, "now", (plan,), (), 3), None, {CONDITION.key: trials}, {CONDITION.key: gates}
    ), plan


def slower(**more: float) -> Claim:
    return Claim(
        "slower",
        "harm",
        "s",
        naive.latency_p50_s / correct.latency_p50_s,
        lambda c: 2.0,
        formula="2",
        source="x",
        null=1.0,
    )


def pairs(naive: tuple[float, ...], correct: tuple[float, ...], metric: str = "latency_p50_s") -> list[TrialFacts]:
    found = [trial("naive", k, **{metric: v}) for k, v in enumerate(naive)]
    return found + [trial("correct", k, **{metric: v}) for k, v in enumerate(correct)]


def test_arms_are_compared_pair_by_pair() -> None:
    # The machine is three times slower in the second pair; the ratio is not.
    a_case, plan = case(slower(), pairs((0.2, 0.6, 0.21), (0.1, 0.3, 0.105)))
    verdict = judge_claim(a_case, plan.claims[0])
    assert verdict.verdict == "reproduced" and verdict.at_headline.measured is not None
    assert verdict.at_headline.measured.values == pytest.approx((2.0, 2.0, 2.0))


def test_a_failed_gate_makes_a_time_invalid_and_leaves_a_count_alone() -> None:
    gate = GateResult("G1", CONDITION.key, False, 0.02, 0.001, "p99 lag 20 ms", "Give the generator a core.")
    a_case, plan = case(slower(), pairs((0.2, 0.2, 0.2), (0.1, 0.1, 0.1)), (gate,))
    verdict = judge_claim(a_case, plan.claims[0])
    assert verdict.verdict == "invalid" and "G1" in verdict.at_headline.reason and "core" in verdict.at_headline.reason
    counted = Claim("c", "harm", "s", naive.requests_ok, lambda c: 4.0, formula="4", source="x", tolerance=0.0)
    a_case, plan = case(counted, [trial("naive", 0, requests_ok=4.0)], (gate,))
    assert judge_claim(a_case, plan.claims[0]).verdict == "reproduced"


def test_no_data_is_inconclusive_and_says_why() -> None:
    a_case, plan = case(slower(), [])
    verdict = judge_claim(a_case, plan.claims[0])
    assert verdict.verdict == "inconclusive" and "no data" in verdict.at_headline.reason
    refused = [trial("naive", 0, latency_p50_s=Refusal("p50 needs 6 answers")), trial("correct", 0, latency_p50_s=0.1)]
    a_case, plan = case(slower(), refused)
    assert "p50 needs 6 answers" in judge_claim(a_case, plan.claims[0]).at_headline.reason


@pytest.mark.parametrize(("metric", "relation"), [
    ("naive.capacity_rps", "at_most"), ("naive.capacity_rps", "about"), ("naive.capacity_rps", "at_least"),
    ("naive.capacity_rps / correct.capacity_rps", "at_most"), ("correct.capacity_rps / naive.capacity_rps", "at_least"),
])  # fmt: skip
def test_a_rate_that_was_refused_may_be_more_than_any_other(metric: str, relation: Relation) -> None:
    """A capacity is refused where the target kept up: it is above the offered rate, and the bound on it says nothing of that trial."""
    kept_up = Refusal("the target kept up: its capacity is above the offered rate")
    seen: tuple[float, ...] = (100.0, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100.0)
    predicted = {"at_most": 105.0, "about": 100.0, "at_least": 95.0}[relation] / (100.0 if "/" in metric else 1.0)
    asked = Claim(
        "cap",
        "harm",
        "s",
        Notation(metric),
        lambda c: predicted,
        formula="f",
        source="x",
        relation=relation,
        tolerance=0.05,
    )
    trials = pairs(seen, (100.0,) * 8, "capacity_rps")
    a_case, plan = case(asked, trials)
    assert judge_claim(a_case, plan.claims[0]).verdict == "reproduced"
    trials[3] = trial("naive", 3, capacity_rps=kept_up)
    a_case, plan = case(asked, trials)
    found = judge_claim(a_case, plan.claims[0])
    assert (
        found.verdict == "inconclusive" and "pair 4: naive.capacity_rps: the target kept up" in found.at_headline.reason
    )


def test_a_crash_in_the_rules_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("analysis.judge.judge_values", broken)
    a_case, plan = case(slower(), pairs((0.2, 0.2), (0.1, 0.1)))
    verdict = judge_claim(a_case, plan.claims[0])
    assert verdict.verdict == "inconclusive" and "analysis crashed: ZeroDivisionError" in verdict.at_headline.reason


def test_what_a_clock_measured_never_has_an_interval_below_zero() -> None:
    expression = MetricExpression.parse("naive.loop_lag_max_s")
    trials = [trial("naive", k, loop_lag_max_s=v) for k, v in enumerate((0.1, 0.7, 0.9))]
    estimate = estimate_of(read_pairs(trials, expression), expression, None)
    assert estimate is not None and is_logarithmic(expression)
    assert estimate.low is not None and 0 < estimate.low < estimate.value < (estimate.high or 0)
    assert estimate.value == pytest.approx(math.exp(sum(math.log(v) for v in (0.1, 0.7, 0.9)) / 3))


def test_a_law_is_shown_from_the_least_to_the_most() -> None:
    claim = Claim(
        "c",
        "mechanism",
        "s",
        naive.requests_ok,
        lambda c: 100.0,
        formula="L",
        source="x",
        tolerance=0.0,
        relation="at_least",
    )
    a_case, plan = case(claim, [trial("naive", 0, requests_ok=298.0), trial("naive", 1, requests_ok=354.0)])
    measured = judge_claim(a_case, plan.claims[0]).at_headline.measured
    assert measured is not None and (measured.lowest, measured.highest) == (298.0, 354.0)
    assert (measured.low, measured.high, measured.p_value) == (None, None, None)  # an interval is another thing
