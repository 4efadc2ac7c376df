"""Diff (two runs) on runs of the fake executor: what varies is judged by the spread between runs, what does not is compared exactly."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from analysis import exports
from analysis.alike import StoredRun
from analysis.between import NEEDED_RUNS, false_alarms, shift_of
from analysis.diff import _row, _told, change_of, compare_runs, document, exact_change
from analysis.differences import Difference, Kinds, Row
from analysis.finish import judge_again
from analysis.model import ClaimVerdict, ConditionVerdict, Estimate, VerdictName
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan
from lab.run.plan import make_plan
from lab.run.runner import run_trials
from lab.store import RunFolder, new_run
from lab.words.errors import UsageError
from lab.words.metrics import correct, naive
from lab.words.record import Environment
from tests.fakes import FakeExecutor, gotcha_plan
from tests.scripted import NEVER, claim, run_of

BASE = Condition("10 users", ClosedLoad(10), duration_s=1.0, params={"users": 10})
HARM = Claim(
    "slow", "harm", "naive serves fewer", naive.throughput_rps, lambda c: 100.0, formula="100", source="made up"
)
EQUAL = Claim(
    "fast", "fix", "correct serves 400", correct.throughput_rps, lambda c: 400.0, formula="400", source="made up"
)
STATES = (1.0, 1.03, 0.97, 1.02)
"""What the machine makes of a run: rates of A/A runs lie a few percent apart."""


def environment(**changed: Any) -> Environment:
    plain = Environment("CPython 3.11", "Linux", "a CPU", 2, 1, {}, {"fastapi": "0.139.0"}, {"postgres": "18"}, {}, {})
    return replace(plain, **changed)


def a_run(
    where: Path, name: str, naive: float, state: float = 1.0, *, seed: int = 1, gotcha: GotchaPlan | None = None,
    mode: str = "quick", **changed: Any,
) -> RunFolder:  # fmt: skip
    """A run whose machine was ``state`` times as fast as usual, with a little noise from pair to pair."""
    executor = FakeExecutor(
        {"naive": naive * state, "correct": 400.0 * state}, {"naive": 0.01, "correct": 0.01}, noise=0.01
    )
    run = new_run(where, name)
    plan = make_plan(run.name, "now", (gotcha or gotcha_plan(HARM, EQUAL, conditions=(BASE,)),), mode, seed)  # type: ignore[arg-type]
    run.write_plan(plan)
    run_trials(plan, run, executor, lambda progress: None)
    run.write_environment(environment(**changed))
    return run


def stored_runs(where: Path, naive: float = 1000.0, **changed: Any) -> list[RunFolder]:
    return [a_run(where, f"aa-{index}", naive, state, **changed) for index, state in enumerate(STATES)]


def row_of(found: Difference, claim: str = "slow") -> Row:
    return next(row for row in found.rows if row.claim == claim)


def runs(*values: Sequence[float]) -> list[dict[int, float]]:
    """Runs with their values by pair."""
    return [dict(enumerate(one)) for one in values]


# ---------------------------------------------------------------- the interval between runs


def test_the_interval_is_students_with_the_run_as_the_unit() -> None:
    before = [[1.0, 1.2], [1.1, 1.1], [0.9, 1.0]]
    after = [[2.0, 2.0], [2.2, 2.1]]
    means = [[sum(map(math.log, values)) / 2 for values in kind] for kind in (before, after)]
    test = stats.ttest_ind(means[1], means[0], equal_var=True)
    low, high = test.confidence_interval(0.95)
    shift = shift_of(runs(*before), runs(*after))
    assert math.log(shift.low) == pytest.approx(float(low)) and math.log(shift.high) == pytest.approx(float(high))
    assert shift.p_value == pytest.approx(float(test.pvalue)) and shift.runs == (3, 2)


def test_a_single_run_is_held_against_a_prediction_interval() -> None:
    # mean 0, s = 0.1, one more run: t(0.975, 2) 0.1 sqrt(1 + 1/3)
    before = runs(*[[math.exp(value)] for value in (-0.1, 0.0, 0.1)])
    shift = shift_of(before, runs([math.exp(0.3)]))
    assert math.log(shift.high) - 0.3 == pytest.approx(4.30265 * 0.1 * math.sqrt(4 / 3), rel=1e-4)
    assert not shift.excludes_no_change


def test_zero_has_no_ratio_and_only_pairs_that_all_have_are_compared() -> None:
    shift = shift_of([{0: 0.0, 1: 1.0, 2: 99.0}, {0: 1.0, 1: 1.0}, {1: 0.0, 0: 0.0}], [{0: 3.5, 1: 3.5, 7: 99.0}])
    assert not shift.logarithmic and shift.value == pytest.approx(3.0)
    assert shift.within(0.5, 100.0) and not shift.within(0.01, 100.0)


def test_runs_that_do_not_vary_leave_a_point() -> None:
    same, other = shift_of(runs([2.0]) * 3, runs([2.0])), shift_of(runs([2.0]) * 3, runs([3.0]))
    assert (same.low, same.high, same.p_value) == (1.0, 1.0, 1.0)
    assert other.low == other.high == pytest.approx(1.5) and other.p_value == 0.0


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 1), (3, 0), (0, 5)])
def test_fewer_than_three_runs_of_a_kind_are_refused(before: int, after: int) -> None:
    with pytest.raises(ValueError, match="spread between runs"):
        shift_of(runs([1.0]) * before, runs([1.0]) * after)


def test_runs_without_a_pair_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match="in common"):
        shift_of([{0: 1.0}] * 3, [{1: 1.0}])


def test_false_alarms_stay_at_five_percent_where_pairs_inside_runs_give_sixty() -> None:
    found = false_alarms(seed=1, between=0.03, within=0.02)
    low, high = found.interval
    assert low <= 0.05 <= high and found.share <= 0.06
    assert found.share_by_pairs > 0.5, "what an interval inside two runs would do"


def test_the_word_follows_the_interval_and_the_band() -> None:
    wide = shift_of(runs([0.9], [1.0], [1.1]), runs([1.05]))
    assert change_of(wide, "rate", 1.0) == "unclear"
    assert change_of(shift_of(runs([0.99], [1.0], [1.01]), runs([1.0])), "rate", 1.0) == "same"
    assert change_of(shift_of(runs([0.99], [1.0], [1.01]), runs([2.0])), "rate", 1.0) == "higher"
    assert exact_change([15, 15], [15, 15, 15]) == "same" and exact_change([15, 15], [15, 14]) == "lower"


# ---------------------------------------------------------------- which runs are A/A runs


def test_without_stored_runs_there_is_no_word_but_what_to_do(tmp_path: Path) -> None:
    a, b = a_run(tmp_path, "before", 1000.0), a_run(tmp_path, "after", 500.0, 0.99)
    found = compare_runs(a, b, [a, b])
    assert {row.change for row in found.rows} == {"not comparable"} and all(row.blocked for row in found.rows)
    note = row_of(found).note
    assert "2 more of one" in note and "bench.py run event_loop/example --seed 1" in note
    text = exports.table(found)
    assert text.count("spread between runs") == 1, "one reason for both rows of the gotcha"
    assert max(map(len, text.splitlines())) <= 100
    assert found.exit_code(()) == 0 and found.exit_code(("figure",)) == 2, "a gate that could not look is not green"


def test_a_figure_that_moved_beyond_the_spread_is_found(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    b = a_run(tmp_path, "after", 500.0, packages={"fastapi": "0.140.0"})
    found = compare_runs(stored[0], b, [*stored, b])
    row = row_of(found)
    assert row.change == "lower" and row.shift is not None and row.shift.runs == (4, 1)
    assert row.shift.value == pytest.approx(0.5, rel=0.05) and row.shift.low < 0.5 < row.shift.high
    assert row.adjusted_p is not None and row.adjusted_p < 0.05 and row.moved
    assert found.exit_code(("figure",)) == 1 and found.exit_code(()) == 0
    assert found.environment == ("package fastapi: 0.139.0 -> 0.140.0",) and found.fails(("environment",))


def test_a_run_within_the_spread_of_the_others_did_not_move(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    b = a_run(tmp_path, "after", 1000.0, 0.96)
    found = compare_runs(stored[0], b, [*stored, b])
    row = row_of(found)
    assert row.change in ("unclear", "same") and row.shift is not None
    assert row.shift.runs == (4, 1), "the second is itself an A/A run of the first, and is not counted among them"
    assert not found.fails(("figure", "verdict", "environment")) and found.exit_code(("figure",)) == 0


@pytest.mark.parametrize(
    "changed",
    [{"cores": 4}, {"cpu_model": "b"}, {"packages": {"fastapi": "1"}}, {"python": "CPython 3.13"}, {"services": {}}],
)
def test_runs_elsewhere_are_no_runs_of_the_same(tmp_path: Path, changed: dict[str, Any]) -> None:
    a, b = a_run(tmp_path, "before", 1000.0), a_run(tmp_path, "after", 500.0)
    others = stored_runs(tmp_path / "others", **changed)
    assert row_of(compare_runs(a, b, others)).change == "not comparable"


def test_the_commit_and_the_noise_of_the_moment_make_no_other_environment(tmp_path: Path) -> None:
    a, b = a_run(tmp_path, "before", 1000.0), a_run(tmp_path, "after", 500.0)
    others = stored_runs(tmp_path / "others", git_commit="abc", noise={"load1": 3.0})
    assert row_of(compare_runs(a, b, others)).change == "lower"


def test_runs_of_other_content_seeds_or_modes_are_no_runs_of_the_same(tmp_path: Path) -> None:
    a, b = a_run(tmp_path, "before", 1000.0), a_run(tmp_path, "after", 500.0)
    changed = replace(gotcha_plan(HARM, EQUAL, conditions=(BASE,)), content_hash="1")
    others = [a_run(tmp_path / "o", f"h{i}", 1000.0, state, gotcha=changed) for i, state in enumerate(STATES)]
    others += [a_run(tmp_path / "o", f"s{i}", 1000.0, state, seed=2) for i, state in enumerate(STATES)]
    others += [a_run(tmp_path / "o", f"m{i}", 1000.0, state, mode="full") for i, state in enumerate(STATES)]
    assert row_of(compare_runs(a, b, others)).change == "not comparable"


def test_a_damaged_or_unfinished_run_beside_them_is_passed_over(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    broken = new_run(tmp_path, "broken")
    (broken.path / "plan.json").write_text("{")
    empty = new_run(tmp_path, "interrupted")
    empty.write_plan(replace(stored[0].plan, run=empty.name))
    empty.write_environment(environment())
    b = a_run(tmp_path, "after", 500.0, packages={"fastapi": "0.140.0"})
    row = row_of(compare_runs(stored[0], b, [*stored, broken, empty]))
    assert row.shift is not None and row.shift.runs == (4, 1)


@pytest.mark.parametrize(
    ("changed", "seed", "mode", "why"),
    [
        ({"cpu_model": "another"}, 1, "quick", "another machine"),
        ({}, 2, "quick", "--seed 1"),
        ({}, 1, "full", "full run"),
    ],
)
def test_never_across_machines_seeds_or_modes(
    tmp_path: Path, changed: dict[str, Any], seed: int, mode: str, why: str
) -> None:
    gotcha = gotcha_plan(HARM, EQUAL, conditions=(BASE,))
    stored = [a_run(tmp_path, f"aa{i}", 1000.0, state, gotcha=gotcha) for i, state in enumerate(STATES)]
    b = a_run(tmp_path, "after", 500.0, seed=seed, mode=mode, gotcha=gotcha, **changed)
    found = compare_runs(stored[0], b, stored)
    assert row_of(found).change == "not comparable" and why in row_of(found).note
    assert found.exit_code(("figure",)) == 2


# ---------------------------------------------------------------- rows


def judged_count(values: Sequence[float], tolerance: float) -> ClaimVerdict:
    """A claim about a count with these values under one condition."""
    measured = Estimate(sum(values) / len(values), min(values), max(values), tuple(values))
    at = ConditionVerdict("10-users", 15.0, measured, "reproduced", "", len(values))
    return ClaimVerdict(
        "c",
        "harm",
        "a count",
        "naive.status_count[200]",
        "",
        "",
        "",
        "about",
        tolerance,
        "reproduced",
        "10-users",
        (at,),
        True,
    )


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "word"),
    [
        ((15.0,) * 3, (15.0,) * 3, 0.0, "same"), ((15.0,) * 3, (16.0,) * 3, 0.1, "higher"), ((15.0,) * 3, (15.0, 14.0, 15.0), 0.0, "lower"),
        ((37.0, 41.0, 35.0), (40.0, 38.0, 36.0), 0.5, "not comparable"), ((368.0,), (398.0,), 0.5, "not comparable"),
        ((15.0,), (16.0,), 0.0, "higher"),
    ],
)  # fmt: skip
def test_counts_and_laws_are_compared_exactly_but_a_count_that_varies_is_not(
    before: tuple[float, ...], after: tuple[float, ...], tolerance: float, word: str
) -> None:
    claim = judged_count(before, tolerance)
    told = _told(
        claim, runs(before, after), Kinds((), (), "another machine", ""), [runs(before), runs(after)], ("a", "b")
    )
    assert told.change == word


AT_LEAST = claim("naive.latency_p50_s", 0.1, "at_least")
"""Never is at least that: the verdict stays the same, the figure does not."""


def scripted_run(where: Path, name: str, *values: float, mode: str = "full", **changed: Any) -> RunFolder:
    gotcha = gotcha_plan(AT_LEAST, conditions=(BASE,))
    run = run_of(where / name, {"naive": values}, gotcha, pairs=len(values), mode=mode)
    run.write_environment(environment(**changed))
    return run


@pytest.mark.parametrize("after", [(NEVER,) * 3, (0.11, NEVER, 0.111)])
def test_a_figure_that_became_never_leaves_no_gate_green(tmp_path: Path, after: tuple[float, ...]) -> None:
    stored = [scripted_run(tmp_path, f"aa{i}", 0.11 * s, 0.112 * s, 0.111 * s) for i, s in enumerate(STATES)]
    b = scripted_run(tmp_path, "after", *after, packages={"fastapi": "0.140.0"})
    for found in (compare_runs(stored[0], b, stored), compare_runs(b, stored[0], stored)):
        (row,) = found.rows
        assert row.verdict_before == row.verdict_after == "reproduced"
        assert row.change == "not comparable" and "never answered" in row.note
        assert row.blocked and found.exit_code(("figure",)) == 2


def test_never_in_both_runs_is_the_same(tmp_path: Path) -> None:
    a, b = scripted_run(tmp_path, "a", NEVER, NEVER, NEVER), scripted_run(tmp_path, "b", NEVER, NEVER, NEVER)
    (row,) = compare_runs(a, b, []).rows
    assert row.change == "same" and not row.blocked and row.note == ""


@pytest.mark.parametrize(
    ("before", "after", "blocked"),
    [("invalid", "reproduced", True), ("reproduced", "inconclusive", True), ("inconclusive",) * 2 + (False,)],
)
def test_a_figure_that_a_gate_spoiled_or_one_run_alone_has_is_one_that_the_runs_cannot_tell(
    tmp_path: Path, before: VerdictName, after: VerdictName, blocked: bool
) -> None:
    runs_ = [StoredRun(scripted_run(tmp_path, name, 0.11, 0.112)) for name in ("a", "b")]
    measured = Estimate(0.1, 0.1, 0.1, (0.1, 0.1))
    at = [
        ConditionVerdict(BASE.key, 0.1, measured if word == "reproduced" else None, word, "why", 2)
        for word in (before, after)
    ]
    stated = runs_[0].judged("event_loop/example")
    assert stated is not None
    row = _row("event_loop/example", stated.claims[0], at[0], at[1], Kinds(runs_[:1], runs_[1:], "", ""), runs_)
    assert row.change == "not comparable" and row.blocked is blocked


def test_the_same_run_again_is_the_same(tmp_path: Path) -> None:
    a = a_run(tmp_path, "before", 1000.0)
    found = compare_runs(a, a, [a])
    assert {row.change for row in found.rows} == {"same"} and found.exit_code(("figure",)) == 0


def test_a_changed_load_is_not_compared(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    other = gotcha_plan(HARM, EQUAL, conditions=(replace(BASE, load=ClosedLoad(20)),))
    b = a_run(tmp_path, "after", 500.0, gotcha=replace(other, content_hash="1"))
    row = row_of(compare_runs(stored[0], b, stored))
    assert row.change == "not comparable" and "load" in row.note and not row.blocked


def test_a_run_without_trials_is_taken_as_it_was_judged(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    judge_again(stored[0])
    shutil.rmtree(stored[0].path / "trials")
    b = a_run(tmp_path, "after", 500.0, packages={"fastapi": "0.140.0"})
    row = row_of(compare_runs(stored[0], b, stored))
    assert row.before == pytest.approx(1000.0, rel=0.05) and row.change == "lower"


def test_one_row_in_twenty_does_not_close_a_gate_over_many(tmp_path: Path) -> None:
    row = Row("g", "c", "s", "k", "", 1.0, 2.0, None, "higher", "reproduced", "reproduced", adjusted_p=0.4)
    found = Difference("a", "b", (row,), (), ())
    assert not found.fails(("figure",)) and found.exit_code(("figure",)) == 0
    assert replace(found, rows=(replace(row, adjusted_p=None),)).fails(("figure",)), "an exact figure has no p value"


def test_a_verdict_that_got_worse_closes_its_gate(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path, 100.0)
    b = a_run(tmp_path, "after", 60.0, packages={"fastapi": "0.140.0"})
    found = compare_runs(stored[0], b, stored)
    assert row_of(found).worse and found.fails(("verdict",)) and not found.fails(())
    assert "reproduced -> not reproduced" in exports.table(found) or "reproduced -> smaller" in exports.table(found)


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    a = a_run(tmp_path, "before", 1000.0)
    other = replace(gotcha_plan(HARM, conditions=(BASE,)), slug="caching/other")
    with pytest.raises(UsageError, match="no claim"):
        compare_runs(a, a_run(tmp_path, "other", 1000.0, gotcha=other), [])


def test_exports_are_what_ci_servers_read(tmp_path: Path) -> None:
    stored = stored_runs(tmp_path)
    b = a_run(tmp_path, "after", 300.0, packages={"fastapi": "0.140.0"})
    found = compare_runs(stored[0], b, stored)
    hostile = replace(found, rows=tuple(replace(row, statement='<script>|"&') for row in found.rows))
    (suite,) = ElementTree.fromstring(exports.junit(hostile, ("figure",)))
    assert suite.get("tests") == str(len(found.rows)) and suite.get("failures") == "1"
    (failure,) = suite.iter("failure")
    assert "<script>" in (failure.get("message") or "") and "4 + 1 runs" in (failure.get("message") or "")
    text = exports.markdown(hostile, ("figure",))
    assert "&lt;script>\\|" in text and "**1 of 2 claims object**" in text
    assert document(found)["format_version"] == 2


def test_what_is_not_comparable_is_skipped_with_its_reason_in_junit_and_told_in_markdown(tmp_path: Path) -> None:
    a, b = a_run(tmp_path, "before", 1000.0), a_run(tmp_path, "after", 500.0, 0.99)
    found = compare_runs(a, b, [])
    (suite,) = ElementTree.fromstring(exports.junit(found, ()))
    assert suite.get("skipped") == "2" and all(
        "spread between runs" in (one.get("message") or "") for one in suite.iter("skipped")
    )
    assert "2 not comparable: the spread" in exports.markdown(found, ())


def test_three_runs_are_what_is_asked_for() -> None:
    assert NEEDED_RUNS == 3
