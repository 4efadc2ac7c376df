"""A keyset page at depth N reads its own rows where the condition is a range of the index, and N more where it is an OR.

The OR is no range, so the index is read from its end and the N rows before the page are removed by the filter: as many as OFFSET skips.
Without a tie-breaker the rest of a group of equal times is skipped at every page edge: of each group of g rows, pages of p < g show p.
Pages of p = g end where the groups end and lose nothing, which is why a test with one page size may not see it: the control.
"""

from datetime import UTC, datetime, timedelta

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Explained, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive

tempting = Arm("tempting")
with_sqlakeyset = Arm("with_sqlakeyset")

ROWS = 200_000  # dataset.sql
GROUP = 25  # rows of one time
PAGE_SIZE = 50
GROUPS_WALKED = 8
FIRST_PAGES = 40  # further reads of the first page, where a difference of a tenth is to be seen
DEPTHS = {"first": 0, "1k": 1_000, "10k": 10_000, "50k": 50_000, "100k": 100_000, "190k": 190_000}
RANGE_BLKS = 8  # a descent of three levels, a leaf or two, and the pages of 50 neighbouring rows


def page_at(depth: int) -> str:
    """The path of the page that begins after ``depth`` rows, whose last has the id ``ROWS - depth + 1``."""
    if not depth:
        return f"/events?page_size={PAGE_SIZE}"
    event_id = ROWS - depth + 1
    seen_at = datetime(2025, 1, 1, tzinfo=UTC) + (event_id - 1) // GROUP * timedelta(minutes=1)
    microseconds = (seen_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"/events?after={microseconds}.{event_id}&page_size={PAGE_SIZE}"


class DepthReader(LabUser):
    """Reads the same depths several times in a shuffled order."""

    def journey(self) -> None:
        self.get(page_at(max(DEPTHS.values())), name="warm-up")
        reads = [*DEPTHS.values()] * int(self.params["repeats"]) + [0] * FIRST_PAGES
        self.rng.shuffle(reads)
        for depth in reads:
            self.get(page_at(depth), name="page", level=depth)


class Walker(LabUser):
    """Follows ``next`` until the first groups are behind it and counts their rows that it saw."""

    def journey(self) -> None:
        last = ROWS - GROUPS_WALKED * GROUP
        path: str | None = f"/events?page_size={self.params['page_size']}"
        seen: set[int] = set()
        while path is not None and (not seen or min(seen) > last + 1):
            page = self.get(path, name="page").json()
            seen |= {item["id"] for item in page["items"]}
            path = page["next"]
        self.count("seen", sum(1 for event_id in seen if event_id > last))


class Steady(LabUser):
    """Reads on page by page: a page that failed is asked for again, and each must begin right below the row where the last one ended."""

    path: str = f"/events?page_size={PAGE_SIZE}"
    below = ROWS + 1

    @task
    def read_on(self) -> None:
        reply = self.get(self.path, name="page")
        if reply.status != 200:
            return
        page = reply.json()
        ids = [item["id"] for item in page["items"]]
        self.count("gaps", ids != list(range(self.below - 1, self.below - 1 - PAGE_SIZE, -1)))
        self.path, self.below = page["next"], ids[-1]


def walk(page_size: int, *, quick: bool = True) -> Condition:
    """A walk over groups of equal times in pages of ``page_size``; pages as large as a group are the control."""
    return Condition(
        f"ties of {GROUP}, pages of {page_size}",
        Journey(),
        user="Walker",
        params={"page_size": page_size},
        quick=quick,
        quick_pairs=1,
        control=page_size == GROUP,
    )


def deep(condition: Condition, value: float) -> float | None:
    """``value`` where the depths are read."""
    return value if "repeats" in condition.params else None


def walked(condition: Condition, value: float) -> float | None:
    """``value`` where the ties are walked."""
    return None if "repeats" in condition.params else value


SCENARIO = Scenario(
    title="Slow keyset (cursor) pagination: an OR condition scans like OFFSET",
    claim=(
        "Keyset pagination with `a < x OR (a = x AND id < y)` reads 100,050 rows for a page of 50 at depth 100,000, "
        "like OFFSET; with `(a, id) < (x, y)` it reads 50"
    ),
    parts=(9, 3),
    catalogue_ids=("pg-keyset-or-form", "pg-keyset-constant", "pg-keyset-tie"),
    before_after=BeforeAfter(
        each.latency_at_level_s(190_000),
        "for the page at row 190,000",
        "depth",
        "A client asks for one page of 50 rows, deep in the list, by a keyset cursor.",
    ),
    labels={
        "naive": "OR condition",
        "correct": "row value comparison",
        "tempting": "time alone",
        "with_sqlakeyset": "sqlakeyset, with asyncpg",
    },
    symptoms=(
        "cursor pagination slow",
        "keyset pagination slow",
        "seek method",
        "Rows Removed by Filter",
        "ROW comparison",
        "tuple_ SQLAlchemy",
        "sqlakeyset",
        "O(log n)",
        "rows missing between pages",
        "duplicate created_at",
        "deep page slow",
    ),
    services=("postgres",),
    queries={"page": "SELECT %FROM events%"},
    conditions=(
        Condition(
            "depth",
            Journey(),
            user="DepthReader",
            params={"repeats": 9},
            variants=("naive", "correct", "with_sqlakeyset"),
            duet=True,
        ),
        walk(10),
        walk(24, quick=False),
        walk(GROUP),
    ),
    probes=(Probe(f"/events?page_size={PAGE_SIZE}"),),
    explained=tuple(
        Explained(name, {variant: page_at(depth) for variant in ("naive", "correct", "with_sqlakeyset")}, depth)
        for name, depth in DEPTHS.items()
    ),
    claims=(
        Claim(
            "or_rows",
            "harm",
            "the OR at depth 100,000 reads 100,050 rows for 50",
            naive.plan_rows_visited("100k"),
            predict=lambda c: deep(c, 100_000 + PAGE_SIZE),
            tolerance=0.0,
            null=PAGE_SIZE,
            formula="N + limit",
            source=(
                "PostgreSQL applies the OR as a filter (camunda/camunda issue 56138: 250,001 rows removed at offset "
                "250,000)"
            ),
        ),
        Claim(
            "or_slower",
            "harm",
            "the page at depth 190,000 takes at least five times as long as with a row value",
            naive.latency_at_level_s(190_000) / correct.latency_at_level_s(190_000),
            relation="at_least",
            predict=lambda c: deep(c, 5.0),
            null=1.0,
            formula="(a + b N) / a, at least 5",
            source="measured here: b is 0.05 us an index entry or more, a a round trip of 1 to 2 ms",
        ),
        Claim(
            "or_straight",
            "mechanism",
            "what the OR reads grows in a straight line with the depth",
            naive.fit_slope("plan_rows_visited"),
            predict=lambda c: deep(c, 1.0),
            tolerance=0.001,
            formula="one row more for each row before the page",
            source="N + limit",
        ),
        Claim(
            "first_page",
            "mechanism",
            "the first page reads its own rows: the index is there and used",
            naive.plan_rows_visited("first"),
            predict=lambda c: deep(c, PAGE_SIZE),
            tolerance=0.0,
            formula="limit",
            source="ORDER BY follows the index",
        ),
        Claim(
            "range_rows",
            "fix",
            "a row value reads 50 rows at any depth",
            correct.plan_rows_visited("190k"),
            predict=lambda c: deep(c, PAGE_SIZE),
            tolerance=0.0,
            formula="limit",
            source="one range of the index (PostgreSQL, Row Constructor Comparison; M. Winand, No Offset)",
        ),
        Claim(
            "range_blks",
            "fix",
            "and at most 8 blocks",
            correct.plan_blks("190k"),
            relation="at_most",
            predict=lambda c: deep(c, RANGE_BLKS),
            tolerance=0.0,
            formula="3 levels, 2 leaves, 3 heap pages",
            source="a B-tree of 200,000 entries has three levels; 50 neighbouring rows lie on one or two pages",
        ),
        Claim(
            "sqlakeyset_rows",
            "fix",
            "sqlakeyset reads one group of equal times more, at any depth",
            with_sqlakeyset.plan_rows_visited("190k"),
            predict=lambda c: deep(c, GROUP + PAGE_SIZE + 1),
            tolerance=0.0,
            formula="group + limit + 1",
            source=(
                "sqlakeyset/paging.py, compare_tuples: a <= x AND (a < x OR id < y); one row more tells whether "
                "there is a next page"
            ),
        ),
        Claim(
            "sqlakeyset_complete",
            "fix",
            "and shows every row",
            with_sqlakeyset.observed("seen"),
            predict=lambda c: walked(c, GROUPS_WALKED * GROUP),
            tolerance=0.0,
            formula="groups x g",
            source="it is the same set of rows",
            headline="ties of 25, pages of 10",
        ),
        Claim(
            "tie_loses",
            "harm",
            "without the id, pages of 10 show 10 of each 25 rows with the same time",
            tempting.observed("seen"),
            predict=lambda c: GROUPS_WALKED * c.number("page_size") if "page_size" in c.params else None,
            tolerance=0.0,
            null=GROUPS_WALKED * GROUP,
            headline="ties of 25, pages of 10",
            formula="groups x p for p up to g",
            source="'earlier than' leaves out the rest of the group",
        ),
        Claim(
            "or_complete",
            "mechanism",
            "the OR is slow, not wrong",
            naive.observed("seen"),
            predict=lambda c: walked(c, GROUPS_WALKED * GROUP),
            tolerance=0.0,
            formula="groups x g",
            source="it is the same set of rows",
            headline="ties of 25, pages of 10",
        ),
        Claim(
            "range_complete",
            "fix",
            "the row value shows every row",
            correct.observed("seen"),
            predict=lambda c: walked(c, GROUPS_WALKED * GROUP),
            tolerance=0.0,
            formula="groups x g",
            source="(time, id) is unique",
            headline="ties of 25, pages of 10",
        ),
        Claim(
            "tax",
            "tax",
            "the first page takes no longer",
            correct.latency_at_level_s(0) / naive.latency_at_level_s(0),
            relation="at_most",
            predict=lambda c: deep(c, 1.0),
            tolerance=0.2,
            null=1.0,
            formula="1",
            source="it is the same statement",
        ),
    ),
    charts=(
        Chart(
            "scaling",
            each.plan_rows_visited,
            "An OR reads {or_rows:,.0f} rows for a page at depth 100,000; a row value reads {range_rows:.0f}",
            x="level",
            x_label="rows before the page",
            y_label="rows read for a page of 50",
            conditions=("depth",),
            theory=("or_rows", "range_rows"),
        ),
        Chart(
            "sweep",
            each.latency_at_level_s,
            "With OR the time grows with the depth; with a row value it is constant",
            x="level",
            x_label="rows before the page",
            y_label="median time of a page, s",
            conditions=("depth",),
        ),
        Chart(
            "counts",
            each.observed("seen"),
            "Without the id a reader sees {tie_loses:.0f} of {range_complete:.0f} rows",
            y_label="rows seen",
            conditions=("ties of 25, pages of 10", "ties of 25, pages of 25"),
            theory=("tie_loses", "or_complete", "range_complete"),
        ),
    ),
    answer=(
        "At depth 100,000 the OR reads {or_rows:,.0f} rows for a page of 50, exactly what OFFSET reads; the row "
        "value reads {range_rows:.0f}. With the time alone a reader sees {tie_loses:.0f} of {range_complete:.0f} "
        "rows."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, ledger={"gaps": each.observed("gaps")}),
    disagrees_with_source=(
        "Part 9 calls cursor pagination O(log n). That is true of one way to write it: the OR that many tutorials "
        "and libraries emit is O(n), and the shortcut without the id is fast and loses rows."
    ),
)
