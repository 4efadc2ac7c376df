"""Metrics on trials whose answer is known by construction."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.frames import CENSORED, HTTP_ERROR, OK, TIMEOUT, Ints, Trial, memory_trial, window_ns
from analysis.metrics import METRICS, Refusal, measure
from lab.model import Burst, ClosedLoad, Condition, Load, OpenLoad, Stage, StagedLoad
from lab.words.metrics import QUANTITIES, unit_of
from lab.words.record import GeneratorSeen, ProcessUse, TrialRecord
from tests.fakes import START_NS, gotcha_plan

SECOND = 1_000_000_000


def trial_of(
    load: Load, planned_s: list[float], took_s: list[float], duration_s: float, **record: object
) -> tuple[Trial, Condition]:
    condition = Condition("one", load, duration_s=duration_s)
    planned = START_NS + (np.asarray(planned_s) * SECOND).astype(np.int64)
    done = planned + (np.asarray(took_s) * SECOND).astype(np.int64)
    seen = TrialRecord("event_loop/example", "one", 0, "naive", 1, "ok", load_started_ns=START_NS,
                       load_ended_ns=START_NS + int(duration_s * SECOND), request_names=("GET /",), **record)  # type: ignore[arg-type]  # fmt: skip
    return memory_trial(
        seen, {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned), "done_ns": done}
    ), condition


def value(trial: Trial, condition: Condition, name: str, arg: str = "") -> float:
    found = measure(trial, gotcha_plan(conditions=(condition,)), condition, name, arg)
    assert not isinstance(found, Refusal), found
    return found


def refusal(trial: Trial, condition: Condition, name: str, arg: str = "") -> Refusal:
    found = measure(trial, gotcha_plan(conditions=(condition,)), condition, name, arg)
    assert isinstance(found, Refusal), found
    return found


def staged(cpu_series: tuple[tuple[int, ...], ...]) -> tuple[Trial, Condition]:
    """Ten, twenty, thirty requests in three stages of one second."""
    load = StagedLoad((Stage(10, 1.0), Stage(20, 1.0), Stage(30, 1.0)))
    planned = [second + (k + 0.5) / (10 * (second + 1)) for second in range(3) for k in range(10 * (second + 1))]
    processes = {"server": ProcessUse(0, 0, 1, 1), "redis": ProcessUse(0, 0, 1, 1)}
    return trial_of(load, planned, [0.001] * len(planned), 3.0, processes=processes, cpu_series=cpu_series)


def test_the_marginal_cost_is_the_slope_and_idle_the_intercept() -> None:
    # The server idles at 0.05 cores and takes 4 ms a request; Redis takes 0.5 ms and nothing when idle.
    used = [0.0, 0.05 + 0.040, 0.10 + 0.120, 0.15 + 0.240]
    series = tuple(
        (START_NS + k * SECOND, int(used[k] * SECOND), int(0.0005 * n * SECOND)) for k, n in enumerate((0, 10, 30, 60))
    )
    trial, condition = staged(series)
    assert value(trial, condition, "cpu_marginal_s_per_request", "server") == pytest.approx(0.004)
    assert value(trial, condition, "cpu_idle_cores", "server") == pytest.approx(0.05)
    assert value(trial, condition, "cpu_marginal_s_per_request", "redis") == pytest.approx(0.0005)
    assert value(trial, condition, "cpu_marginal_s_per_request") == pytest.approx(0.0045)


def test_the_stages_of_a_marginal_cost_begin_after_the_warm_up() -> None:
    # Two seconds of warm-up at other costs come first; then idling at 0.05 cores and 4 ms a request.
    used = np.cumsum([0.0, 0.9, 0.9, 0.05 + 0.04, 0.05 + 0.08, 0.05 + 0.12])
    series = tuple((START_NS + k * SECOND, int(one * SECOND), 0) for k, one in enumerate(used))
    trial, condition = staged(series)
    later = trial.record.load_started_ns + 2 * SECOND
    record = replace(trial.record, load_ended_ns=trial.record.load_ended_ns + 2 * SECOND)
    columns = {name: trial.column(name) + 2 * SECOND for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns")}
    assert int(columns["planned_ns"].min()) >= later
    warm = replace(condition, warmup_s=2.0)
    moved = memory_trial(record, columns)
    assert value(moved, warm, "cpu_marginal_s_per_request", "server") == pytest.approx(0.004)
    assert value(moved, warm, "cpu_idle_cores", "server") == pytest.approx(0.05)


def test_a_marginal_cost_needs_three_rates_and_a_series() -> None:
    trial, condition = staged(())
    assert "not followed" in refusal(trial, condition, "cpu_marginal_s_per_request").reason
    trial, condition = trial_of(OpenLoad(10.0), [0.1], [0.01], 1.0)
    assert "3 different rates" in refusal(trial, condition, "cpu_marginal_s_per_request").reason


def test_a_percentile_that_the_sample_cannot_support_is_refused() -> None:
    trial, condition = trial_of(ClosedLoad(1), list(np.linspace(0, 0.9, 367)), [0.01] * 367, 1.0)
    assert "368" in refusal(trial, condition, "latency_p99_s").reason
    trial, condition = trial_of(ClosedLoad(1), list(np.linspace(0, 0.9, 368)), [0.01] * 368, 1.0)
    assert value(trial, condition, "latency_p99_s") == pytest.approx(0.01)


def test_a_refused_percentile_says_how_many_seconds_more_it_needs() -> None:
    """p95 of ten samples in ten seconds: 62 more at one a second."""
    trial, condition = trial_of(OpenLoad(1.0), [float(k) for k in range(10)], [0.01] * 10, 10.0)
    found = refusal(trial, condition, "latency_p95_s")
    assert found.reason == "p95 of latency needs 72 requests, there are 10: about 62 s more"
    assert found.hint == "Run 62 s longer, or at a greater rate." and found.kind == "unsupported"
    burst, by_count = trial_of(Burst(10), [0.0] * 10, [0.01] * 10, 10.0)
    assert "more" not in refusal(burst, by_count, "latency_p95_s").reason, "a burst does not last longer"


def with_outcomes(trial: Trial, outcome: Ints, status: Ints | None = None) -> Trial:
    columns = {name: trial.column(name) for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns")}
    return memory_trial(
        trial.record, {**columns, "outcome": outcome, "status": np.zeros_like(outcome) if status is None else status}
    )


def half(code: int, status: int = 0) -> tuple[Trial, Condition]:
    """Fifty requests answered after 100 ms, and fifty that ended so after 1 ms."""
    trial, condition = trial_of(OpenLoad(100.0), [k / 100 for k in range(100)], [0.1] * 50 + [0.001] * 50, 1.0)
    first = np.arange(100) < 50
    return with_outcomes(trial, np.where(first, 0, code), np.where(first, 200, status)), condition


@pytest.mark.parametrize(("code", "status"), [(2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (1, 500), (1, 503)])
def test_what_got_no_answer_of_any_use_is_never_in_a_percentile(code: int, status: int) -> None:
    trial, condition = half(code, status)
    assert value(trial, condition, "latency_p50_s") == pytest.approx(0.1)
    assert value(trial, condition, "latency_p90_s") == value(trial, condition, "service_p90_s") == math.inf
    assert value(trial, condition, "latency_max_s") == math.inf
    assert "50 of 100" in refusal(trial, condition, "latency_mean_s").reason


@pytest.mark.parametrize("status", [307, 404, 409, 429])
def test_an_answer_below_500_that_nobody_expected_is_neither_a_success_nor_never(status: int) -> None:
    trial, condition = half(1, status)
    for name in ("latency_p50_s", "latency_p90_s", "latency_max_s", "latency_mean_s"):
        assert value(trial, condition, name) == pytest.approx(0.1), "a fast 429 must not improve the p50"
    assert value(trial, condition, "error_latency_p50_s") == pytest.approx(0.001)
    assert value(trial, condition, "requests_ok") == 50 and value(trial, condition, "error_share") == 0.5


def test_an_answer_that_the_request_expects_is_a_success_whatever_its_status() -> None:
    trial, condition = half(0, 429)
    assert (
        value(trial, condition, "latency_p50_s") == pytest.approx(0.001) and value(trial, condition, "error_share") == 0
    )


def test_an_answer_that_is_not_http_is_an_error_with_a_time_of_its_own() -> None:
    trial, condition = half(6)
    assert value(trial, condition, "error_latency_p50_s") == pytest.approx(0.001)
    assert value(trial, condition, "error_share") == 0.5


def test_a_level_whose_requests_fail_has_no_fast_median() -> None:
    trial, condition = half(3)
    columns = {name: trial.column(name) for name in ("planned_ns", "sent_ns", "done_ns", "outcome", "status")}
    levels = memory_trial(trial.record, {**columns, "level": np.where(np.arange(100) < 40, 0, 7)})
    assert value(levels, condition, "latency_at_level_s", "0") == pytest.approx(0.1)
    assert value(levels, condition, "latency_at_level_s", "7") == math.inf
    assert "half of the requests of level 7" in refusal(levels, condition, "fit_slope", "latency").reason


def test_failures_breach_a_limit_of_time() -> None:
    trial, condition = trial_of(OpenLoad(100.0), [k / 100 for k in range(100)], [0.01] * 100, 1.0)
    late = np.arange(100) >= 50
    found = with_outcomes(trial, np.where(late, 1, 0), np.where(late, 503, 200))
    assert value(found, condition, "time_to_breach_s", "0.5") == pytest.approx(0.5)


def test_what_was_sent_is_answered_failed_or_censored() -> None:
    """Requests in flight when the load ends are none of the first two, none is counted twice, and what never left is none of them."""
    outcome = np.repeat(np.arange(7), [60, 10, 5, 5, 5, 10, 5])
    trial, condition = trial_of(OpenLoad(100.0), [k / 100 for k in range(100)], [0.01] * 100, 1.0)
    columns = {name: trial.column(name) for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns")}

    def counted(unsent: int) -> tuple[float, float, float, float]:
        left = (outcome != 5) | (np.cumsum(outcome == 5) > unsent)
        rows = {**columns, "sent_ns": np.where(left, columns["sent_ns"], 0), "outcome": outcome}
        found = memory_trial(trial.record, {**rows, "status": np.zeros_like(outcome)})
        sent, ok, censored, errors = (
            value(found, condition, name)
            for name in ("requests_sent", "requests_ok", "requests_censored", "error_share")
        )
        return sent, ok, round(errors * 100), censored

    assert counted(0) == (100, 60, 30, 10) and counted(4) == (96, 60, 30, 6)
    for sent, ok, failed, censored in (counted(0), counted(4)):
        assert sent == ok + failed + censored


def test_throughput_is_over_the_window_not_over_window_and_drain() -> None:
    """One answer comes 60 s after a window of 10 s: 99 in 10 s, not 100 in 70 s and not 100 in 10 s."""
    trial, condition = trial_of(OpenLoad(10.0), [k / 10 for k in range(100)], [0.01] * 99 + [60.1], 10.0)
    late = replace(trial.record, load_ended_ns=START_NS + 70 * SECOND)  # the generator counts the drain in
    columns = {name: trial.column(name) for name in ("planned_ns", "sent_ns", "done_ns")}
    assert value(memory_trial(late, columns), condition, "throughput_rps") == pytest.approx(9.9)
    assert value(trial, condition, "throughput_rps") == pytest.approx(9.9)


def test_the_window_begins_when_the_warm_up_really_ended() -> None:
    """Asked for 1 s, prolonged to 3: what was sent in between is no part of the measurement."""
    planned = [k / 10 for k in range(50)]
    trial, condition = trial_of(ClosedLoad(1), planned, [0.05] * 50, 2.0)
    condition = replace(condition, warmup_s=1.0)
    columns = {name: trial.column(name) for name in ("planned_ns", "sent_ns", "done_ns")}

    def rate(warmup_s: float | None) -> float:
        seen = GeneratorSeen(50, 50, 0, (), 0.0, 0.0, "", warmup_s=warmup_s)
        whole = replace(trial.record, generator=seen, load_ended_ns=START_NS + 5 * SECOND)
        assert window_ns(memory_trial(whole, columns), condition)[0] == START_NS + round((warmup_s or 1.0) * SECOND)
        return value(memory_trial(whole, columns), condition, "throughput_rps")

    assert rate(3.0) == pytest.approx(10.0) and rate(None) == pytest.approx(10.0)


@pytest.mark.parametrize("busiest", [(Stage(200, 2.0),), (Stage(200, 1.0), Stage(200, 1.0))])
def test_recovery_counts_from_the_last_of_the_busiest_stages(busiest: tuple[Stage, ...]) -> None:
    """100/s is what the target can do: 200 wait when the 200/s end, and 50/s leave 50/s to catch up, half a second of waiting 50 before."""
    load = StagedLoad((Stage(50, 1.0), *busiest, Stage(50, 6.0)))
    planned = np.concatenate([np.arange(50) / 50, 1 + np.arange(400) / 200, 3 + np.arange(300) / 50])
    done, free_s = [], 0.0
    for at_s in planned:
        free_s = max(free_s, at_s) + 0.01
        done.append(free_s - at_s)
    trial, condition = trial_of(load, planned.tolist(), done, 9.0)
    assert value(trial, condition, "recovery_s", "0.5") == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("code", [TIMEOUT, CENSORED])
def test_a_burst_of_which_an_answer_never_came_has_not_ended(code: int) -> None:
    trial, condition = trial_of(Burst(3, 1), [0.0, 0.0, 0.0], [0.1, 0.2, 9.0], 3.0)
    assert value(trial, condition, "makespan_s") == pytest.approx(9.0)
    given_up = with_outcomes(trial, np.array([OK, OK, code]))
    assert value(given_up, condition, "makespan_s") == math.inf, "the end of the drain is no answer"
    assert value(with_outcomes(trial, np.array([OK, OK, HTTP_ERROR])), condition, "makespan_s") == pytest.approx(9.0)


def test_requests_in_flight_are_those_between_sent_and_done() -> None:
    trial, condition = trial_of(ClosedLoad(3), [0.0, 0.1, 0.2, 0.5], [0.35, 0.1, 0.1, 0.1], 1.0)
    assert value(trial, condition, "max_in_flight") == 2


def test_an_unknown_metric_and_a_missing_argument_are_refused() -> None:
    trial, condition = trial_of(ClosedLoad(1), [0.0], [0.1], 1.0)
    assert refusal(trial, condition, "speed").kind == "unknown"
    assert refusal(trial, condition, "status_count").kind == "unknown"
    assert refusal(trial, condition, "cpu_idle_cores", "server").kind == "not_applicable"
    assert "no request is named" in refusal(trial, condition, "requests_ok", "GET /nowhere").reason


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_of_an_empty_trial_is_refused_or_a_number(name: str) -> None:
    condition = Condition("one", ClosedLoad(1), duration_s=1.0)
    empty = memory_trial(TrialRecord("event_loop/example", "one", 0, "naive", 1, "ok"), {})
    found = measure(
        empty, gotcha_plan(conditions=(condition,)), condition, name, "x" if QUANTITIES[name].needed else ""
    )
    assert isinstance(found, Refusal) or found == found, f"{name} is NaN"
    assert unit_of(name) in ("", "s", "s/request", "per request", "per burst", "requests/s", "B", "share", "x", "cores")
