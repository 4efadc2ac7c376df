"""What a total costs: all M rows that match, for each page of p rows, whatever index there is: M + p rows instead of p.

PostgreSQL keeps no number of rows that a transaction could use: which rows exist depends on who looks (MVCC), so count(*) visits each of them.
A count that stops at a limit visits the limit and one more.  In one statement with the page it is a round trip less and as many rows.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Explained, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

ORDERS = 20_000  # of customers 1 to 5, dataset.sql
FEW = 300  # of customer 6
PAGE_SIZE = 20
MOST = 1000  # MOST in correct.py
PAGES = 20
MANY, SMALL = "a customer with 20,000 orders", "a customer with 300 orders"
VARIANTS = ("naive", "correct", "tempting")


def explained(name: str, path: str) -> Explained:
    """The same request to every variant."""
    return Explained(name, dict.fromkeys(VARIANTS, path), 0)


class Reader(LabUser):
    """Reads page after page."""

    def journey(self) -> None:
        after = 0
        for _ in range(PAGES):
            page = self.get(f"/orders?customer_id={self.params['customer']}&after={after}", name="page").json()
            self.count("inexact", not page["total_is_exact"])
            self.count("orders", len(page["items"]))
            if page["next"] is None:
                return
            after = page["next"]


class Steady(LabUser):
    """Reads on from page to page, and each must begin right behind the one before."""

    after = 0

    @task
    def read_on(self) -> None:
        reply = self.get(f"/orders?customer_id=1&after={self.after}", name="page")
        if reply.status == 200:
            page = reply.json()
            if page["items"]:  # the last page was full: the one after it is empty, and the reader begins again
                self.count("gaps", page["items"][0]["id"] != self.after + 1)
            self.after = page["next"] or 0


SCENARIO = Scenario(
    title="Total count on every page: SELECT count(*) reads the whole list again for each page",
    claim=(
        "A page of 20 orders with their exact total reads 20,020 rows, every page again; a count that stops at 1,000 reads 1,021"
    ),
    parts=(3, 9),
    catalogue_ids=("pg-count-star",),
    before_after=BeforeAfter(
        each.plan_rows_visited("first"),
        "rows read for a page of 20",
        MANY,
        "A list shows 20 of 20,000 orders, and how many there are.",
    ),
    labels={
        "naive": "count(*) of all",
        "correct": "count up to 1,000",
        "tempting": "count(*) in the same statement",
    },
    symptoms=(
        "SELECT count(*) slow",
        "count(*) PostgreSQL slow",
        "pagination total slow",
        "fastapi-pagination slow",
        "Page total",
        "X-Total-Count",
        "count(*) OVER ()",
        "Aggregate Index Only Scan",
        "Parallel Seq Scan count",
        "total pages",
    ),
    services=("postgres",),
    queries={"count": "SELECT count(*) FROM%"},
    conditions=(
        Condition(MANY, Journey(1), user="Reader", params={"customer": 1}, quick_pairs=1),
        Condition(SMALL, Journey(1), user="Reader", params={"customer": 6}, control=True, quick_pairs=1),
    ),
    probes=(
        Probe("/orders?customer_id=6&page_size=1", ignore=("total_is_exact",)),
        Probe("/orders?customer_id=6&page_size=101", status=422),
    ),
    explained=(
        explained("first", "/orders?customer_id=1"),
        explained("deep", "/orders?customer_id=1&after=19000"),
        explained("few", "/orders?customer_id=6"),
    ),
    claims=(
        Claim(
            "first_page",
            "harm",
            "the first page reads all orders of the customer",
            naive.plan_rows_visited("first"),
            predict=under(MANY, value=float(ORDERS + PAGE_SIZE)),
            tolerance=0.0,
            null=float(PAGE_SIZE),
            formula="M + p = 20,000 + 20",
            source="PostgreSQL documentation, Aggregate Functions: count(*) needs a scan of the table or of an index",
        ),
        Claim(
            "deep_page",
            "harm",
            "and so does every other page",
            naive.plan_rows_visited("deep"),
            predict=under(MANY, value=float(ORDERS + PAGE_SIZE)),
            tolerance=0.0,
            null=float(PAGE_SIZE),
            formula="M + p = 20,000 + 20",
            source="the count does not know of the page",
        ),
        Claim(
            "same_statement",
            "harm",
            "in one statement with the page it reads as many",
            tempting.plan_rows_visited("first"),
            predict=under(MANY, value=float(ORDERS + PAGE_SIZE)),
            tolerance=0.0,
            null=float(PAGE_SIZE),
            formula="M + p = 20,000 + 20",
            source="the subquery scans by itself",
        ),
        Claim(
            "counts",
            "mechanism",
            "each page counts",
            naive.sql_calls("count"),
            predict=under(MANY, value=float(PAGES)),
            tolerance=0.0,
            null=0.0,
            formula="20 pages",
            source="the route",
        ),
        Claim(
            "small_list",
            "mechanism",
            "a short list costs what it has",
            naive.plan_rows_visited("few"),
            predict=in_control(float(FEW + PAGE_SIZE)),
            tolerance=0.0,
            formula="300 + 20",
            source="M is small",
        ),
        Claim(
            "capped",
            "fix",
            "a count that stops reads one more than it tells",
            correct.plan_rows_visited("first"),
            predict=under(MANY, value=float(MOST + 1 + PAGE_SIZE)),
            tolerance=0.0,
            null=float(ORDERS + PAGE_SIZE),
            formula="L + 1 + p = 1,001 + 20",
            source="PostgreSQL documentation, LIMIT: no more rows are produced than asked for",
        ),
        Claim(
            "capped_deep",
            "fix",
            "on every page",
            correct.plan_rows_visited("deep"),
            predict=under(MANY, value=float(MOST + 1 + PAGE_SIZE)),
            tolerance=0.0,
            null=float(ORDERS + PAGE_SIZE),
            formula="L + 1 + p = 1,001 + 20",
            source="the count does not know of the page",
        ),
        Claim(
            "same_orders",
            "fix",
            "and the reader sees the same orders",
            correct.observed("orders"),
            predict=under(MANY, value=float(PAGES * PAGE_SIZE)),
            tolerance=0.0,
            formula="20 x 20",
            source="the page is the same statement",
        ),
        Claim(
            "inexact",
            "tax",
            "but the total of a long list is 'more than 1,000'",
            correct.observed("inexact"),
            predict=under(MANY, value=float(PAGES)),
            tolerance=0.0,
            null=0.0,
            formula="20 of 20 pages",
            source="20,000 is more than the limit",
        ),
        Claim(
            "exact",
            "mechanism",
            "while that of a short one is exact",
            correct.observed("inexact"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(FEW // PAGE_SIZE),
            formula="0",
            source="300 is less than the limit",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.plan_rows_visited("first"),
            "20 orders and their number: {first_page:,.0f} rows read, {capped:,.0f} when the count stops at 1,000",
            y_label="rows read for a page of 20",
            conditions=(MANY,),
            theory=("first_page", "same_statement", "capped"),
        ),
    ),
    answer=(
        "A page of 20 orders with their exact total reads {first_page:,.0f} rows (predicted {first_page.predicted:,.0f}), each page "
        "again; a count that stops at 1,000 reads {capped:,.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, ledger={"gaps": each.observed("gaps")}),
)
