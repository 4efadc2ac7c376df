"""A prepared statement is planned with its values five times and then without them; an upsert that needs a value to find its index fails then.

PostgreSQL tries a generic plan when a prepared statement has run five times (choose_custom_plan in plancache.c).  ON CONFLICT (email) WHERE status =
$4 matches no index unless $4 is known, so planning itself raises: 5 successes for each connection, then none.  asyncpg prepares every statement at
once.  psycopg prepares what has run five times and forgets all it has prepared after a ROLLBACK: 10 succeed, the 11th fails, and it begins anew.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

with_psycopg = Arm("with_psycopg")

CUSTOM_PLANS = 5  # of a prepared statement before a generic one is tried, plancache.c
PREPARE_THRESHOLD = 5  # of psycopg
REQUESTS = 80
ONE, FOUR, FEW = "80 requests, 1 connection", "80 requests, 4 connections", "5 requests, 1 connection"


class Subscriber(LabUser):
    @task
    def subscribe(self) -> None:
        body = {"email": f"user{self.rng.randint(1, 1000)}@example.org", "plan": "basic"}
        reply = self.put("/subscriptions", name="subscribe", json=body, expect=(200, 500))
        if reply.status == 500:
            self.reconnect()  # uvicorn closes a connection on which a request has raised


class Steady(LabUser):
    @task
    def subscribe(self) -> None:
        body = {"email": f"user{self.rng.randint(1, 1000)}@example.org", "plan": "basic"}
        self.put("/subscriptions", name="subscribe", json=body)


def asked(label: str, connections: int, requests: int, *, control: bool = False) -> Condition:
    """So many requests, as many at once as there are connections."""
    return Condition(
        label,
        ClosedLoad(connections, requests=requests),
        user="Subscriber",
        env={"POOL_SIZE": str(connections)},
        params={"connections": connections},
        control=control,
        quick_pairs=1,
    )


def every_eleventh(condition: Condition) -> float:
    """Of each connection's share, one after each ten."""
    connections = condition.number("connections")
    return connections * (REQUESTS // connections // (PREPARE_THRESHOLD + CUSTOM_PLANS + 1))


PLANCACHE = "PostgreSQL documentation, PREPARE, Notes: the first five executions have custom plans"

SCENARIO = Scenario(
    title="Upsert fails from the sixth time: no unique or exclusion constraint matching the ON CONFLICT specification",
    claim=(
        "An upsert on a partial index whose condition has a parameter succeeds 5 times for each connection and fails from the sixth "
        "on; with the value written out 80 of 80 succeed"
    ),
    parts=(17,),
    catalogue_ids=("pool-upsert-generic-plan",),
    before_after=BeforeAfter(
        each.status_count("200"),
        "upserts of 80 succeed",
        ONE,
        "A client saves its subscription 80 times over one database connection.",
    ),
    labels={
        "naive": "condition with a parameter",
        "correct": "condition written out",
        "with_psycopg": "with a parameter, psycopg",
    },
    symptoms=(
        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        "InvalidColumnReferenceError",
        "psycopg.errors.InvalidColumnReference",
        "sqlalchemy.exc.ProgrammingError",
        "42P10",
        "works five times then fails",
        "fails after some requests",
        "on_conflict_do_update index_where",
        "partial unique index",
        "generic plan",
        "plan_cache_mode",
        "prepared statement",
    ),
    services=("postgres",),
    queries={"upsert": "INSERT INTO subscriptions%"},
    conditions=(asked(ONE, 1, REQUESTS), asked(FOUR, 4, REQUESTS), asked(FEW, 1, CUSTOM_PLANS, control=True)),
    probes=(Probe("/health", body={"status": "ok"}),),
    claims=(
        Claim(
            "five",
            "harm",
            "five succeed for each connection",
            naive.status_count("200"),
            predict=under(ONE, FOUR, value=lambda c: CUSTOM_PLANS * c.number("connections")),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="5 P",
            source=PLANCACHE,
            headline=ONE,
        ),
        Claim(
            "then_none",
            "harm",
            "and every one after them fails",
            naive.status_count("500"),
            predict=under(ONE, FOUR, value=lambda c: REQUESTS - CUSTOM_PLANS * c.number("connections")),
            tolerance=0.0,
            null=0.0,
            formula="N - 5 P",
            source="planning without the value raises, each time anew",
            headline=ONE,
        ),
        Claim(
            "eleventh",
            "harm",
            "with psycopg every eleventh fails",
            with_psycopg.status_count("500"),
            predict=under(ONE, FOUR, value=every_eleventh),
            tolerance=0.0,
            null=0.0,
            formula="P floor(N / P / 11)",
            source="psycopg's source, _preparing.py: prepared after 5 executions, cleared after a ROLLBACK",
            headline=ONE,
        ),
        Claim(
            "few",
            "mechanism",
            "who tries five times sees nothing",
            naive.status_count("200"),
            predict=in_control(float(CUSTOM_PLANS)),
            tolerance=0.0,
            formula="5 of 5",
            source=PLANCACHE,
        ),
        Claim(
            "all",
            "fix",
            "with the value written out all succeed",
            correct.status_count("200"),
            predict=under(ONE, FOUR, value=float(REQUESTS)),
            tolerance=0.0,
            null=float(CUSTOM_PLANS),
            formula="N = 80",
            source="PostgreSQL documentation, INSERT: index_predicate is used to infer the partial index",
            headline=ONE,
        ),
        Claim(
            "one_statement",
            "tax",
            "each is one statement, as before",
            correct.sql_calls("upsert"),
            predict=under(ONE, value=float(REQUESTS)),
            tolerance=0.0,
            formula="N = 80",
            source="the same statement, with a literal",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("200"),
            "80 upserts on one connection: {five:.0f} succeed with a parameter, {all:.0f} with the value written out",
            y_label="upserts that succeed",
            conditions=(ONE, FOUR, FEW),
            theory=("five", "all", "few"),
        ),
    ),
    answer=(
        "Of 80 upserts over one connection {five:.0f} succeed when the condition of the index has a parameter (predicted "
        "{five.predicted:.0f}), and {all:.0f} when its value is written out. With psycopg {eleventh:.0f} of 80 fail, every eleventh."
    ),
    survival=Survival(user="Steady", answer_within_s=5.5, recover_within_s=3.0),
)
