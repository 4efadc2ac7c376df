"""What theory says: the M/D/1 queue, a server that stalls, a generator that is throttled, and the generator's ceiling."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis import statistics
from analysis.frames import Trial
from analysis.selftest.material import Figures, Material, failed_gates, times_s
from lab.selftest.apps import SERVICE_S
from lab.selftest.plan import LOADS, LOW_LOAD, SATURATED

BATCHES = 10
QUEUE_TOLERANCE = 0.05
TIMES_FAST = 4.0
SHARE_OF_WRK = 0.3
GENERATOR_GATES = {"G1", "G2", "G3", "G4"}
"""Those that look at the generator: noise of the machine would fail others whatever the generator does."""


def lindley(planned_ns: NDArray[np.int64], service_s: float) -> float:
    """Mean time in a queue with one server and constant service for exactly these arrivals, in seconds.

    Lindley (1952): W[n+1] = max(0, W[n] + S - (a[n+1] - a[n])).
    """
    wait, total = 0.0, 0.0
    gaps = np.diff(planned_ns) / 1e9
    for gap in (*gaps, 0.0):
        total += wait + service_s
        wait = max(0.0, wait + service_s - float(gap))
    return total / len(planned_ns)


def queue_figures(trials: Mapping[float, Trial]) -> Figures:
    """The M/D/1 comparison.

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


def queue_said(found: Figures) -> str:
    """For the reader."""
    rows = [
        f"rho {row['rho']}: measured {row['measured_s'] * 1e3:.2f} ms [{row['interval_s'][0] * 1e3:.2f}, {row['interval_s'][1] * 1e3:.2f}], "
        f"theory {row['theory_s'] * 1e3:.2f}, this very trace {row['trace_s'] * 1e3:.2f} ({row['off_trace']:+.1%}) {'ok' if row['ok'] else 'OFF'}"
        for row in found["loads"]
    ]  # fmt: skip
    return "; ".join([f"S = {found['service_s'] * 1e3:.2f} ms, {found['beside_s'] * 1e3:.2f} ms beside it", *rows])


def _p99(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.99)) if len(values) else math.nan


def stall_figures(opened: Trial, closed: Trial) -> Figures:
    """What a stall looks like: the corrected p99 of an open load, its service p99, and what one closed user reports."""
    corrected, service, alone = _p99(times_s(opened)), _p99(times_s(opened, earlier="sent_ns")), _p99(times_s(closed))
    return {"corrected_p99_s": corrected, "service_p99_s": service, "closed_p99_s": alone, "ok": corrected > 10 * alone}


def stall_said(found: Figures) -> str:
    """For the reader."""
    return (
        f"corrected p99 {found['corrected_p99_s'] * 1e3:.0f} ms, service p99 {found['service_p99_s'] * 1e3:.0f} ms, "
        f"a closed loop of one reports {found['closed_p99_s'] * 1e3:.1f} ms"
    )


def throttled_figures(material: Material) -> Figures:
    """The gates that fail on the throttled generator, and on the free one."""
    gotcha = material.part("throttled")
    failed = {
        condition.key: list(failed_gates(gotcha, condition, [trial]))
        for condition, trial in material.by_condition("throttled")
    }
    caught = set(failed["throttled"]) & GENERATOR_GATES
    return {"failed_gates": failed["throttled"], "free_failed_gates": failed["free"], "ok": bool(caught)}


def throttled_said(found: Figures) -> str:
    """For the reader."""
    return (
        f"a stop of 60 ms at each 50th request: caught by {', '.join(found['failed_gates']) or 'NOTHING'}; "
        f"the free generator fails {', '.join(found['free_failed_gates']) or 'nothing'}"
    )


def ceiling_figures(rates: Mapping[str, float]) -> Figures:
    """The generator's ceiling beside the others."""
    fast, wrk = rates["fast_http_user"], rates.get("wrk")
    return {
        **{f"{name}_rps": rate for name, rate in rates.items()}, "times_fast_http_user": rates["lab"] / fast if fast else None,
        "share_of_wrk": rates["lab"] / wrk if wrk else None,
        "ok": rates["lab"] >= TIMES_FAST * fast and (not wrk or rates["lab"] >= SHARE_OF_WRK * wrk),
    }  # fmt: skip


def ceiling_said(found: Figures) -> str:
    """For the reader."""
    wrk = (
        f"wrk {found['wrk_rps']:,.0f}/s ({found['share_of_wrk']:.2f} x)"
        if found.get("wrk_rps")
        else "wrk not on the PATH"
    )
    times = found["times_fast_http_user"]
    fast = f" ({times:.1f} x)" if times else ""
    return f"{found['lab_rps']:,.0f}/s a core, FastHttpUser {found['fast_http_user_rps']:,.0f}/s{fast}, {wrk}"
