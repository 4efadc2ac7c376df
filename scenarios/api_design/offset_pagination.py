"""A page at offset N reads N + limit rows (PostgreSQL: skipped rows are still computed), so time is a + b N without a knee; a keyset reads limit.

Between two pages K rows inserted at the head repeat K rows, and K deleted rows that were already read lose K; a keyset repeats and loses none.
The truth of a walk is the rows that were there from its beginning to its end.
"""

import base64
import struct
from datetime import UTC, datetime, timedelta

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Explained, FinalRead, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import having

MAX_PAGE_SIZE = 100  # MAX_PAGE_SIZE in both targets
PAGE_SIZE = 50
ROWS = 1_000_000  # dataset.sql
DEPTHS = {"first": 0, "1k": 1_000, "10k": 10_000, "50k": 50_000, "100k": 100_000, "500k": 500_000, "900k": 900_000}
WALKED = 300  # the newest rows, six pages of them, are the truth of a walk
FIRST_PAGES = 40  # further reads of the first page, where a difference of some tenths is to be seen
LAST_PAGES = 14  # further reads of the deepest, for its ratio to the first
GAPS = 5  # rows come or go after each of the first five pages
SORTED_ROW_B = (
    34  # a row in a run on disk: 24 B of columns, 6 B of header and padding, a length of 4 B (tuplesort.c, heap tuples)
)
NO_INDEX = "DROP INDEX orders_by_time; ALTER TABLE orders SET (parallel_workers = 0)"  # one process, so that rows are counted whole


def cursor(depth: int) -> str:
    """The keyset cursor of the row before ``depth``, as the correct target makes it from the rows of dataset.sql."""
    order_id = ROWS - depth + 1
    created_at = datetime(2025, 1, 1, tzinfo=UTC) + order_id // 2 * timedelta(seconds=40)
    microseconds = (created_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(struct.pack(">qq", microseconds, order_id)).decode().rstrip("=")


def page_at(variant: str, depth: int) -> str:
    """The path of the page that begins after ``depth`` rows."""
    if variant == "naive":
        return f"/orders?page={depth // PAGE_SIZE + 1}&page_size={PAGE_SIZE}"
    return f"/orders?after={cursor(depth)}&page_size={PAGE_SIZE}" if depth else f"/orders?page_size={PAGE_SIZE}"


class DepthReader(LabUser):
    """Reads the same depths several times in a shuffled order; a page that does not begin with the right order is counted."""

    def journey(self) -> None:
        self.get(page_at(self.variant, max(DEPTHS.values())), name="warm-up")
        reads = [*DEPTHS.values()] * int(self.params["repeats"]) + [0] * int(self.params["first_pages"])
        reads += [max(DEPTHS.values())] * int(self.params["last_pages"])
        self.rng.shuffle(reads)
        self.count("wrong_pages", 0)
        for depth in reads:
            reply = self.get(page_at(self.variant, depth), name="page", level=depth)
            if reply.status != 200 or reply.json()["items"][0]["id"] != ROWS - depth:
                self.count("wrong_pages")


class PageWalker(LabUser):
    """Follows ``next`` over the newest rows while orders come or go between the pages."""

    def journey(self) -> None:
        path, pages = f"/orders?page_size={PAGE_SIZE}", 0
        seen: list[int] = []
        gone: set[int] = set()
        while path and (not seen or min(seen) > ROWS - WALKED + 1):
            page = self.get(path, name="page").json()
            ids = [item["id"] for item in page["items"]]
            seen += ids
            path, pages = page["next"], pages + 1
            if pages <= GAPS:
                gone |= self.change(ids)
        truth = set(range(ROWS - WALKED + 1, ROWS + 1)) - gone
        self.count("duplicates", len(seen) - len(set(seen)))
        self.count("losses", len(truth - set(seen)))

    def change(self, read: list[int]) -> set[int]:
        """Insert orders at the head and delete some of those just read; returns what is gone."""
        for _ in range(int(self.params["inserts"])):
            self.post("/orders", name="insert", json={"customer_id": 1, "total_cents": 100})
        deleted = self.rng.sample(read, int(self.params["deletes"]))
        for order_id in deleted:
            self.delete(f"/orders/{order_id}", name="delete")
        return set(deleted)


class Steady(LabUser):
    """Reads on page by page: a page that failed is asked for again, and each must begin right below the order where the last one ended."""

    path: str = f"/orders?page_size={PAGE_SIZE}"
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


def depths(label: str, *, index: bool, repeats: int, quick_pairs: int | None = None) -> Condition:
    """One user who reads at every depth."""
    return Condition(
        label,
        Journey(),
        user="DepthReader",
        setup_sql="" if index else NO_INDEX,
        quick_pairs=quick_pairs,
        params={
            "index": index,
            "repeats": repeats,
            "first_pages": FIRST_PAGES if index else 0,
            "last_pages": LAST_PAGES if index else 0,
        },
        env={"STATEMENT_S": "60"},
        duet=index,
    )


def walk(label: str, *, inserts: int = 0, deletes: int = 0, quick: bool = True) -> Condition:
    """One user who walks while ``inserts`` and ``deletes`` happen after each of the first pages."""
    return Condition(
        label,
        Journey(),
        user="PageWalker",
        params={"inserts": inserts, "deletes": deletes},
        quick=quick,
        quick_pairs=1,
        control=not (inserts or deletes),
    )


def rows(condition: Condition, with_index: int) -> float | None:
    """Rows visited: ``with_index``, or the whole table without the index; nothing is said of the walks."""
    if "index" not in condition.params:
        return None
    return with_index if condition.params["index"] else ROWS


def indexed(condition: Condition, value: float) -> float | None:
    """``value`` where the depths are read with the index."""
    return value if condition.params.get("index") else None


def drift(condition: Condition, what: str) -> float | None:
    """How many rows come or go (``inserts`` or ``deletes``) during a walk."""
    return GAPS * condition.number(what) if what in condition.params else None


ROWS_LAW = "PostgreSQL documentation, LIMIT and OFFSET: rows skipped by OFFSET still have to be computed"

SCENARIO = Scenario(
    title="OFFSET pagination: slow deep pages, duplicate and missing rows",
    claim=(
        "`OFFSET 100000 LIMIT 50` reads 100,050 rows, a keyset 50; 35 inserts while you page show 35 orders twice, "
        "35 deletes hide 35"
    ),
    parts=(3, 9),
    catalogue_ids=(
        "pg-offset-rows",
        "pg-offset-100k",
        "pg-missing-index-blamed-on-offset",
        "pg-insert-drift",
        "pg-delete-drift",
        "pg-keyset-constant",
        "fk-offset-skips-on-insert",
        "fk-offset-knee",
    ),
    before_after=BeforeAfter(
        each.latency_at_level_s(900_000),
        "for the page at row 900,000",
        "depth with index",
        "A client asks for one page of 50 rows, deep in a list of a million.",
    ),
    labels={"naive": "LIMIT and OFFSET", "correct": "keyset cursor"},
    symptoms=(
        "OFFSET slow",
        "deep pagination",
        "last page slow",
        "duplicate rows between pages",
        "missing rows in export",
        "skip limit",
        "page number",
        "external merge  Disk",
        "fastapi-pagination",
        "ORDER BY created_at slow",
    ),
    services=("postgres",),
    constants={"MAX_PAGE_SIZE": MAX_PAGE_SIZE},
    queries={"page": "SELECT %FROM orders%ORDER BY%"},
    contract_differs="a keyset page is named by a cursor, a page by OFFSET by its number",
    conditions=(
        depths("depth with index", index=True, repeats=7),
        depths("depth without index", index=False, repeats=1, quick_pairs=1),
        walk("nothing moves"),
        walk("1 insert a page", inserts=1, quick=False),
        walk("7 inserts a page", inserts=7),
        walk("1 delete a page", deletes=1, quick=False),
        walk("7 deletes a page", deletes=7),
        walk("7 of each a page", inserts=7, deletes=7, quick=False),
    ),
    probes=(
        Probe(
            "/orders?page_size=1",
            after=False,
            ignore=("next",),
            body={
                "items": [{"id": ROWS, "customer_id": 1, "total_cents": 80100, "created_at": "2025-08-20T11:33:20Z"}]
            },
        ),
        Probe("/orders?page_size=101", status=422),
        Probe("/orders/9000000", method="DELETE", status=404),
    ),
    explained=tuple(
        Explained(name, {variant: page_at(variant, depth) for variant in ("naive", "correct")}, level=depth)
        for name, depth in DEPTHS.items()
    ),
    final_reads=(FinalRead("orders", sql="SELECT count(*) FROM orders"),),
    claims=(
        Claim(
            "rows_at_100k",
            "mechanism",
            "OFFSET 100000 reads 100,050 rows for 50",
            naive.plan_rows_visited("100k"),
            predict=lambda c: rows(c, DEPTHS["100k"] + PAGE_SIZE),
            tolerance=0.0,
            formula="N + limit (all rows without the index)",
            source=ROWS_LAW,
            headline="depth with index",
        ),
        Claim(
            "rows_at_900k",
            "mechanism",
            "OFFSET 900000 reads 900,050 rows for 50",
            naive.plan_rows_visited("900k"),
            predict=lambda c: rows(c, DEPTHS["900k"] + PAGE_SIZE),
            tolerance=0.0,
            formula="N + limit (all rows without the index)",
            source=ROWS_LAW,
            headline="depth with index",
        ),
        Claim(
            "deep_page",
            "harm",
            "the page at offset 900,000 takes at least five times as long as with a keyset",
            naive.latency_at_level_s(900_000) / correct.latency_at_level_s(900_000),
            relation="at_least",
            predict=lambda c: indexed(c, 5.0),
            null=1.0,
            formula="(a + b N) / a, at least 5",
            source="measured here: b is about 0.1 us a row, a a few ms",
        ),
        Claim(
            "straight",
            "mechanism",
            "the time grows in a straight line with the offset",
            naive.fit_r2("latency"),
            relation="at_least",
            predict=lambda c: indexed(c, 0.95),
            tolerance=0.001,
            formula="a + b N: R2 near 1",
            source="each skipped row costs the same",
        ),
        Claim(
            "no_knee",
            "mechanism",
            "there is no depth at which it breaks: the slope does not change",
            naive.fit_knee_ratio("latency"),
            predict=lambda c: indexed(c, 1.0),
            tolerance=0.25,
            formula="1: the slope does not change",
            source="a + b N",
        ),
        Claim(
            "first_page",
            "mechanism",
            "without the index page 1 already reads the whole table",
            naive.plan_rows_visited("first"),
            predict=lambda c: rows(c, PAGE_SIZE),
            tolerance=0.0,
            formula="limit with the index, all rows without",
            source="without an index on the order every row is read and sorted",
            headline="depth without index",
        ),
        Claim(
            "sort_on_disk",
            "mechanism",
            "without the index a page at 50,000 writes all rows to disk, and sorts them there in two steps",
            naive.plan_temp_blks("50k"),
            predict=lambda c: 3 * ROWS * SORTED_ROW_B / 8192 if "index" in c.params and not c.params["index"] else None,
            formula=(
                "3 x rows x 34 B / 8 KiB: written, then merged (read and written); the last merge stops after 50,050 "
                "rows"
            ),
            tolerance=0.1,
            source="PostgreSQL, tuplesort.c; work_mem is 4 MB; the plan in part 3 shows such a sort",
        ),
        Claim(
            "duplicates",
            "harm",
            "K rows inserted while you page show K rows twice",
            naive.observed("duplicates"),
            predict=lambda c: (
                drift(c, "inserts") if not c.params.get("inserts") or not c.params.get("deletes") else None
            ),
            tolerance=0.0,
            formula="K = 5 x inserts a page",
            headline="7 inserts a page",
            source="each row inserted at the head pushes one row from the page just read to the next",
        ),
        Claim(
            "losses",
            "harm",
            "K rows deleted while you page hide K others; inserts hide none",
            naive.observed("losses"),
            predict=lambda c: (
                drift(c, "deletes") if not c.params.get("inserts") or not c.params.get("deletes") else None
            ),
            tolerance=0.0,
            formula="K = 5 x deletes a page",
            headline="7 deletes a page",
            source="each row deleted behind the reader pulls one row past it",
        ),
        Claim(
            "moved",
            "mechanism",
            "the rows really came and went",
            naive.final("orders"),
            predict=lambda c: (
                ROWS + GAPS * (c.number("inserts") - c.number("deletes")) if "inserts" in c.params else None
            ),
            tolerance=0.0,
            formula="rows + inserted - deleted",
            source="counted in the table",
            headline="7 deletes a page",
        ),
        Claim(
            "keyset_rows",
            "fix",
            "the keyset reads 50 rows at any depth",
            correct.plan_rows_visited("900k"),
            predict=lambda c: rows(c, PAGE_SIZE),
            tolerance=0.0,
            formula="limit (all rows without the index)",
            source="one range of the index (M. Winand, No Offset)",
            headline="depth with index",
        ),
        Claim(
            "keyset_flat",
            "fix",
            "the deepest page of a keyset takes as long as its first",
            correct.fit_flat_ratio("latency"),
            relation="at_most",
            predict=lambda c: indexed(c, 1.0),
            tolerance=0.5,
            formula="1, and at most 1.5",
            source="the same number of rows at any depth",
        ),
        Claim(
            "keyset_duplicates",
            "fix",
            "the keyset repeats nothing",
            correct.observed("duplicates"),
            predict=having("inserts", value=0.0),
            tolerance=0.0,
            formula="0",
            source="the next page begins after a row, not after a number",
            headline="7 inserts a page",
        ),
        Claim(
            "keyset_losses",
            "fix",
            "the keyset loses nothing",
            correct.observed("losses"),
            predict=having("inserts", value=0.0),
            tolerance=0.0,
            formula="0",
            source="the next page begins after a row, not after a number",
            headline="7 deletes a page",
        ),
        Claim(
            "right_pages",
            "fix",
            "the keyset's pages are the same pages",
            correct.observed("wrong_pages"),
            predict=having("index", value=0.0),
            tolerance=0.0,
            formula="0",
            source="both orders are total",
            headline="depth with index",
        ),
        Claim(
            "tax",
            "tax",
            "the first page of a keyset takes at most 30% longer",
            correct.latency_at_level_s(0) / naive.latency_at_level_s(0),
            relation="at_most",
            predict=lambda c: indexed(c, 1.0),
            tolerance=0.3,
            null=1.0,
            formula="1, and a cursor to make",
            source="the same statement but for OFFSET 0; Python makes the cursor of the last row",
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.latency_at_level_s,
            "With OFFSET the time grows in a straight line (R2 {straight:.3f}); with a keyset it is constant",
            x="level",
            x_label="rows before the page",
            y_label="median time of a page, s",
            conditions=("depth with index",),
        ),
        Chart(
            "sweep",
            each.latency_at_level_s,
            "Without the index every page pays for the sort, even page 1",
            x="level",
            x_label="rows before the page",
            y_label="median time of a page, s",
            conditions=("depth without index",),
        ),
        Chart(
            "sweep",
            each.plan_rows_visited,
            "OFFSET 100000 reads {rows_at_100k:,.0f} rows, the keyset {keyset_rows:.0f} at any depth",
            x="level",
            x_label="rows before the page",
            y_label="rows read",
            conditions=("depth with index",),
        ),
        Chart(
            "counts",
            each.observed("duplicates"),
            "{duplicates.predicted:.0f} orders inserted while paging: {duplicates:.0f} orders seen twice",
            y_label="orders seen twice",
            conditions=("nothing moves", "7 inserts a page", "7 deletes a page"),
            theory=("duplicates", "keyset_duplicates"),
        ),
        Chart(
            "counts",
            each.observed("losses"),
            "{losses.predicted:.0f} orders deleted while paging: {losses:.0f} others never seen",
            y_label="orders never seen",
            conditions=("nothing moves", "7 inserts a page", "7 deletes a page"),
            theory=("losses", "keyset_losses"),
        ),
    ),
    answer=(
        "OFFSET 100000 reads {rows_at_100k:,.0f} rows for 50 and grows in a straight line (R2 {straight:.3f}); a "
        "keyset reads {keyset_rows:.0f} at any depth. {duplicates.predicted:.0f} inserts while paging show "
        "{duplicates:.0f} orders twice, {losses.predicted:.0f} deletes hide {losses:.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=4.5, recover_within_s=3.0, ledger={"gaps": each.observed("gaps")}),
    disagrees_with_source=(
        "Nothing breaks at 100k rows or past page 100: time grows in proportion to the offset from the first page "
        "on. The source's 1.2 s at OFFSET 50000 is a sort on disk, so a missing index, which page 1 pays as well. "
        "Inserts repeat rows but lose none; losses come from deletes."
    ),
)
