"""Arms compared in pairs: false alarms, planted slow-downs, what the wrapper costs, and whether duets have a smaller spread."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
from scipy import stats

from analysis import statistics
from analysis.frames import Trial
from analysis.selftest.material import Figures, Material, NotDone, answered, cpu_s, log_sd, times_s
from lab.selftest.plan import SAME, SLOWED, WRAPPER_ARMS

EXPERIMENT_PAIRS = 3
PLANNED_PAIRS = 8
MAX_SUBSETS = 2000
PAIR_S = 4.6  # two arms of about 2.3 s


def median_s(trial: Trial) -> float:
    """The median time of a trial."""
    return float(np.median(times_s(trial)))


ByArm: TypeAlias = Mapping[str, Mapping[int, float]]
"""A figure by arm and pair."""


def by_arm(trials: Sequence[Trial], figure: Callable[[Trial], float]) -> dict[str, dict[int, float]]:
    """A figure of each arm by pair; trials that failed have none."""
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        arm = found.setdefault(trial.record.variant, {})
        if trial.record.status == "ok" and answered(trial):
            arm[trial.record.pair] = figure(trial)
    return found


def in_pairs(values: ByArm, arm: str, other: str) -> list[tuple[float, float]]:
    """The figures of two arms in the pairs that have both.  Raises NotDone where there are fewer than an experiment needs."""
    both = sorted(values.get(arm, {}).keys() & values.get(other, {}).keys())
    if len(both) < EXPERIMENT_PAIRS:
        raise NotDone(f"{len(both)} whole pairs of {arm} and {other}", False)
    return [(values[arm][pair], values[other][pair]) for pair in both]


def log_ratios(values: ByArm, arm: str) -> list[float]:
    """``ln(arm / work)`` by pair.  Raises NotDone."""
    return [math.log(a / b) for a, b in in_pairs(values, arm, "work")]


def detected_share(differences: Sequence[float], pairs: int) -> tuple[int, int]:
    """Over the subsets of ``pairs`` pairs: in how many the 95 % interval leaves 0 out, and how many there are.

    Subsets overlap: they show the rate, and the number of disjoint ones is what an interval may be computed from.
    """
    subsets = list(combinations(differences, pairs))[:MAX_SUBSETS]
    found = sum(statistics.excludes(statistics.of_values(subset), 0.0) for subset in subsets)
    return found, len(subsets)


def pairs_figures(medians: ByArm) -> Figures:
    """False alarms of A/A pairs and detection of planted slow-downs.

    ``false_alarm_interval`` is Clopper-Pearson over disjoint experiments; ``smallest_effect`` is what ``PLANNED_PAIRS`` pairs see with
    80 % power, from the spread of the A/A log ratios.  ``work_s`` and ``work_log_sd`` are the figure itself and its spread from pair to
    pair: later self-tests learn from them how far runs lie apart.
    """
    same, alone = log_ratios(medians, "work_again"), list(medians["work"].values())
    alarms, subsets = detected_share(same, EXPERIMENT_PAIRS)
    disjoint = [same[at : at + EXPERIMENT_PAIRS] for at in range(0, len(same) - EXPERIMENT_PAIRS + 1, EXPERIMENT_PAIRS)]
    disjoint_alarms = sum(statistics.excludes(statistics.of_values(one), 0.0) for one in disjoint)
    spread = float(np.std(same, ddof=1))
    planted: dict[str, Figures] = {}
    for arm, effect in SLOWED.items():
        slowed = log_ratios(medians, arm)
        found, of = detected_share(slowed, EXPERIMENT_PAIRS)
        estimate = statistics.of_ratios([math.exp(value) for value in slowed])
        planted[f"{effect:.0%}"] = {
            "detected_share": found / of, "subsets": of, "detected_by_all": statistics.excludes(estimate, 1.0), "measured": estimate.value - 1,
            "interval": [None if side is None else side - 1 for side in (estimate.low, estimate.high)], "pairs": len(slowed),
        }  # fmt: skip
    low, high = statistics.clopper_pearson(disjoint_alarms, len(disjoint))
    return {
        "pairs": len(same), "aa_log_sd": spread, "aa_ratio": math.exp(float(np.mean(same))),
        "work_s": math.exp(float(np.mean(np.log(alone)))), "work_log_sd": log_sd(alone),
        "false_alarm_share": alarms / subsets, "false_alarm_subsets": subsets, "false_alarm_experiments": len(disjoint),
        "false_alarm_interval": [low, high], "nominal": 0.05,
        "smallest_effect": statistics.detectable_effect(spread, PLANNED_PAIRS), "planted": planted,
        "ok": low <= 0.05 <= high, "planted_ok": planted["20%"]["detected_share"] > 0.5,
    }  # fmt: skip


def pairs_said(found: Figures) -> str:
    """For the reader."""
    low, high = found["false_alarm_interval"]
    return (
        f"{found['false_alarm_share']:.1%} of {found['false_alarm_subsets']} (overlapping) experiments of {EXPERIMENT_PAIRS} pairs called "
        f"different, nominal 5 %; {found['false_alarm_experiments']} disjoint ones: interval {low:.0%} to {high:.0%}; "
        f"spread {found['aa_log_sd']:.2%}, smallest effect with {PLANNED_PAIRS} pairs {found['smallest_effect']:.1%}"
    )


def planted_figures(found: Figures) -> Figures:
    """The planted slow-downs as a part of their own."""
    return {"ok": found["planted_ok"], **found["planted"]}


def planted_said(found: Figures) -> str:
    """For the reader."""
    return "; ".join(
        f"{effect} slower read as {row['measured']:+.1%}, seen in {row['detected_share']:.0%} of experiments of {EXPERIMENT_PAIRS} pairs, "
        f"{'seen' if row['detected_by_all'] else 'not seen'} by all {row['pairs']}"
        for effect, row in found.items() if isinstance(row, Mapping)
    )  # fmt: skip


def wrapper_figures(trials: Sequence[Trial]) -> Figures:
    """What the lab's own wrapper costs: the same app with it and without, as paired ratios and in CPU seconds a request."""
    times, cpu = (in_pairs(by_arm(trials, figure), *WRAPPER_ARMS) for figure in (median_s, cpu_s))
    latency = statistics.of_ratios([on / off for on, off in times])
    spent = statistics.of_values([on - off for on, off in cpu])
    return {
        "pairs": len(times), "latency_ratio": latency.value, "latency_interval": [latency.low, latency.high],
        "cpu_s_per_request": spent.value, "cpu_interval_s": [spent.low, spent.high],
        "bare_cpu_s_per_request": float(np.mean([off for _, off in cpu])), "ok": True,
    }  # fmt: skip


def wrapper_said(found: Figures) -> str:
    """For the reader."""
    low, high = found["latency_interval"]
    return (
        f"{found['cpu_s_per_request'] * 1e6:+.0f} us CPU a request beside {found['bare_cpu_s_per_request'] * 1e6:.0f} without it, "
        f"median time x {found['latency_ratio']:.3f} [{low:.3f}, {high:.3f}]"
    )


# ---------------------------------------------------------------- duets


def spread_ratio(duets: Sequence[float], pairs: Sequence[float]) -> tuple[float, float, float]:
    """The spread of the one over that of the other with its 95 % interval, by F (Snedecor and Cochran, Statistical Methods, section 6.12).

    Raises NotDone where the pairs have no spread at all: there is nothing to divide by.
    """
    ours, theirs = (float(np.std(values, ddof=1)) for values in (duets, pairs))
    if not theirs:
        raise NotDone("pairs one after another have no spread at all", False)
    ratio, freedom = ours / theirs, (len(duets) - 1, len(pairs) - 1)
    low, high = (ratio / math.sqrt(float(stats.f.ppf(quantile, *freedom))) for quantile in (0.975, 0.025))
    return ratio, low, high


def _winner(low: float, high: float) -> str:
    return "duets win" if high < 1 else "pairs one after another win" if low > 1 else "cannot tell"


def duets_figures(material: Material) -> Figures:
    """A/A both ways, in turns: the spread of log ratios of single-user latency and of CPU a request."""
    found: Figures = {}
    for name, figure in (("latency", median_s), ("cpu", cpu_s)):
        logs = {part: log_ratios(by_arm(material.trials[part], figure), SAME[1]) for part in ("duets", "pairs")}
        count = min(map(len, logs.values()))
        logs = {part: one[:count] for part, one in logs.items()}
        ratio, low, high = spread_ratio(logs["duets"], logs["pairs"])
        found[name] = {
            "pairs": count, **{f"{part}_log_sd": float(np.std(one, ddof=1)) for part, one in logs.items()},
            "ratio": ratio, "interval": [low, high], "winner": _winner(low, high),
        }  # fmt: skip
    return {"ok": all(row["interval"][0] <= 1 for row in found.values()), **found}


def duets_said(found: Figures) -> str:
    """For the reader."""
    names = {"latency": "single-user latency", "cpu": "CPU a request"}
    return "; ".join(
        f"{name}: spread {row['duets_log_sd']:.2%} in {row['pairs']} duets, {row['pairs_log_sd']:.2%} in as many pairs one after another, "
        f"ratio {row['ratio']:.2f} [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]: {row['winner']}"
        for key, name in names.items() if (row := found[key])
    )  # fmt: skip
