"""A session that ends after the background tasks holds its connection for T + T_bg: P / (T + T_bg) requests per second get through.

Its commit comes as late, so a client that reads what it has just been told was created finds nothing.  Which versions of FastAPI end a dependency
when is the law here: up to 0.105 after the tasks, 0.106 to 0.117 before the response, from 0.118 after the tasks again.

Of n requests the first P are answered at once, and each further P after another T_bg: n answers take (n / P - 1) T_bg.
"""

from typing import Any

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Survival,
    Upstream,
)
from lab.words.metrics import correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under

POOL_SIZE = 5  # POOL_SIZE in both targets
MAIL_S = 0.4
USERS = 20
REQUESTS = 60
ORDERS = 8
AFTER_TASKS = ("0.105.0", "0.118.0")
OLDER = {"0.105.0": {"anyio": "3.7.1", "httpx2": "2.2.0"}}  # it wants AnyIO below 4, on which httpx2 runs up to 2.2
BEFORE_RESPONSE = ("0.117.1",)
FAR = "1 user, database 20 ms away"


class Buyer(LabUser):
    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"total_cents": 500})


class Reader(LabUser):
    """Orders and reads the order at once, as a page that follows a redirect does."""

    def journey(self) -> None:
        for _ in range(ORDERS):
            order = self.post("/orders", name="order", json={"total_cents": 500}).json()
            self.count("not_there", self.get(f"/orders/{order['id']}", name="read").status == 404)


class Steady(LabUser):
    """Orders, and later looks for each order that was answered 201, until the database says whether it is there."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.confirmed = ""

    @task
    def order(self) -> None:
        if self.confirmed:
            status = self.get(self.confirmed, name="read").status
            self.count("lost", status == 404)
            self.confirmed = "" if status in (200, 404) else self.confirmed
            return
        order = self.post("/orders", name="order", json={"total_cents": 500})
        self.confirmed = f"/orders/{order.json()['id']}" if order.status == 201 else ""


def reads(label: str, version: str = "", *, mail_s: float = MAIL_S, control: bool = False) -> Condition:
    """Orders that are read at once, under a version of FastAPI."""
    return Condition(
        label,
        Journey(1),
        user="Reader",
        upstream=Upstream(mail_s),
        quick_pairs=1,
        packages={"fastapi": version, **OLDER.get(version, {})} if version else {},
        params={"version": version or "this one", "mail_s": mail_s},
        variants=("naive",) if version else (),
        control=control,
    )


def late(condition: Condition) -> float | None:
    """How many of the orders a reader does not find under naive."""
    if "version" not in condition.params:
        return None
    return 0.0 if condition.params["version"] in BEFORE_RESPONSE else float(ORDERS)


def under_load(condition: Condition, value: float) -> float | None:
    """``value`` where the pool is the limit."""
    return value if condition.label == "20 users" else None


SCENARIO = Scenario(
    title="Dependencies with yield: the session is held until background tasks end",
    claim=(
        "With a background task of 0.4 s and 5 connections, FastAPI 0.118 and newer serve 12.5 orders per second, "
        "each committed after its 201"
    ),
    before_after=BeforeAfter(
        each.throughput_rps,
        "orders per second",
        "20 users",
        (
            "Twenty users place orders; each order sends a mail of 0.4 s in a background task; the pool has five "
            "connections."
        ),
    ),
    labels={"naive": "commit after the tasks", "correct": 'scope="function"'},
    symptoms=(
        "idle in transaction",
        "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "404 right after 201",
        "read your own writes",
        "background tasks hold database connection",
        "dependency with yield runs after response",
        "FastAPI 0.118 upgrade slow",
        "RuntimeError: Caught handled exception, but response already started.",
        "BackgroundTasks",
        "get_db",
        "scope function",
    ),
    parts=(1, 17),
    catalogue_ids=("lc-yield-dep-outlives-response",),
    services=("postgres", "upstream"),
    constants={"POOL_SIZE": POOL_SIZE},
    conditions=(
        Condition(
            "20 users",
            ClosedLoad(USERS, requests=REQUESTS),
            user="Buyer",
            upstream=Upstream(MAIL_S),
            params={"users": USERS},
        ),
        *(reads(f"read at once, FastAPI {version}", version) for version in sorted((*AFTER_TASKS, *BEFORE_RESPONSE))),
        reads("read at once"),
        Condition(
            "no background work",
            ClosedLoad(USERS, requests=8 * REQUESTS),
            user="Buyer",
            upstream=Upstream(0.0),
            params={"users": USERS, "mail_s": 0.0},
            control=True,
            quick_pairs=5,
        ),
        Condition(
            FAR,
            ClosedLoad(1, requests=30),
            user="Buyer",
            upstream=Upstream(0.0),
            proxy=Proxy("postgres", delay(10)),
            params={"users": 1, "mail_s": 0.0},
        ),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/orders/999999", status=404)),
    final_reads=(FinalRead("leaked", sql=OPEN_TRANSACTIONS),),
    claims=(
        Claim(
            "capped",
            "harm",
            "five connections, each held for a mail of 0.4 s, are all that 20 users get",
            naive.throughput_rps,
            predict=lambda c: under_load(c, REQUESTS / ((REQUESTS / POOL_SIZE - 1) * MAIL_S)),
            tolerance=0.08,
            formula="n / ((n / P - 1) T_bg) = 60 / (11 x 0.4 s) = 13.6 per second; P / T_bg = 12.5 in the long run",
            source="Little's law; the first P are answered before their mail is sent",
            headline="20 users",
        ),
        Claim(
            "not_there",
            "harm",
            "what was answered 201 is not there yet, in these versions",
            naive.observed("not_there"),
            predict=late,
            tolerance=0.0,
            formula="all 8, but none under 0.106 to 0.117",
            source="FastAPI release notes, 0.106.0 and 0.118.0",
            headline="read at once",
        ),
        Claim(
            "idle",
            "mechanism",
            "the whole pool is idle in transaction",
            naive.connections_peak("idle in transaction"),
            predict=lambda c: under_load(c, float(POOL_SIZE)),
            tolerance=0.0,
            formula="P = 5",
            source="PostgreSQL documentation, pg_stat_activity",
            headline="20 users",
        ),
        Claim(
            "no_tasks",
            "mechanism",
            "with nothing to wait for both serve the same",
            correct.throughput_rps / naive.throughput_rps,
            predict=in_control(1.0),
            tolerance=0.20,
            null=1.0,
            formula="1",
            source="T_bg = 0",
        ),
        Claim(
            "there",
            "fix",
            'with scope="function" every order is there',
            correct.observed("not_there"),
            predict=under("read at once", value=0.0),
            tolerance=0.0,
            formula="0",
            source="FastAPI documentation, Early exit and scope: the commit comes before the answer",
        ),
        Claim(
            "freed",
            "fix",
            "and the pool serves at least ten times as many",
            correct.throughput_rps / naive.throughput_rps,
            relation="at_least",
            predict=lambda c: under_load(c, 10.0),
            null=1.0,
            formula="T_bg / T = 0.4 s / T, at least 10 while T is below 40 ms",
            source="a connection is held for three round trips",
            headline="20 users",
        ),
        Claim(
            "waits",
            "tax",
            "the answer waits for the commit: three round trips to the database instead of two",
            correct.latency_p50_s / naive.latency_p50_s,
            predict=under(FAR, value=1.5),
            tolerance=0.12,
            null=1.0,
            formula="(BEGIN, INSERT, COMMIT) / (BEGIN, INSERT) = 3 / 2",
            source="SQLAlchemy documentation, asyncpg: BEGIN at the first statement",
            headline=FAR,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("not_there"),
            "Answered 201 and not there: {not_there:.0f} of 8 orders with the current FastAPI",
            y_label="orders that a reader did not find",
            conditions=(
                "read at once, FastAPI 0.105.0",
                "read at once, FastAPI 0.117.1",
                "read at once, FastAPI 0.118.0",
                "read at once",
            ),
            theory=("not_there", "there"),
        ),
        Chart(
            "counts",
            each.throughput_rps,
            "A mail of 0.4 s limits a pool of five to {capped:.0f} orders per second; freed, it serves {freed:.0f}x",
            y_label="orders per second",
            conditions=("20 users", "no background work"),
            theory=("capped",),
        ),
        Chart(
            "timeline",
            "connections",
            "All connections are idle in transaction while the mails are sent",
            conditions=("20 users",),
        ),
    ),
    answer=(
        "With a mail of 0.4 s in the background, a pool of five serves {capped:.1f} orders per second (predicted "
        "{capped.predicted:.1f}), and {not_there:.0f} of 8 orders are not there when the client has its 201. "
        'With scope="function" it serves {freed:.1f} times as many, and {there:.0f} orders are missing.'
    ),
    disagrees_with_source=(
        "The get_db of part 17 commits after its yield. Whether that is before or after the client has its answer "
        "changed twice: before it from 0.106 to 0.117, after it and after all background tasks up to 0.105 and from "
        "0.118 on."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"lost": each.observed("lost"), "leaked": each.final("leaked")},
    ),
)
