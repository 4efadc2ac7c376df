"""What the tour runs of a gotcha: the naive and the correct app, and the claims that these two decide."""

from dataclasses import replace

from lab.model import GotchaPlan, MetricExpression
from lab.run.grid import ARMS


def pairs_only(plan: GotchaPlan) -> GotchaPlan:
    """``plan`` without its other variants, without the claims that speak of them, and without the conditions that nothing judges then."""
    claims = tuple(
        claim
        for claim in plan.claims
        if {ref.variant for ref in MetricExpression.parse(claim.metric).refs} <= set(ARMS)
    )
    judged = {key for claim in claims for key in claim.predictions}
    conditions = tuple(
        replace(condition, variants=arms)
        for condition in plan.conditions
        if condition.key in judged and (arms := tuple(one for one in plan.variants_of(condition) if one in ARMS))
    )
    return replace(plan, variants=ARMS, conditions=conditions, claims=claims)
