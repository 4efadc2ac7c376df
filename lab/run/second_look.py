"""Which pairs a quick run adds by itself, by the rule that its plan registered (``SecondLook``), and where they are written down.

Pure.  The first pairs are those of ``plan.json``; those added stand in ``added.json``, written before their load.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lab.model import Condition, GotchaPlan, RunPlan, TrialPlan
from lab.run.plan import trial_seed
from lab.run.runner import expected_s

Undecided: TypeAlias = tuple[str, str, int]
"""A gotcha's slug, the key of a condition with a claim that its pairs did not decide, and how many more pairs would, as far as one can say."""


@dataclass(frozen=True)
class Addition:
    """The pairs to add to one condition."""

    gotcha: GotchaPlan
    condition: Condition
    first: int
    trials: tuple[TrialPlan, ...]

    @property
    def pairs(self) -> int:
        """How many pairs are added."""
        return len({trial.pair for trial in self.trials})

    @property
    def text(self) -> str:
        """For the person who waits."""
        return f"{self.pairs} more pairs of {self.gotcha.name}, {self.condition.label}: undecided after {self.first}"


def first_pairs(plan: RunPlan, gotcha: str, condition: str) -> int:
    """How many pairs of a condition the plan registered."""
    return len({t.pair for t in plan.trials if t.gotcha == gotcha and t.condition == condition})


def _order(plan: RunPlan, gotcha: GotchaPlan, condition: Condition, pair: int, last: Sequence[str]) -> list[str]:
    """The arms of an added pair: in reverse of the pair before it, or in a new random order, alternating as in the plan."""
    if pair % 2:
        return list(last)[::-1]
    arms = gotcha.variants_of(condition)
    return random.Random(f"{plan.seed}/{gotcha.slug}/{condition.key}/{pair}/order").sample(arms, len(arms))


def _addition(plan: RunPlan, gotcha: GotchaPlan, condition: Condition, first: int, times: int) -> Addition:
    own = [t for t in plan.trials if t.gotcha == gotcha.slug and t.condition == condition.key]
    order = [t.variant for t in own if t.pair == first - 1]
    trials: list[TrialPlan] = []
    for pair in range(first, first * times):
        order = _order(plan, gotcha, condition, pair, order)
        seed = trial_seed(plan.seed, gotcha.slug, condition.trace or condition.key, pair)
        trials += [TrialPlan(gotcha.slug, condition.key, pair, variant, seed) for variant in order]
    return Addition(gotcha, condition, first, tuple(trials))


def additions(plan: RunPlan, undecided: Sequence[Undecided]) -> list[Addition]:
    """What to add: the conditions whose undecided claims the second number of pairs would settle, the cheapest first, within the time."""
    rule = plan.second_look
    if rule is None:
        return []
    conditions = {(g.slug, c.key): (g, c) for g in plan.gotchas for c in g.conditions}
    cost: Callable[[Sequence[TrialPlan]], float] = lambda trials: sum(  # noqa: E731
        expected_s(conditions[t.gotcha, t.condition][1]) for t in trials
    )
    needed: dict[tuple[str, str], int] = {}
    for slug, condition, more in undecided:
        needed[slug, condition] = min(more, needed.get((slug, condition), more))
    found = []
    for key, fewest in needed.items():
        first = first_pairs(plan, *key)
        if first >= rule.fewest and fewest <= first * (rule.times - 1):
            found.append(_addition(plan, *conditions[key], first, rule.times))
    left_s, chosen = rule.time_share * cost(plan.trials), []
    for one in sorted(found, key=lambda one: cost(one.trials)):
        if cost(one.trials) <= left_s:
            left_s -= cost(one.trials)
            chosen.append(one)
    return chosen
