"""A page at offset N reads N + limit rows (PostgreSQL: skipped rows are still computed), so time is a + b N without a knee; a keyset reads limit.

Between two pages K rows inserted at the head repeat K rows, and K deleted rows that were already read lose K; a keyset repeats and loses none.
The truth of a walk is the rows that were there from its beginning to its end.
"""

import base64
import struct
from datetime import UTC, datetime, timedelta

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, Condition, Explained, FinalRead, Journey, Probe, Scenario

MAX_PAGE_SIZE = 100  # MAX_PAGE_SIZE in both targets
PAGE_SIZE = 50
ROWS = 1_000_000  # dataset.sql
DEPTHS = {"first": 0, "1k": 1_000, "10k": 10_000, "50k": 50_000, "100k": 100_000, "500k": 500_000, "900k": 900_000}
WALKED = 300  # the newest rows, six pages of them, are the truth of a walk
GAPS = 5  # rows come or go after each of the first five pages
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
        reads = list(DEPTHS.values()) * int(self.params["repeats"])
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


def depths(label: str, *, index: bool, repeats: int, quick_pairs: int | None = None) -> Condition:
    """One user who reads at every depth."""
    return Condition(
        label, Journey(), user="DepthReader", setup_sql="" if index else NO_INDEX, quick_pairs=quick_pairs,
        params={"index": index, "repeats": repeats}, duet=index,
    )  # fmt: skip


def walk(label: str, *, inserts: int = 0, deletes: int = 0, quick: bool = True) -> Condition:
    """One user who walks while ``inserts`` and ``deletes`` happen after each of the first pages."""
    return Condition(
        label, Journey(), user="PageWalker", params={"inserts": inserts, "deletes": deletes}, quick=quick, quick_pairs=1,
        control=not (inserts or deletes),
    )  # fmt: skip


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


ROWS_LAW = "rows skipped by OFFSET are still computed (PostgreSQL, LIMIT and OFFSET); claims pg-offset-rows"

SCENARIO = Scenario(
    title="Pagination by OFFSET",
    claim="A page at offset N reads N + limit rows; inserts repeat rows and deletes lose them",
    parts=(3, 9),
    catalogue_ids=(
        "pg-offset-rows", "pg-offset-100k", "pg-missing-index-blamed-on-offset", "pg-insert-drift", "pg-delete-drift",
        "pg-keyset-constant", "fk-offset-skips-on-insert", "fk-offset-knee",
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
        Probe("/orders?page_size=1", after=False, ignore=("next",), body={
            "items": [{"id": ROWS, "customer_id": 1, "total_cents": 80100, "created_at": "2025-08-20T11:33:20Z"}]}),
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
            "rows_at_100k", "mechanism", "OFFSET 100000 reads 100,050 rows for 50", "naive.plan_rows_visited[100k]",
            predict=lambda c: rows(c, DEPTHS["100k"] + PAGE_SIZE), tolerance=0.0,
            formula="N + limit (all rows without the index)", source=ROWS_LAW, headline="depth with index",
        ),
        Claim(
            "rows_at_900k", "mechanism", "OFFSET 900000 reads 900,050 rows for 50", "naive.plan_rows_visited[900k]",
            predict=lambda c: rows(c, DEPTHS["900k"] + PAGE_SIZE), tolerance=0.0,
            formula="N + limit (all rows without the index)", source=ROWS_LAW, headline="depth with index",
        ),
        Claim(
            "deep_page", "harm", "the page at 900,000 takes at least five times the keyset's",
            "naive.latency_at_level_s[900000] / correct.latency_at_level_s[900000]", relation="at_least",
            predict=lambda c: indexed(c, 5.0), null=1.0,
            formula="(a + b N) / a with b about 0.1 us a row and a a few ms", source="ours; claims pg-offset-100k",
        ),
        Claim(
            "straight", "mechanism", "time is a straight line in the offset", "naive.fit_r2[latency]", relation="at_least",
            predict=lambda c: indexed(c, 0.95), tolerance=0.001,
            formula="a + b N: R2 near 1", source="each skipped row costs the same; claims pg-offset-100k",
        ),
        Claim(
            "no_knee", "mechanism", "there is no depth at which it breaks", "naive.fit_knee_ratio[latency]",
            predict=lambda c: indexed(c, 1.0), tolerance=0.25,
            formula="1: the slope does not change", source="a + b N; claims fk-offset-knee",
        ),
        Claim(
            "first_page", "mechanism", "without the index page 1 already reads the whole table", "naive.plan_rows_visited[first]",
            predict=lambda c: rows(c, PAGE_SIZE), tolerance=0.0,
            formula="limit with the index, all rows without", source="claims pg-missing-index-blamed-on-offset",
            headline="depth without index",
        ),
        Claim(
            "sort_on_disk", "mechanism", "without the index a page at 50,000 is sorted on disk", "naive.plan_temp_blks[50k]",
            relation="at_least", predict=lambda c: ROWS * 32 / 8192 if "index" in c.params and not c.params["index"] else None,
            formula="rows x 32 B / 8 KiB, the bare columns written once", source="work_mem is 4 MB; the source's plan shows the same sort",
            tolerance=0.0,
        ),
        Claim(
            "duplicates", "harm", "K rows inserted at the head repeat K rows", "naive.observed[duplicates]",
            predict=lambda c: drift(c, "inserts") if not c.params.get("inserts") or not c.params.get("deletes") else None, tolerance=0.0,
            formula="K = 5 x inserts a page", source="claims pg-insert-drift", headline="7 inserts a page",
        ),
        Claim(
            "losses", "harm", "K deleted rows lose K others; inserts lose none", "naive.observed[losses]",
            predict=lambda c: drift(c, "deletes") if not c.params.get("inserts") or not c.params.get("deletes") else None,
            tolerance=0.0, formula="K = 5 x deletes a page", source="claims pg-delete-drift", headline="7 deletes a page",
        ),
        Claim(
            "moved", "mechanism", "the rows really came and went", "naive.final[orders]",
            predict=lambda c: ROWS + GAPS * (c.number("inserts") - c.number("deletes")) if "inserts" in c.params else None,
            tolerance=0.0, formula="rows + inserted - deleted", source="counted in the table", headline="7 deletes a page",
        ),
        Claim(
            "keyset_rows", "fix", "the keyset reads 50 rows at any depth", "correct.plan_rows_visited[900k]",
            predict=lambda c: rows(c, PAGE_SIZE), tolerance=0.0,
            formula="limit (all rows without the index)", source="claims pg-keyset-constant", headline="depth with index",
        ),
        Claim(
            "keyset_flat", "fix", "the keyset's deepest page takes as long as its first", "correct.fit_flat_ratio[latency]",
            relation="at_most", predict=lambda c: indexed(c, 1.0), tolerance=1.0,
            formula="1 (twice is allowed: a few milliseconds are noisy)", source="claims pg-keyset-constant",
        ),
        Claim(
            "keyset_duplicates", "fix", "the keyset repeats nothing", "correct.observed[duplicates]",
            predict=lambda c: 0.0 if "inserts" in c.params else None, tolerance=0.0,
            formula="0", source="the next page begins after a row, not after a number", headline="7 inserts a page",
        ),
        Claim(
            "keyset_losses", "fix", "the keyset loses nothing", "correct.observed[losses]",
            predict=lambda c: 0.0 if "inserts" in c.params else None, tolerance=0.0,
            formula="0", source="the next page begins after a row, not after a number", headline="7 deletes a page",
        ),
        Claim(
            "right_pages", "fix", "the keyset's pages are the same pages", "correct.observed[wrong_pages]",
            predict=lambda c: 0.0 if "index" in c.params else None, tolerance=0.0,
            formula="0", source="both orders are total", headline="depth with index",
        ),
        Claim(
            "tax", "tax", "the keyset's first page costs no more", "correct.latency_at_level_s[0] / naive.latency_at_level_s[0]",
            relation="at_most", predict=lambda c: indexed(c, 1.0), tolerance=0.5, null=1.0,
            formula="1", source="the same statement but for OFFSET 0",
        ),
    ),
    charts=(
        Chart(
            "sweep", "latency_at_level_s", "OFFSET is a straight line (R2 {straight:.3f}), not a cliff; the keyset is flat",
            x="level", x_label="rows before the page", y_label="median time of a page, s", conditions=("depth with index",),
        ),
        Chart(
            "sweep", "latency_at_level_s", "Without the index every page pays for the sort, page 1 too",
            x="level", x_label="rows before the page", y_label="median time of a page, s", conditions=("depth without index",),
        ),
        Chart(
            "sweep", "plan_rows_visited", "OFFSET 100000 reads {rows_at_100k:,.0f} rows, the keyset {keyset_rows:.0f} at any depth",
            x="level", x_label="rows before the page", y_label="rows read", conditions=("depth with index",),
        ),
        Chart(
            "counts", "observed[duplicates]", "{duplicates:.0f} rows inserted during the walk: {duplicates:.0f} orders seen twice",
            y_label="orders seen twice", conditions=("nothing moves", "7 inserts a page", "7 deletes a page"),
            theory=("duplicates", "keyset_duplicates"),
        ),
        Chart(
            "counts", "observed[losses]", "{losses:.0f} rows deleted during the walk: {losses:.0f} orders never seen",
            y_label="orders never seen", conditions=("nothing moves", "7 inserts a page", "7 deletes a page"),
            theory=("losses", "keyset_losses"),
        ),
    ),
    answer="OFFSET 100000 reads {rows_at_100k:,.0f} rows for 50 and grows in a straight line (R2 {straight:.3f}); "
    "a keyset reads {keyset_rows:.0f} at any depth. {duplicates.predicted:.0f} inserts during a walk repeat {duplicates:.0f} "
    "orders, {losses.predicted:.0f} deletes lose {losses:.0f}.",
    disagrees_with_source="Nothing breaks at 100k rows or past page 100: time grows in proportion to the offset from the first page "
    "on. The source's 1.2 s at OFFSET 50000 is a sort on disk, so a missing index, which page 1 pays as well. Inserts repeat rows "
    "but lose none; losses come from deletes.",
)  # fmt: skip
