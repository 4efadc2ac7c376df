"""Several claims of one gotcha at once: Holm's adjustment, within the gotcha that a reader looks at.

The family is the claims that say "there is an effect": they have a tolerance and a null outside what they predict, and chance alone could
show them.  A law has no chance in it, and a claim whose null is as good as predicted (a tax "at most 1.5 times") says nothing against
it.  What is adjusted is the p value of the paired t test, whose interval gave the verdict: the exact sign-flip test cannot go below
2 / 2**K, which is 0.0078 for eight pairs, so that over seven claims no effect however large could pass.  The exact test alone, which no
claim needs to be divided by, has to confirm the finding too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis import statistics
from analysis.doubts import doubt
from analysis.metrics import METRICS, family_of
from analysis.model import ClaimVerdict, Doubt
from analysis.readings import is_logarithmic
from analysis.verdicts import Question, short
from lab.model import ClaimPlan, MetricExpression

PAIRS_FOR_EXACT = 6
"""Pairs from which an exact test can reach 5 %: 2 / 2**6 = 0.031.  Quick runs have fewer and are spared."""
ERROR = 0.05


def p_value(claim: ClaimPlan, verdict: ClaimVerdict) -> float | None:
    """The p value with which a claim takes part, None where it is not one of the family or was not measured."""
    at, expression = verdict.at_headline, MetricExpression.parse(claim.metric)
    measured = at.quotable
    if measured is None or measured.never or any(ref.metric not in METRICS for ref in expression.refs):
        return None
    logarithmic = is_logarithmic(expression) and min(measured.values) > 0
    question = Question(at.predicted, claim.relation, claim.tolerance, claim.null, family_of(expression.numerator))
    null = question.outside_null
    if question.tolerance == 0 or null is None or (logarithmic and null <= 0):
        return None
    scale = math.log if logarithmic else float
    return statistics.t_p([scale(value) - scale(null) for value in measured.values])


def is_weak(claim: ClaimVerdict) -> bool:
    """A harm found by interval that the adjusted test or the exact one does not confirm."""
    at = claim.at_headline
    if claim.kind != "harm" or claim.verdict not in ("reproduced", "smaller", "larger") or at.pairs < PAIRS_FOR_EXACT:
        return False
    exact = at.quotable.p_value if at.quotable else None
    return claim.holm_p is not None and max(claim.holm_p, exact or 0.0) > ERROR


def with_holm(
    plans: Sequence[ClaimPlan], verdicts: Sequence[ClaimVerdict]
) -> tuple[tuple[ClaimVerdict, ...], list[Doubt]]:
    """The claims of one gotcha with their adjusted p values, and a doubt for each harm that does not stand them."""
    by_id: Mapping[str, ClaimPlan] = {claim.id: claim for claim in plans}
    tested = [(one.id, p) for one in verdicts if (p := p_value(by_id[one.id], one)) is not None]
    adjusted = dict(zip((name for name, _ in tested), statistics.holm([p for _, p in tested]), strict=True))
    claims = tuple(replace(one, holm_p=adjusted.get(one.id)) for one in verdicts)
    doubts = [
        doubt("many_claims", f"{one.id}: p = {short(one.holm_p or 0)} after Holm over {len(tested)} claims.", one.holm_p)
        for one in claims if is_weak(one)
    ]  # fmt: skip
    return claims, doubts
