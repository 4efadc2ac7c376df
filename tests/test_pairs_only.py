"""The tour's plan: naive and correct, and only what these two decide."""

from dataclasses import replace

from lab.catalog import Catalog
from lab.cli.options import TOUR
from lab.model import Claim, ClosedLoad, Condition, MetricExpression
from lab.run.pairs_only import pairs_only
from lab.words.metrics import Arm, Named, correct, naive
from tests.fakes import gotcha_plan

BOTH = Condition("10 users", ClosedLoad(10), duration_s=1.0)
THIRD_ALONE = Condition("80 users", ClosedLoad(80), duration_s=1.0, variants=("tempting",))
MIXED = Condition("1 user", ClosedLoad(1), duration_s=1.0, variants=("tempting", "correct"))


def claim(name: str, metric: Named) -> Claim:
    return Claim(name, "harm", name, metric, lambda c: 1.0, formula="1", source="made up")


def test_other_variants_leave_with_their_claims_and_conditions() -> None:
    plan = gotcha_plan(
        claim("both", naive.throughput_rps), claim("third", Arm("tempting").throughput_rps), claim("fix", correct.throughput_rps),
        conditions=(BOTH, THIRD_ALONE, MIXED),
    )  # fmt: skip
    plan = replace(plan, variants=("naive", "correct", "tempting"))
    found = pairs_only(plan)
    assert [one.id for one in found.claims] == ["both", "fix"] and found.variants == ("naive", "correct")
    assert {one.label: one.variants for one in found.conditions} == {
        "10 users": ("naive", "correct"), "1 user": ("correct",),
    }  # fmt: skip


def test_the_tour_keeps_every_headline() -> None:
    for plan in map(pairs_only, Catalog().plans(TOUR)):
        kept = {one.label for one in plan.conditions}
        assert plan.before_after is not None and plan.before_after.condition in kept, plan.slug
        assert plan.before_after.fixed == "correct", plan.slug
        assert {"harm", "fix"} <= {one.kind for one in plan.claims}, plan.slug
        for one in plan.claims:
            assert {ref.variant for ref in MetricExpression.parse(one.metric).refs} <= {"naive", "correct"}
            assert set(one.predictions) <= {condition.key for condition in plan.conditions}, one.id
