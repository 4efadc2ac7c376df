"""The rules of a verdict through the whole path: a plan, trials on disk, ``judge_run``, and what is printed of it."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.finish import exit_code
from analysis.judge import judge_run
from analysis.model import VERDICT_ORDER, VerdictName
from analysis.table import verdicts_text
from lab.model import ClosedLoad, Condition, OpenLoad, SecondLook, TrialPlan
from lab.run.runner import run_trials
from lab.words.record import Added, Statement
from tests.fakes import gotcha_plan
from tests.scripted import (
    CONDITION,
    FAILED,
    NEVER,
    SKIPPED,
    Said,
    Scripted,
    claim,
    counted,
    judged,
    one,
    run_of,
    verdicts_of,
)

P50 = "naive.latency_p50_s"
RATIO = "naive.latency_p50_s / correct.latency_p50_s"
LOST = "naive.observed[lost]"

# ---------------------------------------------------------------- survivors


def test_never_is_a_value_that_breaks_a_bound(tmp_path: Path) -> None:
    run = verdicts_of(tmp_path, {"naive": (0.05, NEVER, NEVER)}, claim(P50, 0.1, "at_most", 0.0), pairs=3)
    (found,) = run.gotchas[0].claims
    assert found.verdict == "law_broken" and exit_code(run) == 1
    assert found.at_headline.pairs == 3
    assert (
        found.at_headline.reason == "predicted at most 0.1, observed [0.05, never]: 1 of 3 trials agree, 2 never ended"
    )


@pytest.mark.parametrize(
    ("values", "asked", "verdict"),
    [
        ((0.2, NEVER, 0.3), claim(P50, 0.1, "at_least", 0.0), "reproduced"),  # never is longer than any bound
        ((0.05, 0.05, NEVER), claim(P50, 0.1, "at_least", 0.0), "law_broken"),
        ((NEVER,) * 3, claim(P50, 0.1, "at_most", 0.0), "larger"),
        ((0.05, 0.05, NEVER), claim(P50, 0.05), "law_broken"),
        ((0.05,) * 7 + (NEVER,), claim(P50, 0.1, "at_most"), "law_broken"),
        ((NEVER,) * 3, claim(P50, 0.05), "larger"),
        ((0.4, 0.41, 0.4, NEVER), claim(P50, 0.1, "at_least"), "reproduced"),
        ((NEVER,) * 3, claim(P50, 0.1, "at_least"), "reproduced"),
        (
            (1.0, 1.01, NEVER),
            claim(P50, 0.1, "at_least"),
            "reproduced",
        ),  # more than the greatest of the others, not just the bound
        ((0.05, 0.05, 0.05, NEVER), claim(P50, 0.1, "at_least"), "inconclusive"),  # the others are not enough
        ((NEVER,) * 3, claim(P50, 0.05, null=0.2), "reversed"),
    ],
)
def test_never_in_a_law_and_in_an_estimate(
    values: tuple[float, ...], asked: Any, verdict: VerdictName, tmp_path: Path
) -> None:
    found = one(tmp_path, {"naive": values}, asked, len(values))
    assert found.verdict == verdict, found.at_headline.reason
    assert found.at_headline.pairs == len(values)


@pytest.mark.parametrize(
    ("lost", "word"), [(FAILED, "died"), (SKIPPED, "machine"), (counted(other=1.0), "no observed count")]
)
def test_a_law_needs_every_planned_trial(lost: Any, word: str, tmp_path: Path) -> None:
    law = claim(LOST, 0.0, tolerance=0.0)
    found = one(tmp_path / "a", {"naive": (counted(lost=0.0), lost, counted(lost=0.0))}, law, 3)
    assert found.verdict == "inconclusive"
    assert (
        "2 are there and agree" in found.at_headline.reason.replace("2 of 3", "2") and word in found.at_headline.reason
    )
    assert "pair 2" in found.at_headline.reason and (found.at_headline.pairs, found.at_headline.planned) == (2, 3)
    broken = one(tmp_path / "b", {"naive": (counted(lost=1.0), lost, counted(lost=0.0))}, law, 3)
    assert broken.verdict == "law_broken" and "1 of 2 trials agree" in broken.at_headline.reason


def test_an_interrupted_run_proves_no_law(tmp_path: Path) -> None:
    found = one(tmp_path, {"naive": (counted(lost=0.0), counted(lost=0.0), None)}, claim(LOST, 0.0, tolerance=0.0), 3)
    assert found.verdict == "inconclusive" and "naive was not run" in found.at_headline.reason


EIGHT = (0.10, 0.101, 0.099, 0.10, 0.102, 0.098, 0.10, 0.10)


def with_lost(place: int, lost: Any, values: tuple[float, ...] = EIGHT) -> tuple[Any, ...]:
    return (*values[:place], lost, *values[place + 1 :])


def test_an_estimate_stands_on_the_pairs_that_it_has_where_the_others_could_not_change_it(tmp_path: Path) -> None:
    found = one(tmp_path / "a", {"naive": with_lost(7, None)}, claim(P50, 0.1), 8)
    assert found.verdict == "reproduced" and "7 of 8 pairs" in found.at_headline.reason
    near = tuple(
        value * 1.087 for value in EIGHT
    )  # the interval of seven lies just inside: [0.1077, 0.1098] and a band to 0.11
    assert one(tmp_path / "b", {"naive": near}, claim(P50, 0.1), 8).verdict == "reproduced"
    found = one(tmp_path / "c", {"naive": with_lost(7, None, near)}, claim(P50, 0.1), 8)
    assert found.verdict == "inconclusive" and "could change the conclusion" in found.at_headline.reason
    assert found.at_headline.more_pairs == 1


@pytest.mark.parametrize(
    ("metric", "relation", "predicted", "crashed", "verdict"),
    [
        (P50, "at_most", 0.2, "naive", "inconclusive"),  # what it did not answer may have taken for ever
        (P50, "at_least", 0.05, "naive", "reproduced"),  # for ever is at least that
        ("naive.throughput_rps", "at_least", 5.0, "naive", "inconclusive"),  # or have been no answer at all
        ("naive.throughput_rps", "at_most", 50.0, "naive", "reproduced"),
        (RATIO, "at_least", 2.0, "naive", "reproduced"),
        (RATIO, "at_least", 2.0, "correct", "inconclusive"),
        (RATIO, "at_most", 40.0, "correct", "reproduced"),
        (RATIO, "at_most", 40.0, "naive", "inconclusive"),
    ],
)
def test_a_crash_never_favours_the_variant_that_crashed(
    metric: str, relation: str, predicted: float, crashed: str, verdict: VerdictName, tmp_path: Path
) -> None:
    script: dict[str, tuple[Any, ...]] = {"naive": EIGHT, "correct": (0.01,) * 8}
    asked = claim(metric, predicted, relation)
    assert one(tmp_path / "whole", script, asked, 8).verdict == "reproduced"
    script[crashed] = with_lost(3, FAILED, script[crashed])
    found = one(tmp_path / "lost", script, asked, 8)
    assert found.verdict == verdict, found.at_headline.reason
    assert (
        "7 of 8 pairs" in found.at_headline.reason
        and "pair 4: " in found.at_headline.reason
        and FAILED in found.at_headline.reason
    )


def test_values_are_keyed_by_pair(tmp_path: Path) -> None:
    """Each arm lost another pair: matched by position the ratios would be 1, 10, 0.1."""
    script = {"naive": (0.01, FAILED, 0.1, 1.0), "correct": (0.01, 0.01, FAILED, 1.0)}
    gotcha = judged(tmp_path, script, claim(RATIO, 1.0, tolerance=0.5), pairs=4)
    measured = gotcha.claims[0].at_headline.measured
    assert measured is not None and measured.pairs == (0, 3)
    assert measured.values == pytest.approx((1.0, 1.0))
    kept = gotcha.metrics[CONDITION.key]
    assert kept["naive"]["latency_p50_s"] == pytest.approx((0.01, None, 0.1, 1.0))
    assert kept["correct"]["latency_p50_s"] == pytest.approx((0.01, 0.01, None, 1.0))


def test_a_ratio_with_never(tmp_path: Path) -> None:
    above = one(tmp_path / "a", {"naive": (0.1, NEVER, 0.1), "correct": (0.01,) * 3}, claim(RATIO, 20.0, "at_most"), 3)
    assert above.verdict == "law_broken" and above.at_headline.measured is not None
    assert above.at_headline.measured.values == pytest.approx((10.0, math.inf, 10.0))
    for relation, predicted in (("at_most", 20.0), ("at_least", 2.0), ("about", 10.0)):
        script = {"naive": (0.1,) * 3, "correct": (0.01, NEVER, 0.01)}
        below = one(tmp_path / relation, script, claim(RATIO, predicted, relation), 3)
        assert below.verdict == "inconclusive" and "never ended: no ratio" in below.at_headline.reason


def test_every_condition_has_its_own_planned_pairs(tmp_path: Path) -> None:
    """A condition with one pair misses none of another's three, nor of another gotcha's."""
    short = replace(TWO[0], quick_pairs=1)
    law = claim(LOST, 0.0, tolerance=0.0)
    plans = (
        gotcha_plan(law, conditions=(short, TWO[1])),
        gotcha_plan(law, conditions=(TWO[0],), slug="event_loop/other"),
    )
    run = run_of(tmp_path, {"naive": (counted(lost=0.0),)}, *plans, pairs=None, mode="quick")
    first, other = judge_run(run).gotchas
    assert [(one.pairs, one.planned, one.verdict) for one in first.claims[0].conditions] == [
        (1, 1, "reproduced"), (3, 3, "reproduced"),
    ]  # fmt: skip
    assert other.claims[0].at_headline.planned == 3


# ---------------------------------------------------------------- words

TWO = (replace(CONDITION, label="calm"), replace(CONDITION, label="storm"))


@pytest.mark.parametrize(
    ("asked", "values", "verdict"),
    [
        (claim(P50, 0.1), (0.05, 0.0501, 0.0499), "smaller"),
        (claim(P50, 0.1), (0.2, 0.201, 0.199), "larger"),
        (claim(P50, 0.1, null=0.01), (0.2, 0.201, 0.199), "larger"),
        (claim(P50, 0.1, null=0.01), (0.0101, 0.01, 0.0099), "not_reproduced"),
        (claim(P50, 0.1, null=0.01), (0.05, 0.0501, 0.0499), "smaller"),
        (claim(P50, 0.1, null=0.05), (0.01, 0.0101, 0.0099), "reversed"),
        (claim(P50, 0.1, "at_least", 0.0), (0.2, 0.09, 0.3), "law_broken"),
        (
            claim(P50, 0.095, "at_least", 0.0),
            (0.9, 0.907, 0.91),
            "reproduced",
        ),  # more than a bound asks for is no failure
    ],
)
def test_the_words(asked: Any, values: tuple[float, ...], verdict: VerdictName, tmp_path: Path) -> None:
    run = verdicts_of(tmp_path, {"naive": values}, asked, pairs=3)
    assert run.gotchas[0].claims[0].verdict == verdict
    assert exit_code(run) == (0 if verdict == "reproduced" else 1)


def test_every_word_has_an_exit_code_a_meaning_and_a_place() -> None:
    from analysis.finish import EXIT
    from analysis.report.words import VERDICTS

    assert set(EXIT) == set(VERDICT_ORDER) == set(VERDICTS)
    assert {name for name in VERDICT_ORDER if EXIT[name] == 0} == {"reproduced"}
    assert {name for name in VERDICT_ORDER if EXIT[name] == 2} == {"invalid", "inconclusive"}
    assert VERDICT_ORDER[-1] == "reproduced" and VERDICT_ORDER[:2] == ("invalid", "inconclusive")
    assert len({word.symbol for word in VERDICTS.values()}) == len(VERDICTS)


def test_an_undecided_estimate_says_what_it_would_take(tmp_path: Path) -> None:
    found = one(tmp_path, {"naive": (0.1, 0.2, 0.15)}, claim(P50, 0.15, "at_least"), 3).at_headline
    assert found.verdict == "inconclusive" and found.more_pairs is not None and found.more_pairs > 1
    assert f"spans an edge of the predicted at least 0.135; needs about {found.more_pairs} more pairs, " in found.reason
    assert int(re.findall(r"(\d+) minute", found.reason)[0]) == max(1, math.ceil(found.more_pairs * 2 * 4 / 60))
    one_pair = one(tmp_path / "one", {"naive": (0.1,)}, claim(P50, 0.15), 1).at_headline
    assert (
        one_pair.more_pairs == 2 and one_pair.reason == "one pair has no interval; needs about 2 more pairs, 1 minute"
    )


def test_what_is_printed_never_contradicts_the_verdict_beside_it(tmp_path: Path) -> None:
    """The mean of a broken law lies far beyond its bound; and the quoted condition is not the one that failed."""
    script = {("calm", "naive"): (0.9, 0.907, 0.91), ("storm", "naive"): (0.9, 0.012, 1.8)}
    asked = claim(P50, 0.095, "at_least", 0.0)
    plan = gotcha_plan(asked, conditions=TWO)
    plan = replace(plan, claims=(replace(plan.claims[0], headline="calm"),))
    run = judge_run(run_of(tmp_path, script, plan, pairs=3))
    text = " ".join(verdicts_text(run).split())
    assert "LAW BROKEN" in text and "predicted at least 95 ms, measured 0.012 to 1.8 s under storm" in text
    assert "2 of 3 trials agree" in text and "907" not in text


def test_the_table_says_the_figures_that_the_verdict_comes_from_for_any_law(tmp_path: Path) -> None:
    for number, values in enumerate([(0.2, 0.09), (0.09, 0.2), (0.2, NEVER), (0.01, 0.02)]):
        asked = claim(P50, 0.1, "at_most", 0.0)
        run = verdicts_of(tmp_path / str(number), {"naive": values}, asked, pairs=2)
        claimed = run.gotchas[0].claims[0]
        measured = claimed.speaking.measured
        assert measured is not None and (measured.lowest, measured.highest) == (min(values), max(values))
        agrees = max(values) <= 0.1
        assert (claimed.verdict == "reproduced") == agrees


def test_where_the_headline_was_not_run_another_condition_stands_in_and_no_sentence_quotes_it(tmp_path: Path) -> None:
    plan = gotcha_plan(claim(P50, 0.1), conditions=TWO, answer="It takes {claim:.2f} s in calm.")
    for headline in ("calm", "storm"):
        here = replace(plan, claims=(replace(plan.claims[0], headline=headline),))
        script = {("calm", "naive"): (SKIPPED,), ("calm", "correct"): (SKIPPED,), ("storm", "naive"): (0.1,)}
        (gotcha,) = judge_run(run_of(tmp_path / headline, script, here, pairs=3)).gotchas
        (found,) = gotcha.claims
        assert (found.verdict, found.headline, found.stands_in) == ("reproduced", "storm", headline == "calm")
        assert ("0.10" in gotcha.answer) == (headline == "storm")


# ---------------------------------------------------------------- several claims


def seven(weak: float) -> tuple[Any, ...]:
    claims = [claim(RATIO, 8.0, "at_least", null=1.0, name=f"harm-{n}") for n in range(6)]
    return (*claims, claim("naive.service_p50_s / correct.service_p50_s", weak, "at_least", null=1.0, name="harm-6"))


def test_a_clear_harm_stands_among_seven_claims_with_eight_pairs(tmp_path: Path) -> None:
    """The exact test's least p is 2 / 256: times seven it is 0.055, and no harm could ever pass."""
    gotcha = judged(tmp_path, {"naive": EIGHT, "correct": (0.01,) * 8}, *seven(8.0), pairs=8)
    assert [one.verdict for one in gotcha.claims] == ["reproduced"] * 7
    assert all(one.holm_p is not None and one.holm_p < 0.001 for one in gotcha.claims)
    assert "many_claims" not in {doubt.id for doubt in gotcha.doubts}


UNSURE = tuple(0.01 * ratio for ratio in (1.5, 0.97, 1.9, 1.2, 1.6, 0.98, 1.4, 1.3))
"""Ratios to 0.01 whose t test has p = 0.012: clear alone, not among seven."""


def test_a_harm_that_is_only_just_seen_does_not_stand_among_seven(tmp_path: Path) -> None:
    lone = claim(RATIO, 9.0, null=1.0, name="lone")
    script = {"naive": UNSURE, "correct": (0.01,) * 8}
    alone = judged(tmp_path / "alone", script, lone, pairs=8)
    assert alone.claims[0].verdict == "smaller" and 0.005 < (alone.claims[0].holm_p or 0) < 0.05
    family = [claim(RATIO, 9.0, null=1.0, name=f"harm-{n}") for n in range(7)]
    found = judged(tmp_path / "seven", script, *family, pairs=8)
    assert {one.verdict for one in found.claims} == {"smaller"}
    assert all((one.holm_p or 0) == pytest.approx(7 * (alone.claims[0].holm_p or 0)) for one in found.claims)
    assert "many_claims" in {doubt.id for doubt in found.doubts}
    assert "many_claims" not in {doubt.id for doubt in alone.doubts}


def test_the_family_is_one_gotcha_and_only_what_chance_could_show(tmp_path: Path) -> None:
    script = {"naive": UNSURE, "correct": (0.01,) * 8}
    others = [
        claim(P50, 0.001, "at_least", 0.0, name="law"),  # asked of every trial: no chance in it
        claim(RATIO, 3.0, "at_most", null=1.0, name="tax", kind="tax"),  # no effect would be as good
        claim(P50, 0.013, tolerance=0.5, name="no-null"),
    ]
    gotchas = [
        gotcha_plan(claim(RATIO, 9.0, null=1.0), *others, conditions=(CONDITION,), slug=f"event_loop/g{n}")
        for n in range(9)
    ]
    run = judge_run(run_of(tmp_path, script, *gotchas, pairs=8))
    for gotcha in run.gotchas:
        p = {one.id: one.holm_p for one in gotcha.claims}
        assert (p["claim"] or 1) < 0.05 and [p["law"], p["tax"], p["no-null"]] == [None] * 3
        assert "many_claims" not in {doubt.id for doubt in gotcha.doubts}


def test_the_exact_test_must_confirm_a_harm_too(tmp_path: Path) -> None:
    """Seven ratios near 2 and one near 1/2: t says p = 0.02 and signs say nothing of the kind."""
    script = {"naive": (0.02, 0.0201, 0.0199, 0.02, 0.0202, 0.02), "correct": (0.01,) * 6}
    clear = judged(tmp_path / "a", script, claim(RATIO, 9.0, null=1.0), pairs=6)
    assert "many_claims" not in {doubt.id for doubt in clear.doubts}
    from analysis.several import is_weak

    found = clear.claims[0]
    measured = found.at_headline.measured
    assert measured is not None and not is_weak(found)
    unsure = replace(found, conditions=(replace(found.conditions[0], measured=replace(measured, p_value=0.06)),))
    assert is_weak(unsure)


def test_equal_shares_get_no_interval_from_the_requests_of_several_trials(tmp_path: Path) -> None:
    """Twenty requests in each of eight trials are not 160 independent ones: three trials with and without an error differ."""
    found = one(tmp_path, {"naive": EIGHT}, claim("naive.error_share", 0.0, "at_most", null=0.5), 8)
    measured = found.at_headline.measured
    assert measured is not None and (measured.value, measured.low, measured.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "reproduced"


# ---------------------------------------------------------------- gates, looks, patterns

NOISY = {"noise": {"foreign_cpu_share": 0.9}}


def noisy(*pairs: int, count: int = 8, latency_s: float = 0.01) -> tuple[Said, ...]:
    return tuple(Said(latency_s, NOISY if pair in pairs else {}) for pair in range(count))


def test_a_spoiled_pair_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [replace(row, latency_s=0.5 if pair == 2 else 0.01) for pair, row in enumerate(noisy(2))]
    found = one(tmp_path, {"naive": tuple(rows)}, claim(P50, 0.01), 8)
    assert found.verdict == "reproduced", found.at_headline.reason
    assert "7 of 8 pairs; pair 3: gate G9 failed" in found.at_headline.reason
    measured = found.at_headline.measured
    assert measured is not None and measured.pairs == (0, 1, 3, 4, 5, 6, 7) and found.at_headline.planned == 8


@pytest.mark.parametrize(("metric", "relation"), [(P50, "at_most"), (RATIO, "at_most"), (RATIO, "about")])
def test_noise_in_the_other_arm_excuses_no_crash(metric: str, relation: str, tmp_path: Path) -> None:
    quiet, loud = Said(0.01), noisy(1, count=2)[1]
    asked = claim(metric, 1.0 if metric == RATIO else 0.01, relation)
    script: dict[str, tuple[Any, ...]] = {"naive": (quiet,) * 6, "correct": with_lost(1, loud, (quiet,) * 6)}  # type: ignore[arg-type]
    assert one(tmp_path / "noise", script, asked, 6).verdict == "reproduced"
    script["naive"] = with_lost(1, FAILED, script["naive"])
    found = one(tmp_path / "crash", script, asked, 6)
    assert found.verdict == "inconclusive" and f"pair 2: naive: {FAILED}" in found.at_headline.reason


def test_noise_leaves_counts_alone(tmp_path: Path) -> None:
    rows = tuple(replace(row, record={**row.record, "observed": {"lost": 3.0}}) for row in noisy(*range(8)))
    found = one(tmp_path, {"naive": rows}, claim(LOST, 3.0, tolerance=0.0), 8)
    assert found.verdict == "reproduced" and found.at_headline.pairs == 8


@pytest.mark.parametrize(
    ("count", "spoiled", "verdict"),
    [
        (8, 4, "reproduced"),
        (8, 5, "invalid"),
        (3, 1, "reproduced"),
        (3, 2, "invalid"),
        (2, 1, "invalid"),
        (1, 1, "invalid"),
    ],
)
def test_a_condition_is_invalid_when_fewer_than_half_or_two_of_its_pairs_are_left(
    count: int, spoiled: int, verdict: VerdictName, tmp_path: Path
) -> None:
    found = one(tmp_path, {"naive": noisy(*range(spoiled), count=count)}, claim(P50, 0.01), count)
    assert found.verdict == verdict
    if verdict == "invalid":
        assert found.at_headline.measured is None
        assert (
            "gate G9 failed" in found.at_headline.reason
            and f"{count - spoiled} of {count} pairs" in found.at_headline.reason
        )


def test_a_gate_sees_the_conditions_beside_its_own(tmp_path: Path) -> None:
    """Twice the users, the same throughput, and nothing of the server exhausted: the plateau may be ours."""
    few, many = (Condition(f"{users} users", ClosedLoad(users), duration_s=2.0) for users in (10, 20))
    found = one(tmp_path, {"naive": (0.01,)}, claim("naive.throughput_rps", 10.0), 3, conditions=(few, many))
    assert {at.condition: at.verdict for at in found.conditions} == {few.key: "reproduced", many.key: "invalid"}
    assert "gate G7 failed" in found.speaking.reason and found.verdict == "invalid"


LOOKED = tuple(0.1 * ratio for ratio in (1.0, 1.04, 1.075))
"""95 %: [0.0947, 0.1147]; 97 %: [0.0925, 0.1174]."""


def test_a_registered_second_look_is_paid_for_in_the_first(tmp_path: Path) -> None:
    asked = claim(P50, 0.1, tolerance=0.16)
    alone = one(tmp_path / "a", {"naive": LOOKED}, asked, 3)
    assert alone.verdict == "reproduced"
    first = one(tmp_path / "b", {"naive": LOOKED}, asked, 3, mode="quick", look=SecondLook())
    assert first.verdict == "inconclusive" and first.at_headline.more_pairs is not None
    measured = first.at_headline.measured
    assert measured is not None and measured.level == pytest.approx(0.97)
    few = one(tmp_path / "c", {"naive": LOOKED}, asked, 3, mode="quick", look=SecondLook(fewest=4))
    assert few.verdict == "reproduced"


def test_the_second_look_has_an_error_of_its_own_and_pairs_that_count(tmp_path: Path) -> None:
    plan = gotcha_plan(claim(P50, 0.1, tolerance=0.16), conditions=(CONDITION,))
    run = run_of(tmp_path, {"naive": LOOKED}, plan, pairs=3, mode="quick", look=SecondLook())
    added = tuple(TrialPlan(plan.slug, CONDITION.key, pair, v, 9) for pair in (3, 4, 5) for v in ("naive", "correct"))
    run.write_added(Added(added, ("why",)))
    lost = judge_run(run).gotchas[0].claims[0].at_headline
    assert (lost.pairs, lost.planned) == (3, 6) and "3 of 6 pairs" in lost.reason
    run_trials(run.plan, run, Scripted({"naive": LOOKED}), lambda progress: None, added=added)
    second = judge_run(run).gotchas[0].claims[0]
    measured = second.at_headline.measured
    assert second.verdict == "reproduced" and measured is not None and measured.level == pytest.approx(0.98)
    assert measured.pairs == (0, 1, 2, 3, 4, 5)


def statements(*texts: str) -> Said:
    return Said(record={"statements": tuple(Statement(text, 4, 4, 0, 0.1) for text in texts)})


def test_a_pattern_that_matches_nothing_in_any_arm_is_an_error_that_names_it(tmp_path: Path) -> None:
    claims = (
        claim("naive.sql_calls[load]", 4.0, tolerance=0.0, name="load"),
        claim("naive.sql_calls[typo]", 0.0, tolerance=0.0, name="typo"),
    )
    plan = {"services": ("postgres",), "queries": {"load": "SELECT%orders%", "typo": "SELECT%ordres%"}}
    gotcha = judged(tmp_path, {"naive": (statements("SELECT * FROM orders"),)}, *claims, pairs=1, plan=plan)
    load, typo = gotcha.claims
    assert load.verdict == "reproduced"
    assert typo.verdict == "invalid" and typo.at_headline.measured is None
    assert "'typo'" in typo.at_headline.reason and "SELECT%ordres%" in typo.at_headline.reason


def test_a_pattern_that_one_arm_matches_may_be_nothing_in_the_other(tmp_path: Path) -> None:
    asked = claim("correct.sql_calls[load]", 0.0, tolerance=0.0)
    plan = {"services": ("postgres",), "queries": {"load": "SELECT%orders%"}}
    script = {"naive": (statements("SELECT * FROM orders"),), "correct": (statements("COMMIT"),)}
    assert judged(tmp_path, script, asked, pairs=1, plan=plan).claims[0].verdict == "reproduced"


# ---------------------------------------------------------------- what is shown


def test_the_share_answered_stands_beside_a_time_and_nowhere_else(tmp_path: Path) -> None:
    condition = Condition("open", OpenLoad(10.0), duration_s=2.0)
    claims = (claim(P50, 0.05, "at_least", name="time"), claim("naive.latency_p50_s / naive.service_p50_s", 1.0, name="ratio"),
              claim("naive.cpu_s_per_request", 1.0, name="cpu"))  # fmt: skip
    script = {"naive": (0.1, NEVER, 0.1), "correct": (0.1,) * 3}
    gotcha = judged(tmp_path, script, *claims, pairs=3, conditions=(condition,))
    shares = {one.id: one.at_headline.answered for one in gotcha.claims}
    assert shares["time"] == 0.0 and shares["cpu"] is None
    whole = judged(tmp_path / "whole", {"naive": (0.1,) * 3}, claims[0], pairs=3, conditions=(condition,))
    assert whole.claims[0].at_headline.answered == 1.0
