"""Round trips a request with asyncpg's pool: the query, and on the way back a reset of four statements; without the reset what was set stays.

Connection.get_reset_query: SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL.  They are one message, so 2 R instead of R for a
request with one query.  Without it a setting of one request (SET, set_config with false) is that of the next one on the same connection; one that
ends with its transaction (SET LOCAL) is not.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

READS = 20
ROUNDS = 10
ONE_WAY_MS = 10
ROUND_TRIP_S = 2 * ONE_WAY_MS / 1000
NEAR, FAR, MIXED, IDLE = (
    "20 reads, database on this machine",
    "20 reads, database 20 ms away",
    "10 clients with a time zone, 10 without",
    "20 requests without a query",
)


class Reader(LabUser):
    @task
    def read_event(self) -> None:
        self.get(f"/events/{self.rng.randint(1, 100)}", name="event")


class Idle(LabUser):
    @task
    def health(self) -> None:
        self.get("/health", name="health")


class Mixed(LabUser):
    """A client in Tokyo, then one that names no zone and must see UTC, on the same connection."""

    def journey(self) -> None:
        for number in range(1, ROUNDS + 1):
            there = self.get(f"/events/{number}?zone=Asia/Tokyo", name="with a zone").json()
            here = self.get(f"/events/{number}", name="without").json()
            self.count("wrong_here", not here["at"].endswith("12:00"))
            self.count("wrong_there", not there["at"].endswith("21:00"))


class Steady(LabUser):
    """Now with a zone, now without."""

    @task
    def read_event(self) -> None:
        zone = self.rng.random() < 0.5
        reply = self.get("/events/1?zone=Asia/Tokyo" if zone else "/events/1", name="event")
        if reply.status == 200:
            self.count("wrong", not reply.json()["at"].endswith("21:00" if zone else "12:00"))


SOURCE = "asyncpg's source, connection.py, get_reset_query, and pool.py, PoolConnectionHolder.release"

SCENARIO = Scenario(
    title="asyncpg pool reset: two round trips and five statements for one query",
    claim=(
        "A request with one query takes two round trips because the pool resets the connection; without the reset one, and settings "
        "must then end with their transaction"
    ),
    parts=(17,),
    catalogue_ids=("pool-asyncpg-reset",),
    before_after=BeforeAfter(
        each.service_p50_s,
        "for one row, database 20 ms away",
        FAR,
        "A request reads one row by its key with asyncpg; the database is 20 ms away.",
    ),
    labels={
        "naive": "pool with its reset",
        "correct": "no reset, SET LOCAL",
        "tempting": "no reset, SET",
    },
    symptoms=(
        "pg_advisory_unlock_all",
        "CLOSE ALL",
        "UNLISTEN *",
        "RESET ALL",
        "asyncpg reset query",
        "asyncpg slow release",
        "search_path leaks between requests",
        "SET leaks between requests",
        "wrong tenant",
        "row level security current_setting",
    ),
    services=("postgres",),
    queries={
        "reset": "RESET ALL%",
        "unlock": "SELECT pg_advisory_unlock_all%",
        "begin": "BEGIN%",
        "event": "SELECT to_char%",
    },
    conditions=(
        Condition(NEAR, ClosedLoad(1, requests=READS), user="Reader", quick_pairs=1),
        Condition(
            FAR, ClosedLoad(1, requests=READS), user="Reader", proxy=Proxy("postgres", delay(ONE_WAY_MS)), forced=True
        ),
        Condition(MIXED, Journey(1), user="Mixed", quick_pairs=1),
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
        Probe("/events/1", body={"id": 1, "at": "2026-01-02 12:00"}),
        Probe("/events/101", status=404),
        Probe("/events/1?zone=Nowhere", status=422),
    ),
    claims=(
        Claim(
            "resets",
            "harm",
            "each request resets its connection",
            naive.sql_calls("reset"),
            predict=under(NEAR, value=float(READS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source=SOURCE,
        ),
        Claim(
            "two_trips",
            "harm",
            "and takes two round trips",
            naive.service_p50_s,
            predict=under(FAR, value=2 * ROUND_TRIP_S),
            tolerance=0.12,
            null=ROUND_TRIP_S,
            formula="2 R = 2 x 20 ms",
            source=SOURCE,
        ),
        Claim(
            "unlocks",
            "mechanism",
            "the reset is four statements",
            naive.sql_calls("unlock"),
            predict=under(NEAR, value=float(READS)),
            tolerance=0.0,
            formula="N = 20 of each",
            source=SOURCE,
        ),
        Claim(
            "idle",
            "mechanism",
            "a request without a query resets nothing",
            naive.sql_calls("reset"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(READS),
            formula="0",
            source="no connection was taken",
        ),
        Claim(
            "leaks",
            "harm",
            "without the reset a setting of one request is that of the next",
            tempting.observed("wrong_here"),
            predict=under(MIXED, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10 on one connection",
            source="PostgreSQL documentation, SET: it lasts until the session ends",
        ),
        Claim(
            "no_reset",
            "fix",
            "with settings that end with their transaction nothing has to be reset",
            correct.sql_calls("reset"),
            predict=under(NEAR, MIXED, value=0.0),
            tolerance=0.0,
            null=float(READS),
            formula="0",
            source=SOURCE,
            headline=NEAR,
        ),
        Claim(
            "one_trip",
            "fix",
            "a query is one round trip",
            correct.service_p50_s,
            predict=under(FAR, value=ROUND_TRIP_S),
            tolerance=0.12,
            null=2 * ROUND_TRIP_S,
            formula="R = 20 ms",
            source="the statement is prepared already",
        ),
        Claim(
            "nothing_left",
            "fix",
            "and nothing is left behind",
            correct.observed("wrong_here"),
            predict=under(MIXED, value=0.0),
            tolerance=0.0,
            null=float(ROUNDS),
            formula="0 of 10",
            source="PostgreSQL documentation, SET LOCAL: it lasts until the end of the transaction",
        ),
        Claim(
            "transactions",
            "tax",
            "but a request that sets something needs a transaction",
            correct.sql_calls("begin"),
            predict=under(MIXED, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 20 requests",
            source="SET LOCAL has no effect outside a transaction",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.service_p50_s,
            "One row, 20 ms away: {two_trips:.3f} s with the pool's reset, {one_trip:.3f} s without it",
            y_label="median for one row, s",
            conditions=(FAR,),
            theory=("two_trips", "one_trip"),
        ),
        Chart(
            "counts",
            each.observed("wrong_here"),
            "Without the reset a SET is there for the next client: {leaks:.0f} of 10 answers wrong; with SET LOCAL {nothing_left:.0f}",
            y_label="answers in another client's time zone",
            conditions=(MIXED,),
            theory=("leaks", "nothing_left"),
        ),
    ),
    answer=(
        "A request for one row takes {two_trips:.3f} s with the pool's reset where the database is 20 ms away (predicted "
        "{two_trips.predicted:.3f} s), and {one_trip:.3f} s without it. Without the reset a SET leaks into {leaks:.0f} of 10 later requests; "
        "SET LOCAL into {nothing_left:.0f}."
    ),
    survival=Survival(
        user="Steady", answer_within_s=3.5, recover_within_s=3.0, ledger={"wrong": each.observed("wrong")}
    ),
)
