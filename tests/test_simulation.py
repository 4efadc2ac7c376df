"""The whole verdict path on simulated queues: how often it raises a false alarm, and what it detects.

Requests inside a trial wait behind each other, so their times are correlated; two identical servers tested request by request would come
out "different" in most experiments (docs/method.md section 2).  Here every experiment goes the way of a real one: samples, reduction, gates,
paired log ratios, verdict.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis import statistics
from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import Trial, memory_trial
from analysis.judge import Case, judge_claim, wanted_metrics
from lab.model import Claim, Condition, GotchaPlan, OpenLoad, RunPlan, SecondLook, TrialPlan
from lab.words.metrics import correct, naive
from lab.words.record import TrialRecord
from tests.fakes import START_NS, gotcha_plan

RATE_PER_S, SERVICE_S, DURATION_S, PAIRS = 140.0, 0.005, 2.0, 8
CONDITION = Condition("open", OpenLoad(RATE_PER_S), duration_s=DURATION_S)
CLAIM = Claim("slower", "harm", "naive takes 20 times as long", naive.latency_mean_s / correct.latency_mean_s, lambda c: 20.0,
              formula="20", source="far away, so that all that is found is smaller", null=1.0, tolerance=0.05)  # fmt: skip
PLAN = gotcha_plan(CLAIM, conditions=(CONDITION,))
RUN = RunPlan("r", "full", 1, "now", (PLAN,), (), PAIRS)
WANTED = wanted_metrics(PLAN, "naive")


def latencies_s(draw: np.random.Generator, service_s: float, arrivals_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Waiting and service in a queue with one server (Lindley): heavily autocorrelated at 70 % load."""
    times = draw.exponential(service_s, len(arrivals_s))
    steps = times[:-1] - np.diff(arrivals_s)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    waiting = walk - np.minimum.accumulate(walk)
    result: NDArray[np.float64] = waiting + times
    return result


def queue_trial(variant: str, pair: int, draw: np.random.Generator, service_s: float, trace: int) -> Trial:
    """A trial of an M/M/1 queue; both arms of a pair have the arrivals of the same ``trace``."""
    arrivals = np.cumsum(np.random.default_rng(trace).exponential(1 / RATE_PER_S, int(RATE_PER_S * DURATION_S)))
    planned = START_NS + (arrivals * 1e9).astype(np.int64)
    done = planned + (latencies_s(draw, service_s, arrivals) * 1e9).astype(np.int64)
    record = TrialRecord(
        PLAN.slug, CONDITION.key, pair, variant, trace, "ok", load_started_ns=START_NS,
        load_ended_ns=START_NS + int(DURATION_S * 1e9), request_names=("GET /",),
    )  # fmt: skip
    status = np.full(len(planned), 200, dtype=np.int64)
    return memory_trial(
        record,
        {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned), "done_ns": done, "status": status},
    )


def case_of(plan: GotchaPlan, draw: np.random.Generator, slower: float) -> Case:
    """One experiment: eight pairs, reduced as the lab reduces them."""
    trials = []
    for pair in range(PAIRS):
        trace = int(draw.integers(1 << 62))
        for variant, service_s in (("naive", SERVICE_S * slower), ("correct", SERVICE_S)):
            trials.append(
                reduce_trial(
                    queue_trial(variant, pair, draw, service_s, trace), plan, CONDITION, (("latency_mean_s", ""),)
                )
            )
    return Case(plan, RUN, None, {CONDITION.key: trials}, {})


def found_different(slower: float, experiments: int, seed: int) -> int:
    """In how many experiments the verdict says that there is a difference, one way or the other."""
    draw = np.random.default_rng(seed)
    verdicts = [judge_claim(case_of(PLAN, draw, slower), PLAN.claims[0]).verdict for _ in range(experiments)]
    assert set(verdicts) <= {"reproduced", "smaller", "reversed", "inconclusive", "not_reproduced"}
    return sum(verdict in ("reproduced", "smaller", "reversed") for verdict in verdicts)


def test_the_false_alarm_rate_of_the_whole_path_is_its_nominal_five_percent() -> None:
    experiments = 2000
    alarms = found_different(1.0, experiments, seed=11)
    low, high = statistics.clopper_pearson(alarms, experiments, level=0.999)
    assert low <= 0.05 <= high, f"{alarms / experiments:.1%} of {experiments}"


def test_requests_as_the_sample_would_cry_wolf() -> None:
    """The mistake that the design avoids: the t test over all requests of one run of each arm."""
    draw, alarms, experiments = np.random.default_rng(5), 0, 300
    for _ in range(experiments):
        arms = []
        for _ in range(2):
            arrivals = np.cumsum(draw.exponential(1 / RATE_PER_S, 2000))
            arms.append(np.log(latencies_s(draw, SERVICE_S, arrivals)))
        difference = arms[0].mean() - arms[1].mean()
        error = np.sqrt(arms[0].var(ddof=1) / len(arms[0]) + arms[1].var(ddof=1) / len(arms[1]))
        alarms += bool(abs(difference) > 1.96 * error)
    assert alarms / experiments > 0.4


def test_power_grows_with_the_effect() -> None:
    experiments = 150
    detected = [found_different(slower, experiments, seed=3) / experiments for slower in (1.05, 1.10, 1.20)]
    assert detected == sorted(detected)
    assert detected[0] < 0.9, "an effect of 5 % at this spread is not a certainty"
    assert detected[2] > 0.8, "a queue at 70 % load whose server is 20 % slower must be seen"


# ---------------------------------------------------------------- a quick run that looks twice

SPREAD = 0.5  # of the log ratios: so large that no interval fits into "no effect", which would be no false alarm
FIRST = 3


def two_looks(look: SecondLook, draw: np.random.Generator, *, ever: bool) -> bool:
    """Whether one quick run of two equal arms concludes that they differ.

    ``ever`` looks again wherever it is undecided; else only where the plan says that so many pairs would settle it, as the lab does.
    """
    trials = tuple(TrialPlan(PLAN.slug, CONDITION.key, pair, v, 1) for pair in range(FIRST) for v in PLAN.variants)
    run = replace(RUN, mode="quick", trials=trials, second_look=look)
    facts: list[TrialFacts] = []
    for until in (FIRST, FIRST * look.times):
        for pair in range(len(facts) // 2, until):
            ratio = float(np.exp(draw.normal(0.0, SPREAD)))
            for variant, mean_s in (("naive", ratio), ("correct", 1.0)):
                record = TrialRecord(PLAN.slug, CONDITION.key, pair, variant, 1, "ok")
                facts.append(TrialFacts(record, f"{pair}-{variant}", {"latency_mean_s": mean_s}))
        (found,) = judge_claim(Case(PLAN, run, None, {CONDITION.key: facts}, {}), PLAN.claims[0]).conditions
        settled = found.more_pairs is not None and found.more_pairs <= FIRST * (look.times - 1)
        if found.verdict != "inconclusive" or not (ever or settled):
            break
    return found.verdict in ("reproduced", "larger", "smaller", "reversed")


@pytest.mark.parametrize("ever", [True, False])
def test_two_looks_have_no_more_false_alarms_than_one(ever: bool) -> None:
    draw, experiments = np.random.default_rng(17), 2000
    alarms = sum(two_looks(SecondLook(), draw, ever=ever) for _ in range(experiments))
    low, high = statistics.clopper_pearson(alarms, experiments, level=0.95)
    assert low <= 0.05, f"{alarms / experiments:.1%} of {experiments}"
    assert high >= 0.03, "what the first look alone may spend: else the test sees nothing"


def test_two_looks_at_five_percent_each_would_cry_wolf() -> None:
    draw, experiments = np.random.default_rng(17), 2000
    alarms = sum(two_looks(SecondLook(errors=(0.05, 0.05)), draw, ever=True) for _ in range(experiments))
    assert statistics.clopper_pearson(alarms, experiments, level=0.95)[0] > 0.05


@pytest.mark.parametrize(("errors", "settled"), [((0.03, 0.02), 0.79), ((0.04, 0.01), 0.64), ((0.05, 0.0), 0.32)])
def test_how_often_two_looks_settle_what_is_two_spreads_away(errors: tuple[float, float], settled: float) -> None:
    """The figures of ``SecondLook``: the interval lies within two spreads around the truth at one of the looks."""
    values = np.random.default_rng(1).normal(0.0, 1.0, (20_000, 2 * FIRST))
    inside = np.zeros(len(values), dtype=np.bool_)
    for error, pairs in zip(errors, (FIRST, 2 * FIRST), strict=True):
        part = values[:, :pairs]
        half = stats.t.ppf(1 - error / 2, pairs - 1) * part.std(axis=1, ddof=1) / np.sqrt(pairs)
        inside |= np.abs(part.mean(axis=1)) + half < 2.0
    assert inside.mean() == pytest.approx(settled, abs=0.01)


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_an_overload_has_no_latency_ratio_however_long_it_lasts(seconds: float) -> None:
    """At 1.4 times the capacity the ratio would be whatever the test's length makes it; the verdict must not depend on that."""
    condition = replace(CONDITION, duration_s=seconds)
    plan = gotcha_plan(CLAIM, conditions=(condition,))
    trials = []
    for pair in range(3):
        for variant, service_s in (("naive", 2.0 * SERVICE_S), ("correct", SERVICE_S)):
            arrivals = np.cumsum(np.random.default_rng(pair).exponential(1 / RATE_PER_S, int(RATE_PER_S * seconds)))
            planned = START_NS + (arrivals * 1e9).astype(np.int64)
            done = planned + (latencies_s(np.random.default_rng([pair, 1]), service_s, arrivals) * 1e9).astype(np.int64)
            record = TrialRecord(
                plan.slug, condition.key, pair, variant, pair, "ok", load_started_ns=START_NS,
                load_ended_ns=START_NS + int(seconds * 1e9), request_names=("GET /",),
            )  # fmt: skip
            columns = {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned), "done_ns": done}
            trials.append(reduce_trial(memory_trial(record, columns), plan, condition, WANTED))
    verdict = judge_claim(Case(plan, RUN, None, {condition.key: trials}, {}), plan.claims[0])
    assert verdict.verdict == "inconclusive" and verdict.conditions[0].measured is None
    assert "overloaded" in verdict.conditions[0].reason
