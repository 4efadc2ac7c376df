"""The finding in one line: naive -> fixed, the factor, and how the checks stand."""

import math
from dataclasses import replace

import pytest

from analysis import summary
from analysis.model import Estimate, Seen, VerdictName
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
