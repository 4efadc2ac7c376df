"""Metrics on trials whose answer is known by construction."""

import numpy as np
import pytest

from analysis.frames import Trial, memory_trial
from analysis.metrics import METRICS, Refusal, measure, unit_of
from lab.model import ClosedLoad, Condition, Load, OpenLoad, Stage, StagedLoad
from lab.record import ProcessUse, TrialRecord
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


def test_what_was_never_answered_is_not_left_out_of_a_percentile() -> None:
    trial, condition = trial_of(OpenLoad(100.0), [k / 100 for k in range(100)], [0.01] * 100, 1.0)
    outcome = np.zeros(100, dtype=np.int64)
    outcome[50:] = 5  # half of them censored at the end of the drain
    columns = {name: trial.column(name) for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns")}
    censored = memory_trial(trial.record, {**columns, "outcome": outcome})
    assert value(censored, condition, "latency_p90_s") == float("inf")
    assert value(censored, condition, "requests_censored") == 50


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
        empty, gotcha_plan(conditions=(condition,)), condition, name, "x" if METRICS[name].argument_needed else ""
    )
    assert isinstance(found, Refusal) or found == found, f"{name} is NaN"
    assert unit_of(name) in ("", "s", "s/request", "per request", "per burst", "requests/s", "B", "share", "x")
