"""Round trips a request: a session that reads once sends BEGIN, the query and ROLLBACK, and pool_pre_ping with asyncpg three more before them.

Read in sqlalchemy.dialects.postgresql.asyncpg, AsyncAdapt_asyncpg_connection.ping: outside autocommit it opens a transaction around an empty
statement, so that PgBouncer in transaction mode sees one (sqlalchemy/sqlalchemy#10226).  pg_stat_statements does not count the empty statement.
With R for a round trip to the database a request takes 6 R with both, 3 R without the ping, 2 R with the ping in autocommit.
"""

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Event, Journey, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

READS = 20
ONE_WAY_MS = 10
ROUND_TRIP_S = 2 * ONE_WAY_MS / 1000
NEAR, FAR, CUT, IDLE = (
    "20 reads, database on this machine",
    "20 reads, database 20 ms away",
    "connections cut once",
    "20 requests without a query",
)
# Connections of the target have no name, those of the lab have one.
CLOSE_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = '' AND pid <> pg_backend_pid()"
)


class Reader(LabUser):
    @task
    def read_product(self) -> None:
        self.get(f"/products/{self.rng.randint(1, 1000)}", name="product")


class Idle(LabUser):
    @task
    def health(self) -> None:
        self.get("/health", name="health")


class Patient(LabUser):
    """Reads on and on while the server closes all connections."""

    def journey(self) -> None:
        for _ in range(40):
            self.get(f"/products/{self.rng.randint(1, 1000)}", name="product", expect=(200, 503))
            gevent.sleep(0.05)


SOURCE = "SQLAlchemy's source, dialects/postgresql/asyncpg.py, ping"

SCENARIO = Scenario(
    title="pool_pre_ping with asyncpg: six round trips for one query",
    claim=(
        "With pool_pre_ping and a session a request for one row sends two BEGIN and two ROLLBACK and takes six round trips; in "
        "autocommit none of them and two round trips, and no request fails when the server closes its connections"
    ),
    parts=(17,),
    catalogue_ids=("pool-preping", "pool-autobegin"),
    before_after=BeforeAfter(
        each.service_p50_s,
        "for one row, database 20 ms away",
        FAR,
        "A request reads one row by its key; the database is 20 ms away, as in another availability zone or behind a proxy.",
    ),
    labels={
        "naive": "pool_pre_ping",
        "correct": "pool_pre_ping, autocommit",
        "tempting": "pool_recycle, no test",
    },
    symptoms=(
        "pool_pre_ping",
        "pool_recycle",
        "BEGIN ROLLBACK in the log",
        "too many round trips",
        "idle in transaction after SELECT",
        "autobegin",
        "asyncpg.exceptions.ConnectionDoesNotExistError",
        "connection was closed in the middle of operation",
        "server closed the connection unexpectedly",
        "InterfaceError: connection is closed",
        "BEGIN (implicit)",
        "isolation_level AUTOCOMMIT",
    ),
    services=("postgres",),
    queries={"begin": "BEGIN%", "rollback": "ROLLBACK%", "product": "SELECT id, name%"},
    conditions=(
        Condition(NEAR, ClosedLoad(1, requests=READS), user="Reader", quick_pairs=1),
        Condition(
            FAR,
            ClosedLoad(1, requests=READS),
            user="Reader",
            proxy=Proxy("postgres", delay(ONE_WAY_MS)),
            forced=True,
        ),
        Condition(
            CUT,
            Journey(1),
            user="Patient",
            events=(Event(1.0, "sql", statement=CLOSE_ALL, label="the server closes all connections"),),
            quick_pairs=1,
        ),
        Condition(
            IDLE,
            ClosedLoad(1, requests=READS),
            user="Idle",
            control=True,
            quick_pairs=1,
            variants=("naive", "correct"),
        ),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/products/7", body={"id": 7, "name": "Product 7", "price_cents": 107}),
        Probe("/products/100000", status=404),
    ),
    claims=(
        Claim(
            "begins",
            "harm",
            "each request begins two transactions",
            naive.sql_calls("begin"),
            predict=under(NEAR, value=2.0 * READS),
            tolerance=0.0,
            null=0.0,
            formula="2 N = 2 x 20: the ping's and the session's",
            source=SOURCE,
        ),
        Claim(
            "six",
            "harm",
            "and takes six round trips",
            naive.service_p50_s,
            predict=under(FAR, value=6 * ROUND_TRIP_S),
            tolerance=0.12,
            null=2 * ROUND_TRIP_S,
            formula="6 R = 6 x 20 ms",
            source=SOURCE,
        ),
        Claim(
            "one_query",
            "mechanism",
            "for one query",
            naive.sql_calls("product"),
            predict=under(NEAR, value=float(READS)),
            tolerance=0.0,
            formula="N = 20",
            source="the route",
        ),
        Claim(
            "rolled_back",
            "mechanism",
            "both transactions are rolled back",
            naive.sql_calls("rollback"),
            predict=under(NEAR, value=2.0 * READS),
            tolerance=0.0,
            null=0.0,
            formula="2 N = 2 x 20",
            source="SQLAlchemy documentation, Connection Pools, Reset On Return",
        ),
        Claim(
            "no_query",
            "mechanism",
            "a request without a query begins none",
            naive.sql_calls("begin"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=2.0 * READS,
            formula="0",
            source="a session takes its connection with its first query",
        ),
        Claim(
            "without",
            "mechanism",
            "without the test it is one transaction",
            tempting.sql_calls("begin"),
            predict=under(NEAR, value=float(READS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source="SQLAlchemy documentation, Session: a transaction begins with the first query",
        ),
        Claim(
            "three",
            "mechanism",
            "and three round trips",
            tempting.service_p50_s,
            predict=under(FAR, value=3 * ROUND_TRIP_S),
            tolerance=0.12,
            null=6 * ROUND_TRIP_S,
            formula="3 R = 3 x 20 ms",
            source="BEGIN, the query, ROLLBACK",
        ),
        Claim(
            "one_fails",
            "harm",
            "but when the server closes its connections the next request fails",
            tempting.status_count("503"),
            predict=under(CUT, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1: of one user at a time; the first error makes the pool drop the others",
            source="SQLAlchemy documentation, Disconnect Handling, Optimistic",
        ),
        Claim(
            "none_begun",
            "fix",
            "in autocommit no request begins a transaction",
            correct.sql_calls("begin"),
            predict=under(NEAR, value=0.0),
            tolerance=0.0,
            null=2.0 * READS,
            formula="0",
            source=SOURCE,
        ),
        Claim(
            "two",
            "fix",
            "and it takes two round trips: the test and the query",
            correct.service_p50_s,
            predict=under(FAR, value=2 * ROUND_TRIP_S),
            tolerance=0.12,
            null=6 * ROUND_TRIP_S,
            formula="2 R = 2 x 20 ms",
            source=SOURCE,
        ),
        Claim(
            "none_fails",
            "fix",
            "and no request fails when the server closes its connections",
            correct.status_count("503"),
            predict=under(CUT, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source="SQLAlchemy documentation, Disconnect Handling, Pessimistic",
        ),
        Claim(
            "ping_stays",
            "tax",
            "the test is still a round trip",
            correct.service_p50_s / tempting.service_p50_s,
            predict=under(FAR, value=2 / 3),
            tolerance=0.12,
            null=1 / 3,
            formula="2 R / 3 R; without it 1 R / 3 R",
            source=SOURCE,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.service_p50_s,
            "One row, 20 ms away: {six:.3f} s with pool_pre_ping, {two:.3f} s in autocommit",
            y_label="median for one row, s",
            conditions=(FAR,),
            theory=("six", "three", "two"),
        ),
        Chart(
            "counts",
            each.sql_calls("begin"),
            "Twenty reads begin {begins:.0f} transactions with pool_pre_ping, in autocommit {none_begun:.0f}",
            y_label="transactions begun",
            conditions=(NEAR,),
            theory=("begins", "without", "none_begun"),
        ),
    ),
    answer=(
        "A request for one row takes {six:.3f} s with pool_pre_ping where the database is 20 ms away (predicted "
        "{six.predicted:.3f} s), {two:.3f} s in autocommit, and {three:.3f} s without the test. "
        "Without it a request fails when the server closes its connections."
    ),
    survival=Survival(user="Reader", answer_within_s=5.5, recover_within_s=3.0),
)
