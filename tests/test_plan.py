"""Which trials a run does, in which order."""

from dataclasses import replace

import pytest

from lab.catalog.describe import register, under_servers
from lab.model import Claim, ClosedLoad, Condition, Server
from lab.run.plan import make_plan
from lab.words.metrics import naive
from tests.fakes import gotcha_plan

CELLS = (
    Condition("users=1", ClosedLoad(1), params={"users": 1}, quick_pairs=1),
    Condition("users=10", ClosedLoad(10), params={"users": 10}),
    Condition("users=99", ClosedLoad(99), params={"users": 99}, quick=False),
)
CLAIM = Claim("c", "harm", "s", naive.throughput_rps, predict=lambda c: c.number("users"), formula="", source="")


def order(mode: str, pairs: int | None = None) -> list[tuple[int, str, str]]:
    plan = make_plan("r", "now", [gotcha_plan(CLAIM, conditions=CELLS)], mode, 1, pairs)  # type: ignore[arg-type]
    return [(t.pair, t.condition, t.variant) for t in plan.trials]


def test_quick_leaves_out_what_is_not_quick_and_keeps_the_conditions_own_pairs() -> None:
    trials = order("quick")
    assert {c for _, c, _ in trials} == {"users=1", "users=10"}
    assert sum(c == "users=1" for _, c, _ in trials) == 2  # one pair of two arms
    assert sum(c == "users=10" for _, c, _ in trials) == 6


def test_full_runs_every_condition_with_the_full_number_of_pairs() -> None:
    trials = order("full")
    assert {c for _, c, _ in trials} == {"users=1", "users=10", "users=99"}
    assert len(trials) == 3 * 2 * 8


def test_arms_are_reversed_in_every_other_pair_and_never_torn_apart() -> None:
    arms = [[v for p, c, v in order("full") if c == "users=10" and p == pair] for pair in range(8)]
    for first, second in zip(arms[::2], arms[1::2], strict=True):
        assert sorted(first) == ["correct", "naive"]
        assert second == first[::-1]
    trials = order("full")
    for left, right in zip(trials[::2], trials[1::2], strict=True):
        assert left[:2] == right[:2]


def test_both_arms_of_a_pair_share_a_seed_and_no_two_pairs_do() -> None:
    plan = make_plan("r", "now", [gotcha_plan(CLAIM, conditions=CELLS)], "full", 1)
    seeds: dict[tuple[str, int], set[int]] = {}
    for trial in plan.trials:
        seeds.setdefault((trial.condition, trial.pair), set()).add(trial.seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len({next(iter(found)) for found in seeds.values()}) == len(seeds)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    one, again = (make_plan("r", "now", [gotcha_plan(CLAIM)], "full", 5) for _ in range(2))
    other = make_plan("r", "now", [gotcha_plan(CLAIM)], "full", 6)
    assert one == again
    assert [t.seed for t in one.trials] != [t.seed for t in other.trials]


def test_predictions_of_conditions_that_are_left_out_are_left_out_too() -> None:
    plan = make_plan("r", "now", [gotcha_plan(CLAIM, conditions=CELLS)], "quick", 1)
    (claim,) = plan.gotchas[0].claims
    assert set(claim.predictions) == {"users=1", "users=10"}
    assert claim.headline == "users=10"


def test_variants_of_a_condition_limit_its_arms() -> None:
    alone = replace(CELLS[1], variants=("correct",))
    plan = make_plan("r", "now", [gotcha_plan(CLAIM, conditions=(alone,))], "quick", 1)
    assert {t.variant for t in plan.trials} == {"correct"}


# ---------------------------------------------------------------- headlines

LABELS = ("10 users", "10 users, 2 workers", "no users")


def registered(headline: str, *conditions: Condition, origins: dict[str, str] | None = None) -> str:
    cells = conditions or tuple(Condition(label, ClosedLoad(1)) for label in LABELS)
    return register(
        replace(CLAIM, headline=headline, predict=lambda c: None if c.label == "no users" else 1.0), cells, origins
    ).headline


def test_a_headline_names_its_condition_exactly_whichever_comes_first() -> None:
    for cells in (LABELS, LABELS[::-1]):
        conditions = tuple(Condition(label, ClosedLoad(1)) for label in cells)
        assert registered("10 users", *conditions) == "10-users"
        assert registered("10 users, 2 workers", *conditions) == "10-users-2-workers"


def test_a_headline_that_names_none_is_an_error_that_names_the_near_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"no condition has the label '10 user', its headline; near it: '10 users', '10 users, 2 workers'",
    ):
        registered("10 user")
    with pytest.raises(ValueError, match="near it: '10 users'"):
        registered("10 usres")
    with pytest.raises(ValueError, match="predicts nothing for its headline 'no users'"):
        registered("no users")


def test_a_headline_must_be_part_of_a_quick_run_where_the_claim_is() -> None:
    late = Condition("late", ClosedLoad(1), quick=False)
    with pytest.raises(ValueError, match="a quick run leaves out its headline 'late'"):
        registered("late", late, Condition("early", ClosedLoad(1)))
    assert registered("late", late) == "late"
    assert registered("", Condition("early", ClosedLoad(1)), late) == "early"


def test_under_other_servers_the_headline_is_the_same_cell_and_not_one_that_begins_like_it() -> None:
    old = [Condition(label, ClosedLoad(1)) for label in LABELS[:2]]
    pairs = [(one, new) for one in old for new in under_servers(one, [Server(), Server(workers=2)])]
    origins = {new.key: one.label for one, new in pairs}
    assert registered("10 users", *(new for _, new in pairs), origins=origins) == "10-users-on-uvicorn-x2"
