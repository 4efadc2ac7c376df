"""How often the lab's words say "different" where nothing differs: ``diff``, ``compare``, and a quick run that looks twice.

Simulated with the spread that this machine shows, through the functions that give the words.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis import between, statistics
from analysis.case import Case
from analysis.facts import TrialFacts
from analysis.false_alarms import false_alarms
from analysis.judge import judge_claim
from analysis.selftest.material import Figures, NotDone
from analysis.selftest.pairs import PLANNED_PAIRS
from lab.model import ClaimPlan, GotchaPlan, RunPlan, SecondLook, TrialPlan
from lab.words.record import TrialRecord

EXPERIMENTS = 2000
LOOKS = 1000  # through the whole judge: 2 ms each
FIRST = 3
NOMINAL = 0.05
LEVEL_OF_PROOF = 0.999
"""A rate is called too high where this interval lies above 5 %: at 95 % one self-test in forty would say so with nothing wrong."""
ASSUMED_BETWEEN = 0.03
"""What was seen of runs of this lab on a shared machine of two cores (docs/method.md section 6), where too few self-tests are stored."""
NEEDED_RUNS = 3
DIFFERENT = ("reproduced", "larger", "smaller", "reversed")


def spread_between(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """How far whole runs lie apart beyond what their pairs explain, from ``pairs`` of stored self-tests; None where there are too few.

    The variance of the runs' means is that between runs plus that of the pairs over their number (one-way random effects).
    """
    if len(runs) < NEEDED_RUNS:
        return None
    means = [math.log(run["work_s"]) for run in runs]
    inside = float(np.mean([run["work_log_sd"] ** 2 / run["pairs"] for run in runs]))
    return math.sqrt(max(float(np.var(means, ddof=1)) - inside, 0.0))


def two_looks(claim: ClaimPlan, plan: GotchaPlan, spread: float, draw: np.random.Generator, look: SecondLook) -> bool:
    """Whether one quick run of two equal arms says that they differ: it looks again where the judge says that a few pairs would do."""
    (condition,) = plan.conditions
    trials = tuple(TrialPlan(plan.slug, condition.key, pair, arm, 1) for pair in range(FIRST) for arm in plan.variants)
    run = RunPlan("simulated", "quick", 1, "", (plan,), trials, FIRST, second_look=look)
    facts: list[TrialFacts] = []
    for until in (FIRST, FIRST * look.times):
        for pair in range(len(facts) // 2, until):
            ratio = math.exp(draw.normal(0.0, spread))
            for arm, value in zip(plan.variants, (ratio, 1.0), strict=True):
                record = TrialRecord(plan.slug, condition.key, pair, arm, 1, "ok")
                facts.append(TrialFacts(record, f"{pair}-{arm}", {"latency_p50_s": value}))
        (found,) = judge_claim(Case(plan, run, None, {condition.key: facts}, {}), claim).conditions
        settled = found.more_pairs is not None and found.more_pairs <= FIRST * (look.times - 1)
        if found.verdict != "inconclusive" or not settled:
            break
    return found.verdict in DIFFERENT


def second_look_alarms(wrapper: GotchaPlan, spread: float, experiments: int = LOOKS) -> tuple[int, int]:
    """False alarms of quick runs that look twice, and of how many; ``wrapper`` is any plan with two arms and one condition.

    The claim says that the one arm takes 20 times as long: so far away that all that can be found is a difference or none.
    """
    (condition,) = wrapper.conditions
    claim = ClaimPlan(
        "slower", "harm", "twenty times as long", f"{wrapper.variants[0]}.latency_p50_s / {wrapper.variants[1]}.latency_p50_s", "20", "",
        "about", 0.05, 1.0, condition.key, {condition.key: 20.0},
    )  # fmt: skip
    plan, draw = replace(wrapper, claims=(claim,)), np.random.default_rng(17)
    return sum(two_looks(claim, plan, spread, draw, SecondLook()) for _ in range(experiments)), experiments


def rate(alarms: int, experiments: int) -> Figures:
    """A false-alarm rate with its interval, and whether it is proved to be above 5 %."""
    return {
        "share": alarms / experiments, "experiments": experiments, "interval": list(statistics.clopper_pearson(alarms, experiments)),
        "ok": statistics.clopper_pearson(alarms, experiments, LEVEL_OF_PROOF)[0] <= NOMINAL,
    }  # fmt: skip


def alarms_figures(pairs: Figures, wrapper: GotchaPlan, earlier: Sequence[Mapping[str, Any]]) -> Figures:
    """The rates with this machine's spreads: of A/A log ratios, of single-user latency from pair to pair, and from run to run."""
    if "aa_log_sd" not in pairs:
        raise NotDone("the spread of this machine is not known", False)
    apart = spread_between([*earlier, pairs])
    known = ASSUMED_BETWEEN if apart is None else apart
    diff = between.false_alarms(
        experiments=EXPERIMENTS, between=known, within=pairs["work_log_sd"], pairs=PLANNED_PAIRS
    )
    word = false_alarms(experiments=EXPERIMENTS, pairs=FIRST, spread=pairs["aa_log_sd"])
    rates = {
        "diff": rate(round(diff.share * EXPERIMENTS), EXPERIMENTS),
        "compare": rate(round(word.share * EXPERIMENTS), EXPERIMENTS),
        "second look": rate(*second_look_alarms(wrapper, pairs["aa_log_sd"])),
    }
    return {
        "ok": all(one["ok"] for one in rates.values()), "rates": rates, "between_log_sd": known, "between_measured": apart is not None,
        "within_log_sd": pairs["work_log_sd"], "by_pairs_alone": diff.share_by_pairs,
    }  # fmt: skip


def alarms_said(found: Figures) -> str:
    """For the reader."""
    said = [
        f"{name} {one['share']:.1%} [{one['interval'][0]:.1%}, {one['interval'][1]:.1%}]" for name, one in found["rates"].items()
    ]  # fmt: skip
    how = "measured" if found["between_measured"] else "assumed: fewer than three self-tests are stored"
    return (
        f"nominal 5 %: {', '.join(said)}; spread between runs {found['between_log_sd']:.1%} ({how}), within {found['within_log_sd']:.1%}; "
        f"pairs inside two runs alone would say so in {found['by_pairs_alone']:.0%}"
    )
