"""The finding in one line: naive -> fixed, the factor, and how the checks stand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import summary
from analysis.judge import judge_run
from analysis.model import Estimate, Seen, VerdictName
from lab.model import BeforeAfter
from lab.run.plan import make_plan
from lab.run.runner import run_trials
from lab.store import RunFolder
from lab.words.record import TrialRecord
from tests.fakes import FakeExecutor, gotcha_plan
from tests.sample_run import pages_plan, verdict_of

SEEN = Seen("requests per second", "requests/s", "Ten users.", "users", 9.81, 94.0, None, "awaited")


def test_a_rate_has_its_unit_in_words_a_time_beside_the_number() -> None:
    assert summary.line(SEEN) == "9.81 -> 94 requests per second"
    assert (
        summary.line(replace(SEEN, unit="s", naive=0.044, fixed=0.00014, words="for each request"))
        == "44 ms -> 140 µs for each request"
    )
    assert summary.line(replace(SEEN, naive=math.inf)) == "never -> 94 requests per second"
    assert summary.line(replace(SEEN, naive=None, reason="gate G9")) == "not measured (gate G9)"
    assert (
        summary.line(replace(SEEN, unit="per burst", naive=50.0, fixed=1.0, words="queries for one expiry"))
        == "50 -> 1 queries for one expiry"
    )
    assert summary.line(None) == ""


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("A JWT still works after logout", "A JWT still works after logout"),
        ("Too many connections: pool_size is per process", "Too many connections"),
        ("Cache stampede (thundering herd): one expiry, N queries", "Cache stampede (thundering herd)"),
        ("CPU work blocks the event loop for seconds on end (password hashing)", "CPU work blocks the event loop for seconds …"),
        ("CPU work blocks the event loop for seconds (password hashing)", "CPU work blocks the event loop for seconds"),
    ],
)  # fmt: skip
def test_a_short_title_ends_where_the_finding_begins(title: str, short: str) -> None:
    assert summary.short_title(title, 46) == short


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, (value,))


def test_the_factor_is_above_1_whichever_way_it_goes_and_missing_where_it_may_be_none() -> None:
    assert summary.factor(replace(SEEN, factor=estimate(0.104, 0.1, 0.1111))) == "9.62x (9 to 10)"
    assert summary.factor(replace(SEEN, factor=estimate(9.6, 9.5, 9.7))) == "9.6x (9.5 to 9.7)"
    assert summary.factor(replace(SEEN, factor=estimate(1.1, 0.9, 1.3))) == ""
    assert summary.factor(SEEN) == ""


@pytest.mark.parametrize(
    ("word", "tone", "said"),
    [
        ("reproduced", "good", "affects naive"),
        ("not_reproduced", "bad", "does not affect naive"),
        ("invalid", "open", "not tested"),
    ],
)
def test_a_check_that_was_not_tested_is_never_red(word: VerdictName, tone: str, said: str) -> None:
    verdict = verdict_of(pages_plan(), word)
    claims = tuple(replace(one, verdict=word) for one in verdict.claims)
    judged = replace(verdict, claims=claims)
    assert summary.affects(judged) == said
    assert summary.tone(judged) == tone
    standing = summary.standing_of(claims)
    assert standing.total == len(claims)
    assert ("not tested" in standing.text) == (word == "invalid")


def test_a_run_of_faults_alone_says_under_how_many_the_fix_held() -> None:
    verdict = verdict_of(pages_plan(), "reproduced")
    holds = tuple(replace(one, kind="hold") for one in verdict.claims)
    faults = len({row.condition for one in holds for row in one.conditions})
    judged = replace(verdict, claims=holds, seen=None)
    assert summary.held(judged) == f"the fix held under {faults} of {faults} faults"
    assert summary.tone(judged) == "good"
    assert summary.badge(judged).startswith(f"The fix held under {faults} of {faults} faults · ")
    first = holds[0].conditions[0]
    broken = replace(
        holds[0], verdict="smaller", conditions=(replace(first, verdict="smaller"), *holds[0].conditions[1:])
    )
    spoiled = replace(judged, claims=(broken, *holds[1:]))
    assert summary.held(spoiled) == f"the fix held under {faults - 1} of {faults} faults"
    assert summary.tone(spoiled) == "bad"
    assert not summary.faults_only(verdict)
    assert not summary.faults_only(replace(verdict, claims=()))


# ---------------------------------------------------------------- what may be quoted


def line_of(tmp_path: Path, change: Callable[[TrialRecord], TrialRecord] = lambda record: record) -> Seen:
    """The line of a run of three pairs from a formula: naive 20/s, correct 100/s; ``change`` is done to every record."""
    said = BeforeAfter("throughput_rps", "answers per second", "users=10", "Ten users.")
    base = replace(gotcha_plan(), before_after=said, labels={"correct": "awaited"})
    plan = make_plan("run", "now", [base], "quick", 1)
    run = RunFolder(tmp_path)
    run.write_plan(plan)

    class Changed(FakeExecutor):
        def perform(self, *arguments: Any) -> TrialRecord:
            return change(super().perform(*arguments))

    run_trials(
        plan, run, Changed({"naive": 20.0, "correct": 100.0}, {"naive": 0.05, "correct": 0.05}), lambda seen: None
    )
    (verdict,) = judge_run(run).gotchas
    assert verdict.seen is not None
    return verdict.seen


def test_the_line_has_both_numbers_and_the_factor_over_the_pairs(tmp_path: Path) -> None:
    seen = line_of(tmp_path)
    assert (seen.naive, seen.fixed, seen.fixed_label, seen.reason) == (20.0, 100.0, "awaited", "")
    assert seen.factor is not None and seen.factor.value == pytest.approx(0.2)
    assert summary.line(seen) == "20 -> 100 answers per second"


def test_a_pair_that_crashed_is_not_left_out_of_the_line(tmp_path: Path) -> None:
    def crashed(record: TrialRecord) -> TrialRecord:
        if (record.variant, record.pair) != ("correct", 1):
            return record
        return replace(record, status="failed", reason="the server died")

    seen = line_of(tmp_path, crashed)
    assert (seen.naive, seen.fixed) == (None, None) and "pair 2: correct: the server died" in seen.reason


def test_numbers_that_a_gate_spoiled_are_quoted_nowhere(tmp_path: Path) -> None:
    def one_row_short(record: TrialRecord) -> TrialRecord:
        assert record.generator is not None
        return replace(record, generator=replace(record.generator, rows=(record.generator.rows or 0) + 1))

    seen = line_of(tmp_path, one_row_short)
    assert (seen.naive, seen.fixed, seen.factor) == (None, None, None)
    assert seen.reason.startswith("gate G10 failed")
    assert summary.line(seen).startswith("not measured (gate G10 failed")
