"""From gotchas to a run's plan: which trials, in which order, with which seeds.  Pure."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from lab.model import Condition, GotchaPlan, RunPlan, TrialPlan


def pairs_of(condition: Condition, gotcha: GotchaPlan, mode: str, override: int | None) -> int:
    """How many pairs of this condition a run measures; 0 where the mode leaves it out.  A fault happens once: its numbers are bounds."""
    if condition.fault:
        return int(mode in ("full", "faults"))
    if mode == "faults":
        return 0
    if mode == "quick" and not condition.quick:
        return 0
    if override is not None:
        return override
    if mode == "full":
        return gotcha.full_pairs
    return condition.quick_pairs or gotcha.quick_pairs


def trial_seed(seed: int, slug: str, condition: str, pair: int) -> int:
    """The seed that all arms of a pair share (and all conditions of one trace): the same arrivals and the same request parameters."""
    return random.Random(f"{seed}/{slug}/{condition}/{pair}").getrandbits(48)


def in_turn(gotcha: GotchaPlan, seed: int, pair: int) -> list[Condition]:
    """The conditions in the order of one pair: those that share a trace are compared, so they take random turns that the next pair reverses."""
    found = list(gotcha.conditions)
    for trace in dict.fromkeys(c.trace for c in found if c.trace):
        places = [index for index, c in enumerate(found) if c.trace == trace]
        order = random.Random(f"{seed}/{gotcha.slug}/{trace}/{pair // 2}").sample(places, len(places))
        cells = [found[index] for index in (order if pair % 2 == 0 else order[::-1])]
        for index, cell in zip(places, cells, strict=True):
            found[index] = cell
    return found


def trials_of(gotcha: GotchaPlan, mode: str, seed: int, override: int | None) -> list[TrialPlan]:
    """One gotcha's trials: pairs interleaved over the conditions, arms in a random order that the next pair reverses.

    The reversal (ABBA) cancels a linear drift of the machine; the random start keeps the first arm from always being the cold one.
    """
    draw = random.Random(f"{seed}/{gotcha.slug}/order")
    trials: list[TrialPlan] = []
    orders: dict[str, list[str]] = {}
    counts = {c.key: pairs_of(c, gotcha, mode, override) for c in gotcha.conditions}
    for pair in range(max(counts.values(), default=0)):
        for condition in in_turn(gotcha, seed, pair):
            key = condition.key
            if pair >= counts[key]:
                continue
            if pair % 2 == 0:
                orders[key] = draw.sample(gotcha.variants_of(condition), len(gotcha.variants_of(condition)))
                order = orders[key]
            else:
                order = orders[key][::-1]
            shared = trial_seed(seed, gotcha.slug, condition.trace or key, pair)
            trials += [TrialPlan(gotcha.slug, key, pair, variant, shared) for variant in order]
    return trials


def make_plan(
    run: str, created_at: str, gotchas: Sequence[GotchaPlan], mode: Literal["quick", "full", "faults"], seed: int,
    pairs: int | None = None,
) -> RunPlan:  # fmt: skip
    """The plan of a run.  Conditions that the mode leaves out are left out of the stored plan and its claims too."""
    kept = []
    trials: list[TrialPlan] = []
    for gotcha in gotchas:
        conditions = tuple(c for c in gotcha.conditions if pairs_of(c, gotcha, mode, pairs))
        keys = {c.key for c in conditions}
        claims = []
        for claim in gotcha.claims:
            predictions = {key: value for key, value in claim.predictions.items() if key in keys}
            if predictions:
                headline = claim.headline if claim.headline in predictions else list(predictions)[-1]
                claims.append(replace(claim, predictions=predictions, headline=headline))
        kept.append(replace(gotcha, conditions=conditions, claims=tuple(claims)))
        trials += trials_of(gotcha, mode, seed, pairs)
    count = pairs or max((g.full_pairs if mode == "full" else g.quick_pairs for g in gotchas), default=0)
    return RunPlan(run, mode, seed, created_at, tuple(kept), tuple(trials), count)
