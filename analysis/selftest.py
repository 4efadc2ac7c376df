"""What the self-test's trials say about the lab: pure functions of trials, and the one document that is stored.

format_version history of selftest.json
    1  first
    2  M/D/1 knows what lies beside the queue; the wrapper's cost
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from analysis import statistics
from analysis.facts import reduce_trial
from analysis.frames import OK, Trial, open_trial
from analysis.gates import Cell, check_gates
from lab.model import RunPlan
from lab.selftest.apps import SERVICE_S
from lab.selftest.plan import LOADS, LOW_LOAD, SATURATED, SLOWED, WRAPPER_ARMS
from lab.store import RunFolder

EXPERIMENT_PAIRS = 3
PLANNED_PAIRS = 8
MAX_SUBSETS = 2000
BATCHES = 10
QUEUE_TOLERANCE = 0.05
PAIR_S = 4.6  # two arms of about 2.3 s
TIMES_FAST = 4.0
SHARE_OF_WRK = 0.3


def times_s(
    trial: Trial, later: str = "done_ns", earlier: str = "planned_ns"
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """``later - earlier`` of the answered requests, in seconds."""
    ok = trial.column("outcome") == OK
    return np.asarray((trial.column(later)[ok] - trial.column(earlier)[ok]) / 1e9, dtype=np.float64)


def _p99(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    return float(np.quantile(values, 0.99)) if len(values) else math.nan


def log_ratios(medians: Mapping[str, Sequence[float]], arm: str) -> list[float]:
    """``ln(median of arm / median of work)`` by pair."""
    return [math.log(a / b) for a, b in zip(medians[arm], medians["work"], strict=True)]


def detected_share(differences: Sequence[float], pairs: int) -> tuple[int, int]:
    """Over the subsets of ``pairs`` pairs: in how many the 95 % interval leaves 0 out, and how many there are.

    Subsets overlap: they show the rate, and the number of disjoint ones is what an interval may be computed from.
    """
    subsets = list(combinations(differences, pairs))[:MAX_SUBSETS]
    found = sum(statistics.excludes(statistics.of_values(subset), 0.0) for subset in subsets)
    return found, len(subsets)


def pairs_figures(medians: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """(a) false alarms of A/A pairs and (b) detection of planted slow-downs.

    ``false_alarm_interval`` is Clopper-Pearson over disjoint experiments; ``smallest_effect`` is what ``PLANNED_PAIRS`` pairs see with
    80 % power, from the spread of the A/A log ratios.
    """
    same = log_ratios(medians, "work_again")
    alarms, subsets = detected_share(same, EXPERIMENT_PAIRS)
    disjoint = [same[at : at + EXPERIMENT_PAIRS] for at in range(0, len(same) - EXPERIMENT_PAIRS + 1, EXPERIMENT_PAIRS)]
    disjoint_alarms = sum(statistics.excludes(statistics.of_values(one), 0.0) for one in disjoint)
    spread = float(np.std(same, ddof=1))
    planted = {}
    for arm, effect in SLOWED.items():
        slowed = log_ratios(medians, arm)
        found, of = detected_share(slowed, EXPERIMENT_PAIRS)
        estimate = statistics.of_ratios([math.exp(value) for value in slowed])
        planted[f"{effect:.0%}"] = {
            "detected_share": found / of, "subsets": of, "detected_by_all": statistics.excludes(estimate, 1.0), "measured": estimate.value - 1,
            "interval": [None if side is None else side - 1 for side in (estimate.low, estimate.high)],
        }  # fmt: skip
    return {
        "pairs": len(same), "aa_log_sd": spread, "aa_ratio": math.exp(float(np.mean(same))),
        "false_alarm_share": alarms / subsets, "false_alarm_subsets": subsets, "false_alarm_experiments": len(disjoint),
        "false_alarm_interval": list(statistics.clopper_pearson(disjoint_alarms, len(disjoint))), "nominal": 0.05,
        "smallest_effect": statistics.detectable_effect(spread, PLANNED_PAIRS), "planted": planted,
    }  # fmt: skip


def lindley(planned_ns: "np.ndarray[Any, np.dtype[np.int64]]", service_s: float) -> float:
    """Mean time in a queue with one server and constant service for exactly these arrivals, in seconds.

    Lindley (1952): W[n+1] = max(0, W[n] + S - (a[n+1] - a[n])).
    """
    wait, total = 0.0, 0.0
    gaps = np.diff(planned_ns) / 1e9
    for gap in (*gaps, 0.0):
        total += wait + service_s
        wait = max(0.0, wait + service_s - float(gap))
    return total / len(planned_ns)


def queue_figures(trials: Mapping[float, Trial]) -> dict[str, Any]:
    """(c) the M/D/1 comparison.

    S is the time between answers of a server that is never idle; what a lonely request takes beyond S (the network, waking up) does
    not queue and is added to both predictions as it was measured.  ``theory_s`` is S + rho S / (2 (1 - rho)) (Pollaczek-Khinchine) plus
    that, ``trace_s`` the same queue for the very trace that was sent.  The interval is that of batch means within the run.
    """
    done = np.sort(trials[SATURATED].column("done_ns"))
    service = float(done[-1] - done[0]) / 1e9 / (len(done) - 1)
    beside = float(np.median(times_s(trials[LOW_LOAD], earlier="sent_ns"))) - service
    rows = []
    for rho in LOADS:
        trial = trials[rho]
        corrected = times_s(trial)
        mean = float(np.mean(corrected))
        actual = rho / SERVICE_S * service
        theory = beside + service + actual * service / (2 * (1 - actual)) if actual < 1 else math.inf
        trace = beside + lindley(np.sort(trial.column("planned_ns")), service)
        batches = [float(np.mean(part)) for part in np.array_split(corrected, BATCHES)]
        low, high = statistics.t_interval(batches) or (mean, mean)
        rows.append({
            "rho": rho, "measured_s": mean, "interval_s": [low, high], "theory_s": theory, "trace_s": trace,
            "off_trace": mean / trace - 1, "off_theory": mean / theory - 1,
            "ok": abs(mean / trace - 1) <= QUEUE_TOLERANCE or low <= theory <= high, "requests": len(corrected),
        })  # fmt: skip
    return {"service_s": service, "beside_s": beside, "loads": rows, "ok": all(row["ok"] for row in rows)}


def stall_figures(opened: Trial, closed: Trial) -> dict[str, Any]:
    """(d) what a stall looks like: the corrected p99 of an open load, its service p99, and what one closed user reports."""
    corrected, service, alone = _p99(times_s(opened)), _p99(times_s(opened, earlier="sent_ns")), _p99(times_s(closed))
    return {"corrected_p99_s": corrected, "service_p99_s": service, "closed_p99_s": alone, "ok": corrected > 10 * alone}


def figures(run: RunFolder) -> dict[str, Any]:
    """All figures that come from trials.  Raises StoreError where a trial is missing or damaged."""
    plan = run.plan
    by_part = {gotcha.name: [open_trial(folder) for folder in run.trials(gotcha.slug)] for gotcha in plan.gotchas}
    pairs: dict[str, dict[int, float]] = {}
    for trial in by_part["pairs"]:
        if trial.record.status == "ok":
            pairs.setdefault(trial.record.variant, {})[trial.record.pair] = float(np.median(times_s(trial)))
    whole = set.intersection(*(set(values) for values in pairs.values()))
    medians = {arm: [values[pair] for pair in sorted(whole)] for arm, values in pairs.items()}
    rho_of = {c.key: c.number("rho") for c in plan.gotcha("selftest/queue").conditions}
    queue = {rho_of[trial.record.condition]: trial for trial in by_part["queue"]}
    stall = {trial.record.condition: trial for trial in by_part["stall"]}
    return {
        "pairs": pairs_figures(medians), "queue": queue_figures(queue), "stall": stall_figures(stall["open"], stall["closed"]),
        "wrapper": wrapper_figures(by_part["wrapper"]), "throttled": throttled_figures(plan, by_part["throttled"]),
    }  # fmt: skip


def wrapper_figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """What the lab's own wrapper costs: the same app with it and without, as paired ratios and in CPU seconds a request."""
    times: dict[int, dict[str, float]] = {}
    cpu: dict[int, dict[str, float]] = {}
    for trial in trials:
        answered = int(np.count_nonzero(trial.column("outcome") <= 1))
        if trial.record.status == "ok" and answered:
            times.setdefault(trial.record.pair, {})[trial.record.variant] = float(np.median(times_s(trial)))
            cpu.setdefault(trial.record.pair, {})[trial.record.variant] = (
                trial.record.processes["server"].cpu_ns / 1e9 / answered
            )
    on, off = WRAPPER_ARMS
    whole = [pair for pair, arms in sorted(times.items()) if len(arms) == 2]
    latency = statistics.of_ratios([times[pair][on] / times[pair][off] for pair in whole])
    spent = statistics.of_values([cpu[pair][on] - cpu[pair][off] for pair in whole])
    return {
        "pairs": len(whole), "latency_ratio": latency.value, "latency_interval": [latency.low, latency.high],
        "cpu_s_per_request": spent.value, "cpu_interval_s": [spent.low, spent.high],
        "bare_cpu_s_per_request": float(np.mean([cpu[pair][off] for pair in whole])),
    }  # fmt: skip


def throttled_figures(plan: RunPlan, trials: Sequence[Trial]) -> dict[str, Any]:
    """(e) the gates that fail on the throttled generator, and on the free one."""
    gotcha = plan.gotcha("selftest/throttled")
    failed: dict[str, list[str]] = {}
    for condition in gotcha.conditions:
        facts = [
            reduce_trial(trial, gotcha, condition, ()) for trial in trials if trial.record.condition == condition.key
        ]
        cell = Cell(condition, facts)
        failed[condition.key] = [gate.gate for gate in check_gates(cell) if gate.passed is False]
    return {"failed_gates": failed["throttled"], "free_failed_gates": failed["free"], "ok": bool(failed["throttled"])}


def ceiling_figures(rates: Mapping[str, float]) -> dict[str, Any]:
    """(f) the generator's ceiling beside the others."""
    fast, wrk = rates["fast_http_user"], rates.get("wrk")
    return {
        **{f"{name}_rps": rate for name, rate in rates.items()}, "times_fast_http_user": rates["lab"] / fast if fast else None,
        "share_of_wrk": rates["lab"] / wrk if wrk else None,
        "ok": rates["lab"] >= TIMES_FAST * fast and (not wrk or rates["lab"] >= SHARE_OF_WRK * wrk),
    }  # fmt: skip


def can_see(found: Mapping[str, Any]) -> str:
    """The one line that doctor and the report show."""
    minutes = PLANNED_PAIRS * PAIR_S / 60
    effect = found["pairs"]["smallest_effect"]
    return (
        f"this machine can see a {effect:.1%} slow-down of p50 with {PLANNED_PAIRS} pairs, about {minutes:.1f} minutes"
    )


def passed(found: Mapping[str, Any]) -> bool:
    """Whether every part is as it must be: 5 % lies in the false alarms' interval, 20 % is detected, and the parts' own ``ok``."""
    low, high = found["pairs"]["false_alarm_interval"]
    planted = found["pairs"]["planted"]["20%"]["detected_share"]
    return bool(
        low <= 0.05 <= high
        and planted > 0.5
        and all(found[part]["ok"] for part in ("queue", "stall", "throttled", "ceiling"))
    )


def lines(found: Mapping[str, Any]) -> list[str]:
    """The figures as text."""
    pairs, queue, stall = found["pairs"], found["queue"], found["stall"]
    low, high = pairs["false_alarm_interval"]
    text = [
        f"(a) A/A: {pairs['false_alarm_share']:.1%} of {pairs['false_alarm_subsets']} (overlapping) experiments of {EXPERIMENT_PAIRS} pairs "
        f"called different, nominal 5 %; {pairs['false_alarm_experiments']} disjoint ones: interval {low:.0%} to {high:.0%}",
    ]
    for effect, row in pairs["planted"].items():
        text.append(
            f"(b) planted {effect}: measured {row['measured']:+.1%}, detected in {row['detected_share']:.0%} of experiments "
            f"of {EXPERIMENT_PAIRS} pairs, {'detected' if row['detected_by_all'] else 'not detected'} by all {pairs['pairs']} pairs"
        )
    text.append(
        f"    smallest effect with {PLANNED_PAIRS} pairs: {pairs['smallest_effect']:.1%} (A/A spread {pairs['aa_log_sd']:.2%})"
    )
    text.append(f"(c) M/D/1, S = {queue['service_s'] * 1e3:.2f} ms, {queue['beside_s'] * 1e3:.2f} ms beside it")
    for row in queue["loads"]:
        interval = f"[{row['interval_s'][0] * 1e3:.2f}, {row['interval_s'][1] * 1e3:.2f}]"
        text.append(
            f"    rho {row['rho']}: measured {row['measured_s'] * 1e3:.2f} ms {interval}, theory {row['theory_s'] * 1e3:.2f}, "
            f"this very trace {row['trace_s'] * 1e3:.2f} ({row['off_trace']:+.1%})  {'ok' if row['ok'] else 'OFF'}"
        )
    text.append(
        f"(d) stalled server: corrected p99 {stall['corrected_p99_s'] * 1e3:.0f} ms, service p99 {stall['service_p99_s'] * 1e3:.0f} ms, "
        f"a closed loop of one reports {stall['closed_p99_s'] * 1e3:.1f} ms"
    )
    throttled, ceiling = found["throttled"], found["ceiling"]
    text.append(f"(e) throttled generator: caught by {', '.join(throttled['failed_gates']) or 'NOTHING'}; "
                f"the free one fails {', '.join(throttled['free_failed_gates']) or 'nothing'}")  # fmt: skip
    wrk = (
        f", wrk {ceiling['wrk_rps']:,.0f}/s ({ceiling['share_of_wrk']:.2f} x)"
        if ceiling.get("wrk_rps")
        else ", wrk not on the PATH"
    )
    text.append(f"(f) generator: {ceiling['lab_rps']:,.0f}/s a core, FastHttpUser {ceiling['fast_http_user_rps']:,.0f}/s "
                f"({ceiling['times_fast_http_user']:.1f} x){wrk}")  # fmt: skip
    wrapper = found["wrapper"]
    text.append(
        f"    the lab's wrapper: {wrapper['cpu_s_per_request'] * 1e6:+.0f} us CPU a request beside {wrapper['bare_cpu_s_per_request'] * 1e6:.0f} "
        f"without it, median time x {wrapper['latency_ratio']:.3f} [{wrapper['latency_interval'][0]:.3f}, {wrapper['latency_interval'][1]:.3f}]"
    )
    return [*text, found["can_see"]]


def for_report(found: Mapping[str, Any]) -> dict[str, Any]:
    """The stored self-test as the report shows it: when, the one line, and a row per part, in the words in which it was stored."""
    texts = found.get("lines", [])
    names = {"(a)": "pairs", "(b)": "pairs", "(c)": "queue", "(d)": "stall", "(e)": "throttled", "(f)": "ceiling"}
    checks = [
        {"name": text[:3], "passed": found[names[text[:3]]].get("ok"), "figure": "", "detail": text[4:]}
        for text in texts
        if text[:3] in names
    ]
    return {"at": found["created_at"], "summary": found["can_see"], "checks": checks}
