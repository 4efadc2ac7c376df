"""What auto_explain wrote, as rows visited and returned: each row once, however many nodes hand it on."""

import json
from typing import Any

import pytest

from lab.services.plans import parse_plans


def logged(plan: dict[str, Any], query: str = "SELECT 1") -> str:
    """An entry of auto_explain as PostgreSQL writes it: JSON with a tab before each line."""
    text = json.dumps({"Query Text": query, "Plan": plan}, indent=2)
    return "2026-01-01 LOG:  duration: 1.234 ms  plan:\n" + "\n".join(f"\t{line}" for line in text.splitlines()) + "\n"


def node(kind: str, rows: float, *plans: dict[str, Any], loops: int = 1, removed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"Node Type": kind, "Actual Rows": rows, "Actual Loops": loops}
    if removed:
        found["Rows Removed by Filter"] = removed
    return {**found, "Plans": list(plans)} if plans else found


@pytest.mark.parametrize(("plan", "visited"), [
    (node("Seq Scan", 20.0, removed=80), 100),
    (node("Aggregate", 1.0, node("Index Only Scan", 20_000.0)), 20_000),
    # The index scan below only says where the rows are.
    (node("Aggregate", 1.0, node("Bitmap Heap Scan", 500.0, node("Bitmap Index Scan", 500.0))), 500),
    (node("Nested Loop", 30.0, node("Seq Scan", 10.0), node("Index Scan", 3.0, loops=10)), 40),
    (node("Gather", 90.0, node("Parallel Seq Scan", 30.0, loops=3)), 90),
    (node("Result", 1.0), 0),
])  # fmt: skip
def test_rows_are_visited_where_a_table_is_scanned(plan: dict[str, Any], visited: int) -> None:
    (seen,) = parse_plans(f"before\n{logged(plan)}after\n")
    assert seen.rows_visited == visited and seen.rows_returned == round(plan["Actual Rows"])


def test_every_statement_of_a_stretch_is_a_plan() -> None:
    log = (
        logged(node("Seq Scan", 1.0), "SELECT  a\nFROM b")
        + "LOG:  something else\n"
        + logged(node("Result", 1.0), "COMMIT")
    )
    assert [(one.query, one.nodes) for one in parse_plans(log)] == [
        ("SELECT a FROM b", ("Seq Scan",)),
        ("COMMIT", ("Result",)),
    ]
