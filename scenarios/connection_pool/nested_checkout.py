"""C requests that each hold one connection and ask for a second: with P <= C connections all of them wait until a time-out, with P = C + 1 none does.

The general law is P >= C (k - 1) + 1 for k connections a request (the HikariCP wiki calls it the pool-locking formula): one connection more
than all can hold without being finished lets one finish, and that one frees the others.  Forced: every message to the database takes 10 ms, so
each of the C requests holds its first connection before one of them asks for its second.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Probe,
    Proxy,
    Scenario,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import having, in_control, under

second_pool = Arm("second_pool")

POOL_TIMEOUT_S = 2  # POOL_TIMEOUT_S in all targets
BROKE = 101  # the customer without credit, dataset.sql
CELLS = ((5, 5), (5, 6), (10, 10), (10, 11))  # requests at once, connections
HEADLINE = "10 at once, 10 connections"
ROLLED_BACK = "10 orders that are refused"
ALONE = "10 orders, one at a time"
UNAUDITED = "SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT FROM audit a WHERE a.order_id = o.id)"


class Buyer(LabUser):
    @task
    def order(self) -> None:
        body = {"customer_id": 1 + self.number, "total_cents": 500}
        self.post("/orders", name="order", json=body)


class Broke(LabUser):
    """Orders what cannot be paid."""

    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"customer_id": BROKE, "total_cents": 500}, expect=(409,))


class Steady(LabUser):
    """Orders and has the credit for it."""

    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"customer_id": 1 + self.number, "total_cents": 1})


def at_once(requests: int, connections: int) -> Condition:
    """So many orders at one instant, on a pool of that size."""
    return Condition(
        f"{requests} at once, {connections} connections",
        Burst(requests),
        user="Buyer",
        proxy=Proxy("postgres", delay(10)),
        env={"POOL_SIZE": str(connections)},
        params={"requests": requests, "connections": connections},
        forced=True,
        quick_pairs=1,
    )


def stuck(condition: Condition) -> float:
    """How many requests never get their second connection."""
    requests = condition.number("requests")
    return requests if condition.number("connections") <= requests else 0.0


def one_by_one(label: str, user: str, *, control: bool = False) -> Condition:
    """Ten orders of one client."""
    return Condition(
        label,
        ClosedLoad(1, requests=10),
        user=user,
        env={"POOL_SIZE": "5"},
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Connection pool deadlock: a request that holds one session opens a second (QueuePool limit reached)",
    claim=(
        "Ten requests at once that open a second session all fail on a pool of 10, and none fails on a pool of 11; with one "
        "session none fails on 10"
    ),
    parts=(17,),
    catalogue_ids=("pool-nested-deadlock",),
    before_after=BeforeAfter(
        each.status_count("503"),
        "orders of 10 refused with 503",
        HEADLINE,
        "Ten orders come at once; the pool has ten connections; each order writes an audit row.",
    ),
    labels={
        "naive": "second session, same pool",
        "correct": "one session",
        "second_pool": "second session, separate pool",
    },
    symptoms=(
        "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "sqlalchemy.exc.TimeoutError",
        "pool deadlock",
        "connection pool exhausted",
        "idle in transaction",
        "audit log",
        "nested session",
        "second session",
        "hangs under load",
        "asyncpg pool acquire hangs",
        "TooManyConnectionsError",
    ),
    services=("postgres",),
    constants={"POOL_TIMEOUT_S": POOL_TIMEOUT_S},
    conditions=(
        *(at_once(requests, connections) for requests, connections in CELLS),
        one_by_one(ROLLED_BACK, "Broke"),
        one_by_one(ALONE, "Buyer", control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/orders", method="POST", status=422, json={"customer_id": 0, "total_cents": 1}),
    ),
    final_reads=(
        FinalRead("orders", sql="SELECT count(*) FROM orders"),
        FinalRead("audited", sql="SELECT count(*) FROM audit"),
        FinalRead("unaudited", sql=UNAUDITED),
        FinalRead("leaked", sql=OPEN_TRANSACTIONS),
    ),
    claims=(
        Claim(
            "refused",
            "harm",
            "all fail where the pool is as large as the number of requests, none with one connection more",
            naive.status_count("503"),
            predict=having("connections", value=stuck),
            tolerance=0.0,
            formula="C where P <= C (k - 1), else 0; k = 2",
            source="HikariCP wiki, About Pool Sizing: P = C (k - 1) + 1 avoids the deadlock",
            headline=HEADLINE,
        ),
        Claim(
            "waited",
            "harm",
            "each of them waits for pool_timeout, and then fails",
            naive.error_latency_p50_s("order"),
            relation="at_least",
            predict=under(HEADLINE, value=float(POOL_TIMEOUT_S)),
            tolerance=0.0,
            formula="pool_timeout = 2 s here, 30 s by default",
            source="SQLAlchemy documentation, QueuePool: seconds to wait before giving up",
            headline=HEADLINE,
        ),
        Claim(
            "all_wait",
            "mechanism",
            "every request waits for the pool, and holds a connection of it",
            naive.pool_waiting_max,
            predict=having("connections", value=lambda c: c.number("requests") if stuck(c) else None),
            tolerance=0.0,
            null=0.0,
            formula="C",
            source="all have their first connection, and none is left",
            headline=HEADLINE,
        ),
        Claim(
            "alone",
            "mechanism",
            "one request at a time finds a second connection",
            naive.status_count("503"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="1 <= P - 1",
        ),
        Claim(
            "one_session",
            "fix",
            "with one session for each request none fails, on any of these pools",
            correct.status_count("503"),
            predict=having("connections", value=0.0),
            tolerance=0.0,
            null=10.0,
            formula="0, as k = 1: P >= 1 is enough",
            source="who holds a connection waits for none",
            headline=HEADLINE,
        ),
        Claim(
            "own_pool",
            "fix",
            "nor with a separate pool for the audit",
            second_pool.status_count("503"),
            predict=having("connections", value=0.0),
            tolerance=0.0,
            null=10.0,
            formula="0",
            source="the second pool's connections wait for nobody: no circle",
            headline=HEADLINE,
        ),
        Claim(
            "twice_the_connections",
            "tax",
            "which is twice as many connections",
            second_pool.connections_peak / correct.connections_peak,
            predict=under("10 at once, 10 connections", value=2.0),
            tolerance=0.15,
            null=1.0,
            formula="2 P / P",
            source="two pools of P",
        ),
        Claim(
            "rolled_back_too",
            "tax",
            "in one transaction the audit of a refused order is rolled back with it",
            correct.final("audited"),
            predict=under(ROLLED_BACK, value=0.0),
            tolerance=0.0,
            null=10.0,
            formula="0 of 10",
            source="PostgreSQL documentation, Transactions: all or nothing",
        ),
        Claim(
            "kept",
            "tax",
            "which a separate session keeps: if that is why it is there, give it a pool",
            second_pool.final("audited"),
            predict=under(ROLLED_BACK, value=10.0),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source="the audit commits on its own",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("503"),
            "Ten at once on ten connections: {refused:.0f} fail with a second session, {one_session:.0f} with one",
            y_label="orders refused with 503",
            conditions=tuple(f"{requests} at once, {connections} connections" for requests, connections in CELLS),
            theory=("refused", "one_session"),
        ),
        Chart(
            "counts",
            each.pool_waiting_max,
            "All ten wait for a second connection, and each holds one",
            y_label="requests that wait for the pool",
            conditions=(HEADLINE, "10 at once, 11 connections"),
            theory=("all_wait",),
        ),
        Chart(
            "counts",
            each.final("audited"),
            "The price of one transaction: of ten refused orders {rolled_back_too:.0f} leave a trace in the audit",
            y_label="rows in the audit",
            conditions=(ROLLED_BACK,),
            theory=("rolled_back_too", "kept"),
        ),
    ),
    answer=(
        "Ten orders at once on ten connections: {refused:.0f} fail (predicted {refused.predicted:.0f}) when each opens a second "
        "session for its audit row, and {one_session:.0f} when order and audit share one. With eleven connections none "
        "fails: the deadlock comes with one request more, not little by little."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        variants=("correct", "second_pool"),
        env={"POOL_SIZE": "5"},
        ledger={"unaudited": each.final("unaudited"), "leaked": each.final("leaked")},
    ),
)
