"""What a fix costs, in words: a count says what it counts."""

import math

import pytest

from analysis.model import ClaimVerdict, ConditionVerdict, Estimate, GotchaVerdict
from analysis.report.costs import cost


def told(metric: str, statement: str, *values: float, unit: str = "") -> str:
    """The cost of a gotcha with one such claim."""
    at = ConditionVerdict("one", values[0], Estimate(values[0], None, None, values), "reproduced", "", len(values))
    claim = ClaimVerdict("c", "tax", statement, metric, unit, "", "", "about", 0.0, "reproduced", "one", (at,), indicative=False)
    return cost(GotchaVerdict("a/b", "", "reproduced", "", {}, (claim,), (), (), {}))


@pytest.mark.parametrize(
    ("metric", "statement", "value", "text"),
    [
        ("correct.sql_calls[version]", "and each request is a query more", 50.0, "Each request is a query more: 50 statements."),
        ("correct.redis_calls[get]", "a request is one command", 1.0, "A request is one command: 1 command."),
        ("correct.observed[refused]", "but some are refused", 7.0, "Some are refused: 7."),
        ("correct.sql_calls / naive.sql_calls", "it asks more", 2.0, "It asks more: 2×."),
        ("correct.sql_calls[version]", "it asks", math.inf, "It asks: never."),
    ],
)  # fmt: skip
def test_a_count_says_what_it_counts(metric: str, statement: str, value: float, text: str) -> None:
    assert told(metric, statement, value, unit="x" if "/" in metric else "") == text
