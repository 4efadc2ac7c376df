"""A limit without a maximum: one request reads, builds and writes as many rows as it asks for, and all others of its worker wait meanwhile.

Rows read = the limit, or the table.  Models and JSON are made on the event loop, at least a microsecond a row, so 100,000 rows block it for a tenth
of a second or more.  Numbers that are none for a page (-1, 2 ** 63) get as far as the database or the driver, and come back as 500.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, under

ROWS = 100_000  # dataset.sql
PAGE = 20
TIMES = 10
HOSTILE = ("limit=-1", "limit=9223372036854775808", "after=9223372036854775808", "limit=-9223372036854775808")
ALL, NONSENSE, USUAL = (
    "one client asks for 100,000 orders",
    "numbers that are none for a page",
    "clients ask for 20 orders",
)


class Pair(LabUser):
    """One client asks for orders; the other one asks for the health of the server all the time."""

    def journey(self) -> None:
        if self.number == 0:
            gevent.sleep(0.3)
            for _ in range(3):
                self.get(f"/orders?limit={self.params['limit']}", name="page", expect=(200, 422))
            return
        began = time.monotonic()
        while time.monotonic() - began < 3.0:
            self.get("/health", name="health")
            gevent.sleep(0.01)


class Hostile(LabUser):
    """Asks for pages that cannot be."""

    def journey(self) -> None:
        for query in HOSTILE:
            for _ in range(TIMES):
                reply = self.get(f"/orders?{query}", name="page", expect=(422, 500))
                if reply.status == 500:
                    self.reconnect()  # uvicorn closes a connection on which a request has raised


class Steady(LabUser):
    @task
    def read(self) -> None:
        self.get(f"/orders?after={self.rng.randint(0, 99_000)}", name="page")


def asked(label: str, limit: int, *, control: bool = False) -> Condition:
    """Two clients, one of which asks for so many."""
    return Condition(label, Journey(2), user="Pair", params={"limit": limit}, control=control, quick_pairs=1)


SCENARIO = Scenario(
    title="Pagination without a maximum: limit=1000000 takes memory and blocks the event loop",
    claim=(
        "Three requests for 100,000 orders read 300,000 rows and make other clients wait a tenth of a second or more, and a negative "
        "limit is a 500; with limits in the signature all are 422"
    ),
    parts=(3,),
    catalogue_ids=("pg-no-page-cap",),
    before_after=BeforeAfter(
        each.sql_rows("page"),
        "rows read for 3 requests",
        ALL,
        "A client asks three times for 100,000 orders, because nothing says that it may not.",
    ),
    labels={"naive": "limit: int = 20", "correct": "Query(ge=1, le=100)"},
    symptoms=(
        "limit=1000000",
        "page_size too large",
        "OOMKilled",
        "event loop blocked by JSON",
        "asyncpg.exceptions.InvalidRowCountInLimitClauseError: LIMIT must not be negative",
        "asyncpg.exceptions.DataError: invalid input for query argument",
        "value out of int64 range",
        "Internal Server Error",
        "le=100",
        "max page size",
    ),
    services=("postgres",),
    queries={"page": "SELECT id, amount_cents%"},
    conditions=(
        asked(ALL, ROWS),
        Condition(NONSENSE, Journey(1), user="Hostile", quick_pairs=1),
        asked(USUAL, PAGE, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/orders?limit=1", body={"items": [{"id": 1, "amount_cents": 1}], "next": 1}),
    ),
    contract_differs="the fix is the contract: the limits stand in it",
    claims=(
        Claim(
            "all_rows",
            "harm",
            "each request reads what it asks for",
            naive.sql_rows("page"),
            predict=under(ALL, value=3.0 * ROWS),
            tolerance=0.0,
            null=0.0,
            formula="3 x 100,000",
            source="LIMIT",
        ),
        Claim(
            "others_wait",
            "harm",
            "while others wait for a tenth of a second or more",
            naive.latency_max_s("health"),
            relation="at_least",
            predict=under(ALL, value=ROWS * 1e-6),
            tolerance=0.0,
            null=0.0,
            formula="N x 1 us at least",
            source="models and JSON of 100,000 rows are made on the event loop",
        ),
        Claim(
            "loop",
            "mechanism",
            "because the event loop is blocked",
            naive.loop_lag_max_s,
            relation="at_least",
            predict=under(ALL, value=ROWS * 1e-6),
            tolerance=0.0,
            null=0.0,
            formula="N x 1 us at least",
            source="nothing else runs meanwhile",
        ),
        Claim(
            "errors",
            "harm",
            "numbers that are none for a page are errors of the server",
            naive.status_count("500"),
            predict=under(NONSENSE, value=float(TIMES * len(HOSTILE))),
            tolerance=0.0,
            null=0.0,
            formula="4 x 10",
            source="PostgreSQL: LIMIT must not be negative; asyncpg: value out of int64 range",
        ),
        Claim(
            "usual",
            "mechanism",
            "a usual page is read as before",
            correct.sql_rows("page"),
            predict=in_control(3.0 * PAGE),
            tolerance=0.0,
            formula="3 x 20",
            source="20 is allowed",
        ),
        Claim(
            "nothing_read",
            "fix",
            "with limits in the signature nothing is read",
            correct.status_count("422"),
            predict=under(ALL, value=3.0),
            tolerance=0.0,
            null=0.0,
            formula="3 of 3 are 422",
            source="FastAPI documentation, Query Parameters and String Validations",
        ),
        Claim(
            "all_422",
            "fix",
            "and what is no page is an error of the client",
            correct.status_count("422"),
            predict=under(NONSENSE, value=float(TIMES * len(HOSTILE))),
            tolerance=0.0,
            null=0.0,
            formula="4 x 10",
            source="FastAPI documentation, Numeric Validations",
        ),
        Claim(
            "more_requests",
            "tax",
            "whoever wants all must ask more often",
            correct.sql_calls("page"),
            predict=in_control(3.0),
            tolerance=0.0,
            formula="one for each page of 100 at most",
            source="1,000 requests for 100,000 orders",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.latency_max_s("health"),
            "One client asks for 100,000 orders: another one waits {others_wait:.2f} s for the health check",
            y_label="longest wait of another client, s",
            conditions=(ALL, USUAL),
            theory=("others_wait",),
        ),
        Chart(
            "counts",
            each.sql_rows("page"),
            "Three requests without a maximum read {all_rows:,.0f} rows",
            y_label="rows read",
            conditions=(ALL, USUAL),
            theory=("all_rows", "usual"),
        ),
    ),
    answer=(
        "Three requests for 100,000 orders read {all_rows:,.0f} rows (predicted {all_rows.predicted:,.0f}), and another client waits "
        "{others_wait:.2f} s meanwhile. {errors:.0f} of 40 nonsense numbers are a 500; with limits in the signature {all_422:.0f} of 40 are a 422."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0),
)
