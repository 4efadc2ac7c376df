"""A dependency runs once for each scope that it is asked for with: two scopes of get_session are two sessions, two connections and two snapshots.

FastAPI caches a dependency by its function, its security scopes and its scope (fastapi.dependencies.models, _get_cache_key).  The second session
does not see what the first has written and not committed.  With C requests at once on a pool of P <= C connections each holds one and waits for
another: the law of the nested checkout.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Survival,
)
from lab.words.metrics import correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under

POOL_TIMEOUT_S = 2  # POOL_TIMEOUT_S in all targets
ORDERS = 10
ALONE, FULL, ROOM = "10 orders, one at a time", "5 at once, 5 connections", "5 at once, 6 connections"


class Buyer(LabUser):
    """Each order is a customer's first: its number must be 1."""

    def journey(self) -> None:
        for customer in range(1, ORDERS + 1):
            reply = self.post("/orders", name="order", json={"customer_id": customer})
            self.count("own_order_unseen", reply.json()["number"] != 1)


class Hurried(LabUser):
    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"customer_id": 1000 + self.number}, expect=(201, 503))


class Steady(LabUser):
    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"customer_id": 1 + self.number})


def at_once(label: str, connections: int, *, control: bool = False) -> Condition:
    """Five orders at one instant."""
    return Condition(
        label,
        Burst(5),
        user="Hurried",
        proxy=Proxy("postgres", delay(10)),
        env={"POOL_SIZE": str(connections)},
        forced=True,
        control=control,
        quick_pairs=1,
    )


CACHE = "FastAPI's source, dependencies/models.py, _get_cache_key: call, security scopes, scope"

SCENARIO = Scenario(
    title='Two sessions in one request: Depends(get_db) with and without scope="function"',
    claim=(
        "A request whose route and repository ask for the session with different scopes has two: it does not see its own order in 10 "
        "of 10 cases, and five at once fail on five connections; with one alias none"
    ),
    parts=(15, 17),
    catalogue_ids=("fi-di-mixed-scope", "fi-di-cache"),
    before_after=BeforeAfter(
        each.pool_checked_out_max,
        "connections for one order",
        ALONE,
        "An order is inserted and then counted by a repository, in one request.",
    ),
    labels={"naive": "two scopes", "correct": "one alias, one scope"},
    symptoms=(
        "dependency called twice",
        "use_cache",
        'scope="function"',
        "two sessions per request",
        "does not see its own insert",
        "QueuePool limit of size 5 overflow 0 reached, connection timed out",
        "sqlalchemy.exc.TimeoutError",
        "Depends caching",
        "row not visible in same request",
        'has a scope of "request", it cannot depend on dependencies with scope "function"',
    ),
    services=("postgres",),
    constants={"POOL_TIMEOUT_S": POOL_TIMEOUT_S},
    queries={"insert": "INSERT INTO orders%", "begin": "BEGIN%"},
    conditions=(
        Condition(ALONE, Journey(1), user="Buyer", env={"POOL_SIZE": "5"}, quick_pairs=1),
        at_once(FULL, 5),
        at_once(ROOM, 6, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/orders", method="POST", json={"customer_id": 0}, status=422),
    ),
    final_reads=(FinalRead("leaked", sql=OPEN_TRANSACTIONS),),
    claims=(
        Claim(
            "unseen",
            "harm",
            "a request does not see what it has written itself",
            naive.observed("own_order_unseen"),
            predict=under(ALONE, value=float(ORDERS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source="PostgreSQL documentation, Transaction Isolation: another session sees what was committed",
        ),
        Claim(
            "two_connections",
            "harm",
            "and holds two connections",
            naive.pool_checked_out_max,
            predict=under(ALONE, value=2.0),
            tolerance=0.0,
            null=1.0,
            formula="one for each scope",
            source=CACHE,
        ),
        Claim(
            "all_fail",
            "harm",
            "as many requests as connections wait for each other, and all fail",
            naive.status_count("503"),
            predict=under(FULL, value=5.0),
            tolerance=0.0,
            null=0.0,
            formula="C = 5, as P <= C",
            source="each holds one connection and waits for a second",
        ),
        Claim(
            "two_begins",
            "mechanism",
            "each order is two transactions",
            naive.sql_calls("begin"),
            predict=under(ALONE, value=2.0 * ORDERS + 1),
            tolerance=0.0,
            null=float(ORDERS),
            formula="2 N + 1: SQLAlchemy asks the first connection of an engine for its version",
            source=CACHE,
        ),
        Claim(
            "room",
            "mechanism",
            "with one connection more none fails",
            naive.status_count("503"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=5.0,
            formula="0, as P = C + 1",
            source="one gets its second connection, is done, and frees the others",
        ),
        Claim(
            "seen",
            "fix",
            "with one alias a request sees what it has written",
            correct.observed("own_order_unseen"),
            predict=under(ALONE, value=0.0),
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source="one session, one transaction",
        ),
        Claim(
            "one_connection",
            "fix",
            "holds one connection",
            correct.pool_checked_out_max,
            predict=under(ALONE, value=1.0),
            tolerance=0.0,
            null=2.0,
            formula="1",
            source=CACHE,
        ),
        Claim(
            "none_fails",
            "fix",
            "and none fails",
            correct.status_count("503"),
            predict=under(FULL, ROOM, value=0.0),
            tolerance=0.0,
            null=5.0,
            formula="0",
            source="no request waits for a second connection",
            headline=FULL,
        ),
        Claim(
            "one_insert",
            "tax",
            "each order is one INSERT, as before",
            correct.sql_calls("insert"),
            predict=under(ALONE, value=float(ORDERS)),
            tolerance=0.0,
            formula="N = 10",
            source="the statements are the same",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("503"),
            "Five orders at once on five connections: {all_fail:.0f} fail with two scopes, {none_fails:.0f} with one",
            y_label="orders refused with 503",
            conditions=(FULL, ROOM),
            theory=("all_fail", "none_fails", "room"),
        ),
        Chart(
            "counts",
            each.observed("own_order_unseen"),
            "Ten first orders: {unseen:.0f} requests do not see their own with two scopes, {seen:.0f} with one",
            y_label="requests that do not see their own order",
            conditions=(ALONE,),
            theory=("unseen", "seen"),
        ),
    ),
    answer=(
        "With two scopes {unseen:.0f} of 10 requests do not see the order that they have inserted (predicted {unseen.predicted:.0f}), each holds "
        "{two_connections:.0f} connections, and {all_fail:.0f} of five at once fail on five connections. With one alias {seen:.0f}, "
        "{one_connection:.0f} and {none_fails:.0f}."
    ),
    survival=Survival(
        user="Steady", answer_within_s=4.5, recover_within_s=3.0, ledger={"leaked": each.final("leaked")}
    ),
)
