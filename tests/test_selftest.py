"""The self-test's figures on trials whose truth is planted: each part says ok where the lab sees it and not where it does not."""

import asyncio
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import selftest
from analysis.frames import Trial, memory_trial
from analysis.selftest import alarms, faults, inside, pairs, queues
from analysis.selftest.material import Material, NotDone
from lab.model import GotchaPlan, RunPlan, SecondLook, TrialPlan
from lab.selftest import apps
from lab.selftest.plan import (
    BLOCKS_S,
    LATE_RATE,
    LOADS,
    LOW_LOAD,
    PAIRS,
    SATURATED,
    SELDOM_PAUSE_S,
    SELDOM_S,
    SLOWED,
    SLOWED_PAIRS,
    THREADS,
    WRAPPER_ARMS,
    gotchas,
    make_selftest_plan,
)
from lab.store import newest_selftest
from lab.target.inside.rows import GOES_ON, ROW_NS, SHUT_DOWN, TICK_COLUMNS, TICK_NS, TICKS
from lab.words.record import SELFTEST_VERSION, SERVER_COLUMNS, GeneratorSeen, ProcessUse, TrialRecord
from tests.fakes import START_NS

SERVICE_S, BESIDE_S = 0.005, 0.0004
PID = 7


def part(name: str) -> GotchaPlan:
    return next(one for one in gotchas(False) if one.name == name)


def trial(variant: str, planned_s: NDArray[np.float64], took_s: NDArray[np.float64] | float, pair: int = 0, condition: str = "one-user",
          server: Mapping[str, NDArray[np.int64]] | None = None, pids: Sequence[int] = (PID,), **record: Any) -> Trial:  # fmt: skip
    """A trial whose rows agree with its generator, unless ``record`` says otherwise."""
    planned = START_NS + (planned_s * 1e9).astype(np.int64)
    done = planned + (np.broadcast_to(took_s, planned.shape) * 1e9).astype(np.int64)
    count = len(planned)
    seen = GeneratorSeen(count, count, 0, (0.1,), 0.0005, 0.002, "", rows=count, never_sent=0, in_flight_s=float((done - planned).sum()) / 1e9,
                         jitter_samples=180, connections_peak=8)  # fmt: skip
    own = {"load_ended_ns": int(done.max()), "generator": seen, "server_pids": tuple(pids), **record}
    full = TrialRecord("selftest/x", condition, pair, variant, 1, "ok", load_started_ns=START_NS, request_names=("/",), **own)  # fmt: skip
    rows = {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), planned), "done_ns": done}
    rows |= {"pid": np.resize(np.array(pids), count).astype(np.int64), "status": np.full(count, 200, dtype=np.int64)}
    return memory_trial(full, rows, server)


def server_rows(spans_ns: Sequence[int], requests: int, *, threads: int = 0) -> dict[str, NDArray[np.int64]]:
    """What the wrapper writes of a worker whose ticks lie so far apart."""
    rows: list[dict[str, int]] = []
    row: list[int] = []
    at = START_NS
    for number, span in enumerate(spans_ns):
        row.append(span)
        if sum(row) >= ROW_NS or len(row) == TICKS or number == len(spans_ns) - 1:
            ticks = dict(zip(TICK_COLUMNS, row + [0] * (TICKS - len(row)), strict=True))
            rows.append({"start_ns": at, "t_ns": at + sum(row), "pid": PID, "ending": GOES_ON, "requests": requests, "answered": requests,
                         "threads_borrowed": threads, "loop_lag_max_ns": max(max(row) - TICK_NS, 0), **ticks})  # fmt: skip
            at, row = at + sum(row), []
    rows[-1]["ending"] = SHUT_DOWN
    return {name: np.array([one.get(name, 0) for one in rows], dtype=np.int64) for name in SERVER_COLUMNS}


def calm(seconds: float, requests: int, **more: int) -> dict[str, NDArray[np.int64]]:
    return server_rows([TICK_NS] * math.ceil(seconds * 1e9 / TICK_NS), requests, **more)


def material(name: str, *trials: Trial) -> Material:
    gotcha = part(name)
    planned = tuple(
        TrialPlan(gotcha.slug, t.record.condition, t.record.pair, t.record.variant, 1) for t in trials
    )  # fmt: skip
    return Material(RunPlan("r", "quick", 1, "now", (gotcha,), planned, 1), {name: trials}, {})


def having(one: Trial, **record: Any) -> Trial:
    """The same trial with another record."""
    columns = {
        name: one.column(name) for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns", "pid", "status")
    }
    return memory_trial(replace(one.record, **record), columns, {name: one.server(name) for name in SERVER_COLUMNS})


# ---------------------------------------------------------------- queueing theory


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
    found = queues.queue_figures(trials)
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
    found = queues.queue_figures({**trials, 0.8: hidden})
    assert not found["ok"] and not found["loads"][-1]["ok"]


def test_a_throttled_generator_that_no_gate_of_the_generator_catches_fails_the_self_test() -> None:
    throttled, free = part("throttled").conditions
    noisy = {"steal_share": 0.5}
    good = [trial("work", np.arange(300) / 100, 0.003, condition=c.key, noise=noisy) for c in (throttled, free)]
    found = queues.throttled_figures(material("throttled", *good))
    assert not found["ok"] and found["failed_gates"] == ["G9"], "noise is no proof that the generator was caught"
    late = (np.where(np.arange(300) % 20 == 0, 0.06, 0.0) * 1e9).astype(np.int64)
    planned = good[0].column("planned_ns")
    rows = {"planned_ns": planned, "done_ns": good[0].column("done_ns") + late, "pid": good[0].column("pid"),
            "dispatched_ns": planned + late, "sent_ns": planned + late}  # fmt: skip
    found = queues.throttled_figures(material("throttled", memory_trial(good[0].record, rows), good[1]))
    assert found["ok"] and "G1" in found["failed_gates"] and found["free_failed_gates"] == ["G9"]


def test_the_generator_must_be_four_times_fast_http_user_and_near_wrk() -> None:
    assert queues.ceiling_figures({"lab": 40.0, "fast_http_user": 10.0})["ok"]
    assert not queues.ceiling_figures({"lab": 39.0, "fast_http_user": 10.0})["ok"]
    assert not queues.ceiling_figures({"lab": 40.0, "fast_http_user": 10.0, "wrk": 140.0})["ok"]


# ---------------------------------------------------------------- pairs and duets


def medians(spread: float, seed: int = 1, count: int = 24) -> dict[str, dict[int, float]]:
    draw = np.random.default_rng(seed)

    def arm(slower: float) -> dict[int, float]:
        return {pair: 0.002 * (1 + slower) * float(np.exp(draw.normal(0, spread))) for pair in range(count)}

    return {"work": arm(0), "work_again": arm(0), "work_5": arm(0.05), "work_10": arm(0.10), "work_20": arm(0.20)}


def test_planted_slow_downs_are_measured_and_detected() -> None:
    found = pairs.pairs_figures(medians(0.01))
    for effect, size in (("5%", 0.05), ("10%", 0.10), ("20%", 0.20)):
        assert found["planted"][effect]["measured"] == pytest.approx(size, abs=0.015)
    assert found["planted"]["20%"]["detected_share"] == 1.0 and pairs.planted_figures(found)["ok"]
    assert found["false_alarm_interval"][0] <= 0.05 <= found["false_alarm_interval"][1] and found["ok"]
    assert found["work_s"] == pytest.approx(0.002, rel=0.01) and found["work_log_sd"] == pytest.approx(0.01, rel=0.4)
    assert found["smallest_effect"] < pairs.pairs_figures(medians(0.10))["smallest_effect"]
    assert not pairs.planted_figures(pairs.pairs_figures(medians(0.5)))["ok"]


def test_values_meet_by_pair_and_a_failed_trial_takes_no_other_with_it() -> None:
    whole = {"work": {0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0}, "work_again": {1: 2.0, 2: 4.0, 3: 8.0}}
    assert pairs.log_ratios(whole, "work_again") == [0.0, 0.0, 0.0], "never by position"
    with pytest.raises(NotDone, match="2 whole pairs"):
        pairs.log_ratios({**whole, "work_again": {1: 2.0, 2: 4.0}}, "work_again")


def test_the_wrappers_cost_is_the_difference_of_the_arms() -> None:
    on, off = WRAPPER_ARMS
    trials = [
        trial(arm, np.arange(1000) / 1000, took, pair, processes={"server": ProcessUse(int(cpu * 1000 * 1e9), 0, 1, 1)})
        for pair in range(4)
        for arm, took, cpu in ((on, 0.00044, 120e-6), (off, 0.0004, 100e-6))
    ]
    found = pairs.wrapper_figures(trials)
    assert found["cpu_s_per_request"] == pytest.approx(20e-6) and found["latency_ratio"] == pytest.approx(1.1)


def test_the_ratio_of_two_spreads_has_the_interval_of_f() -> None:
    """Eight against eight: F(0.975; 7, 7) = 4.995 (Snedecor and Cochran, table A 14)."""
    narrow = [0.01 * value for value in (-3.0, -2.0, -1.0, 0.0, 0.0, 1.0, 2.0, 3.0)]
    ratio, low, high = pairs.spread_ratio(narrow, [4 * value for value in narrow])
    assert ratio == pytest.approx(0.25)
    assert [low, high] == pytest.approx([0.25 / math.sqrt(4.995), 0.25 * math.sqrt(4.995)], rel=1e-3)
    assert pairs.spread_ratio([4 * value for value in narrow], narrow)[0] == pytest.approx(4.0)
    with pytest.raises(NotDone):
        pairs.spread_ratio(narrow, [0.0] * 8)


def same_twice(duet_sd: float, pair_sd: float) -> Material:
    """A/A both ways: the time and the CPU of the second arm vary by so much."""
    wobble = np.array([-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5])
    trials = {
        name: [
            trial(arm, np.arange(100) / 100, 0.002 * factor, pair, processes={"server": ProcessUse(int(1e8 * factor), 0, 1, 1)})
            for pair, step in enumerate(wobble)
            for arm, factor in (("work", 1.0), ("work_again", math.exp(sd * step)))
        ]
        for name, sd in (("duets", duet_sd), ("pairs", pair_sd))
    }  # fmt: skip
    return Material(make_selftest_plan("r", "now", 1, False), trials, {})


def test_whichever_has_the_smaller_spread_wins() -> None:
    found = pairs.duets_figures(same_twice(0.01, 0.08))
    assert {found[name]["winner"] for name in ("latency", "cpu")} == {"duets win"} and found["ok"]
    assert found["cpu"]["ratio"] == pytest.approx(1 / 8, rel=0.01) and found["latency"]["pairs"] == 8
    found = pairs.duets_figures(same_twice(0.02, 0.02))
    assert {found[name]["winner"] for name in ("latency", "cpu")} == {"cannot tell"} and found["ok"]
    found = pairs.duets_figures(same_twice(0.08, 0.01))
    assert found["latency"]["winner"] == "pairs one after another win" and not found["ok"]


# ---------------------------------------------------------------- inside the worker


def blocked_trial(block_s: float, key: str, *, pause_s: float = 0.0, seen_s: float | None = None) -> Trial:
    """Twenty blocks; the wrapper sees each as ``seen_s`` (the whole, less what was left of a tick when it began)."""
    seen_ns = round((block_s if seen_s is None else seen_s) * 1e9)
    pause = [TICK_NS] * round(pause_s * 1e9 / TICK_NS)
    spans = [span for _ in range(20) for span in (seen_ns, *pause)]
    planned = np.arange(20, dtype=np.float64) * (block_s + pause_s)
    ended = START_NS + round(20 * (block_s + pause_s) * 1e9)
    return trial("blocking", planned, block_s, condition=key, server=server_rows(spans, 20), load_ended_ns=ended,
                 final_reads={"longest_s": block_s})  # fmt: skip


def blocked(**wrong: Trial) -> Material:
    keys = [condition.key for condition in part("blocked").conditions]
    trials = {key: blocked_trial(block_s, key) for key, block_s in zip(keys, BLOCKS_S, strict=False)}
    trials[keys[-1]] = blocked_trial(SELDOM_S, keys[-1], pause_s=SELDOM_PAUSE_S)
    return material("blocked", *{**trials, **wrong}.values())


def test_blocks_that_are_read_as_they_were_are_ok() -> None:
    found = inside.blocked_figures(blocked())
    assert found["ok"], found
    assert [row["really_s"] for row in found["blocks"]] == [*BLOCKS_S, SELDOM_S]
    assert [row["often"] for row in found["blocks"]] == [True, True, True, True, False]
    assert found["blocks"][3]["p50_s"] == pytest.approx(0.495) and found["blocks"][4]["p50_s"] == 0.0


@pytest.mark.parametrize("number", range(5))
def test_a_wrapper_that_misses_a_block_is_found_out(number: int) -> None:
    condition = part("blocked").conditions[number]
    block_s, pause_s = condition.number("block_s"), SELDOM_PAUSE_S if number == 4 else 0.0
    blind = blocked_trial(block_s, condition.key, pause_s=pause_s, seen_s=TICK_NS / 1e9)
    assert not inside.blocked_figures(blocked(**{condition.key: blind}))["ok"]


def test_a_median_that_does_not_tell_of_a_loop_blocked_all_the_time_is_found_out() -> None:
    key = part("blocked").conditions[1].key
    good = blocked_trial(0.05, key)
    spans = [50_000_000, *[TICK_NS] * 190]  # one block as long, and quiet otherwise
    rows = server_rows(spans, 20)
    columns = {name: good.column(name) for name in ("planned_ns", "dispatched_ns", "sent_ns", "done_ns", "pid")}
    (row,) = [
        one for one in inside.blocked_figures(blocked(**{key: memory_trial(good.record, columns, rows)}))["blocks"]
        if one["planted_s"] == 0.05 and one["often"]
    ]  # fmt: skip
    assert not row["ok"] and abs(row["max_s"] - 0.05) < 0.01, "the longest block alone was read right"


@pytest.mark.parametrize(("read", "ok"), [(THREADS, True), (THREADS - 1, False), (2 * THREADS, False)])
def test_forty_threads_are_forty(read: int, ok: bool) -> None:
    one = trial("threaded", np.repeat([0.0, 0.4], THREADS), 0.06, condition="burst", server=calm(0.6, 80, threads=read))
    assert inside.threads_figures(material("threads", one))["ok"] is ok


def asked(app: apps.App, path: str) -> bytes:
    """The body that an app answers with."""
    sent: list[apps.Message] = []

    async def ask() -> None:
        async def send(message: apps.Message) -> None:
            sent.append(message)

        async def receive() -> apps.Message:
            return {"type": "http.request"}

        await app({"type": "http", "path": path}, receive, send)

    asyncio.run(ask())
    head, body = sent
    assert head["status"] == 200 and (b"content-length", str(len(body["body"])).encode()) in head["headers"]
    return bytes(body["body"])


def test_the_app_that_blocks_says_how_long_it_really_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_longest_s", 0.0)
    for block in ("0.004", "0.001"):
        monkeypatch.setenv("BLOCK_S", block)
        assert asked(apps.blocking, "/") == apps.OK_BODY
    longest_s = json.loads(asked(apps.blocking, "/longest"))["longest_s"]
    assert longest_s >= 0.004
    assert json.loads(asked(apps.blocking, "/longest"))["longest_s"] == longest_s, "asking is no block"


# ---------------------------------------------------------------- planted faults


def free_trial(**record: Any) -> Trial:
    return trial("work", np.arange(300) / 100, 0.003, condition="free", server=calm(3.1, 300), **record)


def test_rows_that_were_deleted_invented_or_doubled_are_each_caught() -> None:
    gotcha = part("throttled")
    condition = gotcha.condition("free")
    found = faults.caught_rows(gotcha, condition, free_trial())
    assert found["ok"] and not found["real"]
    assert set(found["caught_by"]) == {"40 % of the rows deleted", "one row invented", "one row doubled"}
    assert (
        all("G10" in gates for gates in found["caught_by"].values())
        and "G5" in found["caught_by"]["40 % of the rows deleted"]
    )


def test_the_planted_rows_are_what_their_names_say() -> None:
    real = free_trial()
    planted = faults.planted_rows(real)
    deleted, invented, doubled = (one.column("planned_ns") for one in planted.values())
    assert len(deleted) == 180 and len(invented) == len(doubled) == 301
    assert len(set(invented.tolist())) == 301 and len(set(doubled.tolist())) == 300
    for one in planted.values():
        assert np.array_equal(one.server("requests"), real.server("requests")), "what others counted is left alone"


def test_rows_that_nobody_else_counted_are_not_called_caught() -> None:
    """An older record: no gate can tell, and the self-test must not say that one did."""
    gotcha = part("throttled")
    found = faults.caught_rows(gotcha, gotcha.condition("free"), free_trial(generator=None))
    assert not found["ok"] and not found["caught_by"]["one row doubled"]


def test_real_rows_that_do_not_add_up_are_no_proof() -> None:
    gotcha = part("throttled")
    off = trial("work", np.arange(300) / 100, 0.003, condition="free", server=calm(3.1, 301))
    found = faults.caught_rows(gotcha, gotcha.condition("free"), off)
    assert not found["ok"] and "301" in found["real"]


@pytest.mark.parametrize(("handled", "ok"), [(101, True), (100, False)])
def test_a_request_that_was_sent_again_is_one_too_many_at_the_workers(handled: int, ok: bool) -> None:
    one = trial("light", np.arange(100) / 100, 0.001, condition="sent-twice", server=calm(1.1, handled))
    found = faults.resent_figures(material("resent", one))
    assert found["ok"] is ok and (found["rows"], found["handled"]) == (100, handled)


def late(key: str, rate: float, seconds: float, short: int = 0) -> Trial:
    count = round(LATE_RATE * seconds)
    planned = np.arange(count) / LATE_RATE
    done = np.maximum(planned + 1.0, 1.0 + np.arange(count) / rate)
    one = trial("late", planned, done - planned, condition=key)
    assert one.record.generator is not None
    return having(one, generator=replace(one.record.generator, connections_short=short, connections_peak=510))


def test_too_few_connections_are_caught_and_enough_are_no_overload() -> None:
    enough, bounded = late("as-needed", LATE_RATE, 2.5), late("bounded", 128.0, 1.5, short=600)
    found = faults.connections_figures(material("connections", enough, bounded))
    assert found["ok"] and found["rate_rps"] == pytest.approx(LATE_RATE, rel=0.01) and not found["overloaded"]
    assert "ran out of connections" in found["said"]
    unnoticed = late("bounded", 128.0, 1.5)
    assert not faults.connections_figures(material("connections", enough, unnoticed))["ok"]
    pooled = late("as-needed", 128.0, 2.5)
    found = faults.connections_figures(material("connections", pooled, bounded))
    assert not found["ok"] and found["rate_rps"] < 200, "a pool of ours reported as the target's limit"


@pytest.mark.parametrize(("processes", "ok"), [(("server",), True), (("server", "redis"), False)])
def test_the_cpu_of_a_service_of_somebody_else_is_refused_and_not_zero(processes: tuple[str, ...], ok: bool) -> None:
    used = {name: ProcessUse(0 if name == "redis" else 10**8, 0, 1, 1) for name in processes}
    one = trial("light", np.arange(100) / 100, 0.001, condition="idle", processes=used)
    found = faults.foreign_figures(material("foreign", one))
    assert found["ok"] is ok
    if ok:
        assert all("no CPU time of redis" in said for said in found["said"].values()), (
            "the sum too: the server alone is not all"
        )


def spread_trial(key: str, pids: Sequence[int], *, even: bool) -> Trial:
    count = 18 if key == "even" else 6
    one = trial("light", np.zeros(count) + 0.001, 0.001, condition=key, pids=pids)
    assert one.record.generator is not None
    return having(one, generator=replace(one.record.generator, spread={str(pid): 2 for pid in pids}, spread_even=even))


@pytest.mark.parametrize(
    ("dealt", "even", "caught", "ok"),
    [((7, 8, 9), True, True, True), ((7, 8, 9), True, False, False), ((7, 8), False, True, False), ((7, 7, 8, 9), True, True, False)],
)  # fmt: skip
def test_workers_that_are_met_evenly_and_one_that_is_not(
    dealt: tuple[int, ...], even: bool, caught: bool, ok: bool
) -> None:
    trials = spread_trial("even", dealt, even=even), spread_trial("shunned", (7, 8), even=not caught)
    assert faults.uneven_figures(material("uneven", *trials))["ok"] is ok


# ---------------------------------------------------------------- false alarms


def test_a_rate_is_too_high_only_where_that_is_proved() -> None:
    assert alarms.rate(100, 2000)["ok"] and alarms.rate(120, 2000)["ok"], "6 % of 2000 may be chance"
    found = alarms.rate(160, 2000)
    assert not found["ok"] and found["share"] == 0.08 and found["interval"][0] > 0.05


def test_the_spread_between_runs_is_what_their_pairs_do_not_explain() -> None:
    runs = [{"work_s": math.exp(value), "work_log_sd": 0.0, "pairs": 8} for value in (-1.0, 0.0, 1.0)]
    assert alarms.spread_between(runs) == pytest.approx(1.0)
    noisy = [{**run, "work_log_sd": math.sqrt(8 * 0.75)} for run in runs]
    assert alarms.spread_between(noisy) == pytest.approx(0.5)
    assert alarms.spread_between([{**run, "work_log_sd": 9.0} for run in runs]) == 0.0
    assert alarms.spread_between(runs[:2]) is None


@pytest.mark.parametrize("spread", [0.02, 0.5])
def test_a_quick_run_that_looks_twice_keeps_its_five_percent(spread: float) -> None:
    found, of = alarms.second_look_alarms(part("wrapper"), spread, 600)
    assert alarms.rate(found, of)["ok"] and (spread < 0.5 or found)


def test_a_quick_run_that_looks_twice_at_five_percent_each_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = SecondLook(errors=(0.12, 0.12))
    monkeypatch.setattr(alarms, "SecondLook", lambda: greedy)
    assert not alarms.rate(*alarms.second_look_alarms(part("wrapper"), 0.5, 600))["ok"]


def test_the_rates_come_with_this_machines_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "EXPERIMENTS", 200)
    monkeypatch.setattr(alarms, "second_look_alarms", lambda wrapper, spread: (3, 100))
    own = pairs.pairs_figures(medians(0.01))
    found = alarms.alarms_figures(own, part("wrapper"), [])
    assert found["ok"] and set(found["rates"]) == {"diff", "compare", "second look"}
    assert found["between_log_sd"] == alarms.ASSUMED_BETWEEN and not found["between_measured"]
    earlier = [{**own, "work_s": own["work_s"] * factor} for factor in (1.1, 0.9)]
    found = alarms.alarms_figures(own, part("wrapper"), earlier)
    assert found["between_measured"] and found["between_log_sd"] == pytest.approx(0.10, abs=0.01)
    assert found["by_pairs_alone"] > 0.5 and "measured" in alarms.alarms_said(found)


# ---------------------------------------------------------------- the whole


def test_the_plan_reverses_every_other_pair_and_full_has_more() -> None:
    quick, full = (make_selftest_plan("r", "now", 1, long) for long in (False, True))
    arms = [[t.variant for t in quick.trials if t.gotcha == "selftest/pairs" and t.pair == pair] for pair in (0, 1)]
    assert arms[0] == arms[1][::-1]
    assert len({t.pair for t in full.trials if t.gotcha == "selftest/pairs"}) == PAIRS["pairs"][1] > PAIRS["pairs"][0]
    assert len({t.seed for t in quick.trials if t.gotcha == "selftest/pairs" and t.pair == 0}) == 1
    for plan, slowed in zip((quick, full), SLOWED_PAIRS, strict=True):
        assert sum(t.variant in SLOWED for t in plan.trials) == slowed * len(SLOWED)


def test_duets_and_pairs_take_turns_and_there_are_as_many() -> None:
    plan = make_selftest_plan("r", "now", 1, False)
    turns = [(t.gotcha, t.pair) for t in plan.trials if t.gotcha in ("selftest/pairs", "selftest/duets")]
    expected = [(f"selftest/{name}", pair) for pair in range(PAIRS["pairs"][0]) for name in ("pairs", "duets")]
    assert list(dict.fromkeys(turns)) == expected == list(dict.fromkeys(turns[: len(turns)]))
    duet, alone = (plan.gotcha(f"selftest/{name}").conditions[0] for name in ("duets", "pairs"))
    assert duet.duet and not alone.duet and duet.duration_s == 2 * alone.duration_s


def everything(status: str) -> tuple[Material, dict[str, Any]]:
    """All trials of the plan, every one of them so."""
    plan = make_selftest_plan("r", "now", 1, False)
    trials: dict[str, list[Trial]] = {gotcha.name: [] for gotcha in plan.gotchas}
    for one in plan.trials:
        record = TrialRecord(one.gotcha, one.condition, one.pair, one.variant, 1, status, reason="no such thing")  # type: ignore[arg-type]
        trials[one.gotcha.split("/")[1]].append(memory_trial(record, {}))
    whole = Material(plan, trials, {"lab": 40.0, "fast_http_user": 1.0})
    return whole, selftest.figures(whole)


def test_a_part_whose_trials_failed_says_so_and_the_others_are_told() -> None:
    _, found = everything("failed")
    assert not selftest.passed(found) and found["ceiling"]["ok"]
    assert all(one["ok"] is False and one["problem"] for key, one in found.items() if key != "ceiling")
    text = selftest.lines(found)
    assert len(text) == len(selftest.PARTS) + 1
    assert "NOT OK a blocked loop: 20-ms: no such thing" in text and "not known" in text[-1]


def test_a_part_that_this_machine_cannot_have_fails_nothing() -> None:
    _, found = everything("skipped")
    assert found["foreign"]["ok"] is None
    assert selftest.passed({part.key: {"ok": True} for part in selftest.PARTS} | {"foreign": found["foreign"]})
    assert not selftest.passed({part.key: {"ok": True} for part in selftest.PARTS} | {"uneven": {"ok": False}})
    row = next(one for one in selftest.checks(found) if one["name"] == "a service of somebody else")
    assert row["passed"] is None


def test_a_trial_that_is_missing_is_not_passed_over() -> None:
    whole = material("threads", trial("threaded", np.zeros(1) + 0.1, 0.06, condition="burst"))
    with pytest.raises(NotDone, match="1 of 1 trials are missing"):
        replace(whole, trials={"threads": []}).all_of("threads")


def test_the_report_shows_each_check_in_its_own_words() -> None:
    checks = [{"name": "duets", "passed": None, "detail": "no"}]
    found = {"created_at": "now", "can_see": "6 %", "checks": checks}
    assert selftest.for_report(found) == {"at": "now", "summary": "6 %", "checks": checks}
    older = {
        "created_at": "then",
        "can_see": "7 %",
        "queue": {"ok": False},
        "lines": ["(c) M/D/1, S = 5 ms", "    rho 0.5"],
    }
    assert selftest.for_report(older)["checks"] == [
        {"name": "(c)", "passed": False, "figure": "", "detail": "M/D/1, S = 5 ms"}
    ]


def test_a_stored_self_test_of_another_format_or_machine_is_passed_over(tmp_path: Path) -> None:
    stored = [
        ("old", SELFTEST_VERSION, 2),
        ("newer", SELFTEST_VERSION - 1, 2),
        ("broken", 0, 2),
        ("other", SELFTEST_VERSION, 64),
    ]
    for age, (name, version, cores) in enumerate(stored):
        path = tmp_path / name / "selftest.json"
        path.parent.mkdir()
        document = {"format_version": version, "run": name, "machine": ["cpu", cores]}
        path.write_text(json.dumps(document) if version else "{")
        os.utime(path, (1000 - 10 * (name == "other") + age, 1000 + age - 10 * (name == "other")))
    assert (newest_selftest(tmp_path) or {})["run"] == "old"
    assert newest_selftest(tmp_path / "old" / "nothing") is None
    assert [one["run"] for one in selftest.selftests_of(tmp_path, ["cpu", 2])] == ["old"]
