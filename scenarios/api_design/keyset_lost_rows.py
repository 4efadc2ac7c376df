"""A keyset walk over a nullable column loses every NULL; one whose cursor is cut to milliseconds loses the rest of a millisecond at each page edge.

A comparison with NULL is not true, so all 500 tasks without a time are lost.  Eight tasks share each millisecond, each with other microseconds:
pages of 900 end in the middle of eight, and the next page begins with the millisecond before.  Pages of 1,000 end where a millisecond ends and
lose none of them, which is why a test with one page size may not see it: the control, for what has a time.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Explained, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import having, in_control

tempting = Arm("tempting")

DATED = 50_000  # dataset.sql
UNDATED = 500
GROUP = 8  # tasks of one millisecond
PAGES = (900, 990)
EVEN = 1_000
STEADY_PAGE = 50
WALK = "a walk in pages of 900"


class Walker(LabUser):
    """Follows ``next`` to the end and counts what it has seen."""

    def journey(self) -> None:
        path: str | None = f"/tasks?page_size={self.params['page_size']}"
        dated: set[int] = set()
        undated: set[int] = set()
        rows = 0
        while path is not None:
            page = self.get(path, name="page").json()
            for item in page["items"]:
                (undated if item["due_at"] is None else dated).add(item["id"])
            rows += len(page["items"])
            path = page["next"]
        self.count("dated_lost", DATED - len(dated))
        self.count("undated_lost", UNDATED - len(undated))
        self.count("lost", DATED + UNDATED - len(dated) - len(undated))
        self.count("repeated", rows - len(dated) - len(undated))


class Steady(LabUser):
    """Reads on page by page: a page that failed is asked for again, and each must begin right below the row where the last one ended."""

    path: str = f"/tasks?page_size={STEADY_PAGE}"
    below = DATED + 1

    @task
    def read_on(self) -> None:
        reply = self.get(self.path, name="page")
        if reply.status != 200:
            return
        page = reply.json()
        ids = [item["id"] for item in page["items"] if item["due_at"]]
        self.count("gaps", ids != list(range(self.below - 1, max(self.below - 1 - STEADY_PAGE, 0), -1)))
        self.below = ids[-1] if ids else 0
        self.path = page["next"]
        if self.below <= 1:
            self.path, self.below = Steady.path, Steady.below


def walk(page_size: int, *, control: bool = False) -> Condition:
    """A walk in pages of that size."""
    return Condition(
        f"a walk in pages of {page_size}",
        Journey(),
        user="Walker",
        params={"page_size": page_size},
        control=control,
        quick_pairs=1,
    )


def cut_off(condition: Condition) -> float:
    """How many tasks a cursor in milliseconds loses: at each page edge the rest of the millisecond in which it stands."""
    page, begin, seen = int(condition.number("page_size")), 0, 0
    while begin < DATED:
        end = min(begin + page, DATED)
        seen += end - begin
        begin = -(-end // GROUP) * GROUP
    return float(DATED - seen)


SCENARIO = Scenario(
    title="Cursor pagination skips rows: NULLs, and timestamps cut to milliseconds",
    claim=(
        "A walk over 50,500 tasks never shows the 500 without a time, and a cursor in milliseconds skips 4 of 900 at each page "
        "edge; with COALESCE and all digits it shows every task once"
    ),
    parts=(9,),
    catalogue_ids=("pg-keyset-null", "pg-cursor-precision"),
    before_after=BeforeAfter(
        each.observed("lost"),
        "tasks of 50,500 on no page",
        WALK,
        "A client follows next from the first page to the last.",
    ),
    labels={
        "naive": "NULLS LAST, (due_at, id) <",
        "correct": "COALESCE, microseconds",
        "tempting": "COALESCE, milliseconds",
    },
    symptoms=(
        "cursor pagination skips rows",
        "missing rows between pages",
        "keyset pagination NULL",
        "NULLS LAST",
        "rows with NULL missing",
        "timestamp precision",
        "milliseconds microseconds",
        "JavaScript Date toISOString",
        "export incomplete",
        "sync misses records",
        "isoformat timespec",
    ),
    services=("postgres",),
    conditions=(*(walk(size) for size in PAGES), walk(EVEN, control=True)),
    explained=(
        Explained(
            "deep",
            dict.fromkeys(("naive", "correct", "tempting"), f"/tasks?after=1767225603000150.{24001}&page_size=50"),
            level=float(DATED // 2),
        ),
    ),
    probes=(
        Probe(
            "/tasks?page_size=1",
            body={
                "items": [{"id": 50000, "due_at": "2026-01-01T00:00:06.249750Z"}],
                "next": "/tasks?after=1767225606249750.50000&page_size=1",
            },
            ignore=("next",),
        ),
        Probe("/tasks?after=yesterday", status=422),
    ),
    claims=(
        Claim(
            "undated",
            "harm",
            "no task without a time is on any page",
            naive.observed("undated_lost"),
            predict=having("page_size", value=float(UNDATED)),
            tolerance=0.0,
            null=0.0,
            formula="all 500",
            source="PostgreSQL documentation, Row Constructor Comparison: a comparison with NULL is NULL, which WHERE drops",
            headline=WALK,
        ),
        Claim(
            "cut",
            "harm",
            "a cursor in milliseconds skips the rest of a millisecond at each page edge",
            tempting.observed("dated_lost"),
            predict=having("page_size", value=cut_off),
            tolerance=0.0,
            null=0.0,
            formula="at each edge the tasks up to the next multiple of 8: 4 for pages of 900, 2 for pages of 990",
            source="PostgreSQL documentation, Date/Time Types: microseconds are compared",
            headline=WALK,
        ),
        Claim(
            "dated",
            "mechanism",
            "it is the NULLs alone: with all digits in the cursor every task that has a time is there",
            naive.observed("dated_lost"),
            predict=having("page_size", value=0.0),
            tolerance=0.0,
            null=UNDATED,
            formula="0",
            source="(due_at, id) is a total order of the tasks that have a time",
            headline=WALK,
        ),
        Claim(
            "even",
            "mechanism",
            "pages that end where a millisecond ends lose nothing",
            tempting.observed("dated_lost"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0, as 1,000 = 125 x 8",
            source="nothing of the last millisecond is left",
        ),
        Claim(
            "all_there",
            "fix",
            "with a place for each NULL and all digits no task is lost",
            correct.observed("lost"),
            predict=having("page_size", value=0.0),
            tolerance=0.0,
            null=UNDATED,
            formula="0",
            source="(COALESCE(due_at, '-infinity'), id) is a total order",
            headline=WALK,
        ),
        Claim(
            "once",
            "fix",
            "and none is shown twice",
            correct.observed("repeated"),
            predict=having("page_size", value=0.0),
            tolerance=0.0,
            formula="0",
            source="each page is strictly below the last row of the one before",
            headline=WALK,
        ),
        Claim(
            "range",
            "tax",
            "the index on the expression reads no row more than the page",
            correct.plan_rows_visited("deep"),
            predict=having("page_size", value=50.0),
            tolerance=0.05,
            formula="p = 50",
            source="PostgreSQL documentation, Indexes on Expressions",
            headline=WALK,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("lost"),
            "{undated:.0f} tasks without a time are on no page, {cut:.0f} are skipped by a cursor in milliseconds; with both mended {all_there:.0f}",
            y_label="tasks on no page",
            conditions=(WALK, "a walk in pages of 990", "a walk in pages of 1000"),
            theory=("undated", "cut", "all_there"),
        ),
        Chart(
            "counts",
            each.observed("dated_lost"),
            "Pages of 1,000 hide it: with pages of 900 a cursor in milliseconds skips {cut:.0f} tasks",
            y_label="tasks with a time on no page",
            conditions=(WALK, "a walk in pages of 990", "a walk in pages of 1000"),
            theory=("cut", "dated", "even"),
        ),
    ),
    answer=(
        "A walk over 50,500 tasks shows none of the {undated:.0f} without a time (predicted {undated.predicted:.0f}), and a "
        "cursor in milliseconds skips {cut:.0f} at page edges. With COALESCE and all digits {all_there:.0f} are lost."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"lost": each.observed("gaps")},
    ),
)
