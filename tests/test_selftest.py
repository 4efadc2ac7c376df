"""The self-test's figures on trials whose truth is planted, and its parts performed for real where a count decides."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import selftest
from analysis.frames import Trial, memory_trial
from lab.model import GotchaPlan
from lab.record import SELFTEST_VERSION, GeneratorSeen, ProcessUse, TrialRecord
from lab.selftest.plan import LOADS, LOW_LOAD, PAIRS, SATURATED, WRAPPER_ARMS, gotchas, make_selftest_plan
from lab.store import newest_selftest
from tests.fakes import START_NS

SERVICE_S, BESIDE_S = 0.005, 0.0004


def part(name: str) -> GotchaPlan:
    return next(one for one in gotchas(False) if one.name == name)


def trial(variant: str, planned_s: NDArray[np.float64], took_s: NDArray[np.float64],
          pair: int = 0, condition: str = "one-user", **record: object) -> Trial:  # fmt: skip
    planned = START_NS + (planned_s * 1e9).astype(np.int64)
    done = planned + (took_s * 1e9).astype(np.int64)
    seen = TrialRecord("selftest/x", condition, pair, variant, 1, "ok", load_started_ns=START_NS, load_ended_ns=int(done.max()),
                       request_names=("/",), **record)  # type: ignore[arg-type]  # fmt: skip
    return memory_trial(seen, {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned), "done_ns": done})


def queue(rho: float, service_s: float, seed: int = 3, count: int = 60_000) -> Trial:
    """Poisson arrivals at a server with constant service time, plus what does not queue."""
    draw = np.random.default_rng(seed)
    arrivals = np.cumsum(draw.exponential(SERVICE_S / rho, count))
    steps = service_s - np.diff(arrivals)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    took = np.asarray(walk - np.minimum.accumulate(walk) + service_s + BESIDE_S)
    return trial("serial", arrivals.astype(np.float64), took)


def saturated() -> Trial:
    finished = np.linspace(SERVICE_S, 2000 * SERVICE_S, 2000)
    return trial("serial", finished - 8 * SERVICE_S + 8 * SERVICE_S, np.full(2000, 8 * SERVICE_S))


def test_the_queue_that_is_an_md1_is_found_to_be_one() -> None:
    trials = {rho: queue(rho, SERVICE_S) for rho in (LOW_LOAD, *LOADS)} | {SATURATED: saturated()}
    found = selftest.queue_figures(trials)
    assert found["ok"], found
    assert found["service_s"] == pytest.approx(SERVICE_S, rel=0.01)
    assert found["beside_s"] == pytest.approx(BESIDE_S, rel=0.1)
    for row in found["loads"]:
        assert abs(row["off_trace"]) < 0.05
        assert row["theory_s"] == pytest.approx(
            BESIDE_S + SERVICE_S * (1 + row["rho"] / (2 * (1 - row["rho"]))), rel=0.02
        )


def test_a_generator_that_hides_waiting_is_found_out() -> None:
    trials = {rho: queue(rho, SERVICE_S) for rho in (LOW_LOAD, *LOADS)} | {SATURATED: saturated()}
    honest = trials[0.8]
    planned, done = honest.column("planned_ns"), honest.column("done_ns")
    hidden = memory_trial(honest.record, {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned),
                                          "done_ns": planned + np.minimum(done - planned, int(2 * SERVICE_S * 1e9))})  # fmt: skip
    found = selftest.queue_figures({**trials, 0.8: hidden})
    assert not found["ok"] and not found["loads"][-1]["ok"]


def medians(spread: float, seed: int = 1, pairs: int = 24) -> dict[str, list[float]]:
    draw = np.random.default_rng(seed)

    def arm(slower: float) -> list[float]:
        return [0.002 * (1 + slower) * float(np.exp(draw.normal(0, spread))) for _ in range(pairs)]

    return {"work": arm(0), "work_again": arm(0), "work_5": arm(0.05), "work_10": arm(0.10), "work_20": arm(0.20)}


def test_planted_slow_downs_are_measured_and_detected() -> None:
    found = selftest.pairs_figures(medians(0.01))
    for effect, size in (("5%", 0.05), ("10%", 0.10), ("20%", 0.20)):
        assert found["planted"][effect]["measured"] == pytest.approx(size, abs=0.015)
    assert found["planted"]["20%"]["detected_share"] == 1.0
    assert found["false_alarm_interval"][0] <= 0.05 <= found["false_alarm_interval"][1]
    assert found["smallest_effect"] < selftest.pairs_figures(medians(0.10))["smallest_effect"]


def test_the_wrappers_cost_is_the_difference_of_the_arms() -> None:
    on, off = WRAPPER_ARMS
    trials = [
        trial(
            arm,
            np.arange(1000) / 1000,
            np.full(1000, took),
            pair,
            processes={"server": ProcessUse(int(cpu * 1000 * 1e9), 0, 1, 1)},
        )
        for pair in range(4)
        for arm, took, cpu in ((on, 0.00044, 120e-6), (off, 0.0004, 100e-6))
    ]
    found = selftest.wrapper_figures(trials)
    assert found["cpu_s_per_request"] == pytest.approx(20e-6) and found["latency_ratio"] == pytest.approx(1.1)


def test_a_throttled_generator_that_no_gate_catches_fails_the_self_test() -> None:
    plan = make_selftest_plan("r", "now", 1, False)
    throttled, free = part("throttled").conditions
    calm = GeneratorSeen(300, 300, 0, (0.1, 0.1), 0.0005, 0.002, "")
    planned = np.arange(300) / 100
    good = [trial("work", planned, np.full(300, 0.003), condition=c.key, generator=calm) for c in (throttled, free)]
    assert not selftest.throttled_figures(plan, good)["ok"]
    late = np.where(np.arange(300) % 50 == 0, 0.06, 0.0)
    rows = {
        "planned_ns": good[0].column("planned_ns"),
        "done_ns": good[0].column("done_ns") + (late * 1e9).astype(np.int64),
    }
    rows |= {name: rows["planned_ns"] + (late * 1e9).astype(np.int64) for name in ("dispatched_ns", "sent_ns")}
    found = selftest.throttled_figures(plan, [memory_trial(good[0].record, rows), good[1]])
    assert found["ok"] and "G1" in found["failed_gates"] and not found["free_failed_gates"]


def test_the_plan_reverses_every_other_pair_and_full_has_more() -> None:
    quick, full = (make_selftest_plan("r", "now", 1, long) for long in (False, True))
    arms = [[t.variant for t in quick.trials if t.gotcha == "selftest/pairs" and t.pair == pair] for pair in (0, 1)]
    assert arms[0] == arms[1][::-1]
    assert len({t.pair for t in full.trials if t.gotcha == "selftest/pairs"}) == PAIRS["pairs"][1] > PAIRS["pairs"][0]
    assert len({t.seed for t in quick.trials if t.gotcha == "selftest/pairs" and t.pair == 0}) == 1


def test_a_stored_self_test_of_another_format_is_passed_over(tmp_path: Path) -> None:
    for age, (name, version) in enumerate([("old", SELFTEST_VERSION), ("newer", SELFTEST_VERSION - 1), ("broken", 0)]):
        path = tmp_path / name / "selftest.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"format_version": version, "run": name}) if version else "{")
        os.utime(path, (1000 + age, 1000 + age))
    assert (newest_selftest(tmp_path) or {})["run"] == "old"
    assert newest_selftest(tmp_path / "old" / "nothing") is None
