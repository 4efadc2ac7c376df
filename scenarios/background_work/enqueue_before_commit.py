"""A database and a broker share no transaction: a job queued before the commit may run before it, one queued after it may never be queued.

Forced: a commit takes 0.2 s (a deferred trigger, as a synchronous replica or a slow disk has it), so every job that is queued inside the transaction
looks for its order before it is visible: N misses of N.  Queued after the commit none misses, and a process that is killed in between leaves one
order without a job.  A row of the same transaction is there exactly if the order is, and whoever lives queues it.
"""

import os
import time

import gevent
import psycopg
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    CeleryWorker,
    Chart,
    Claim,
    Condition,
    Event,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, delay
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

ORDERS = 10
KILL_S = (
    0.35  # the order is committed, and the first publication of a process still greets its broker, 0.4 s for each word
)
MOST_WAIT_S = 8.0
SLOW, KILLED, FINE = "a commit takes 0.2 s", "killed between commit and publication", "nothing is slow and nobody dies"
SLOW_COMMIT = """
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION take_time();
"""
OPEN = """SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT FROM receipts r WHERE r.order_id = o.id)
    AND NOT EXISTS (SELECT FROM misses m WHERE m.order_id = o.id)"""


class Buyer(LabUser):
    """Orders, and waits until each order has its receipt, or until nobody can be expected to write one any more."""

    def journey(self) -> None:
        began = time.monotonic()
        for number in range(int(self.params["orders"])):
            self.post("/orders", name="order", json={"sku": f"SKU-{number}"})
        if self.params["killed"]:
            gevent.sleep(max(0.0, 3 * KILL_S - (time.monotonic() - began)))
        deadline = time.monotonic() + MOST_WAIT_S
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            while time.monotonic() < deadline:
                gevent.sleep(0.1)
                row = database.execute(OPEN).fetchone()
                if row and row[0] == 0:
                    return


class Steady(LabUser):
    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"sku": "SKU-1"})


def ordered(
    label: str,
    orders: int,
    *,
    killed: bool = False,
    setup_sql: str = "",
    variants: tuple[str, ...] = (),
    control: bool = False,
) -> Condition:
    """So many orders, one after the other."""
    events = (
        Event(KILL_S, "kill", "server", label="the server is killed"),
        Event(KILL_S + 0.1, "fault", statement=PASS, label="the broker is near again"),
        Event(KILL_S + 0.2, "start", "server", label="the server starts again"),
    )
    return Condition(
        label,
        Journey(1),
        user="Buyer",
        celery=CeleryWorker(concurrency=1),
        proxy=Proxy("redis", delay(200)) if killed else None,
        events=events if killed else (),
        forced=bool(killed or setup_sql),
        setup_sql=setup_sql,
        params={"orders": orders, "killed": killed},
        variants=variants,
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Celery task finds no row: queued before the commit (and the outbox that mends it)",
    claim=(
        "Of ten jobs that are queued inside the transaction ten find no order while a commit takes 0.2 s; queued after it a crash in "
        "between loses the job; as a row of the transaction none is missed and none is lost"
    ),
    parts=(8, 16),
    catalogue_ids=("bg-publish-before-commit", "bg-publish-after-commit-loss", "ce-publish-before-commit"),
    before_after=BeforeAfter(
        each.final("misses"),
        "of 10 jobs find no order",
        SLOW,
        "Ten orders come one after the other; each queues a Celery job; a commit takes 0.2 s.",
    ),
    labels={
        "naive": "delay() inside the transaction",
        "correct": "outbox row and relay",
        "tempting": "delay() after the commit",
    },
    symptoms=(
        "DoesNotExist in Celery task",
        "task runs before commit",
        "transaction.on_commit",
        "row not found in background task",
        "NoResultFound",
        "order does not exist",
        "transactional outbox",
        "dual write",
        "race condition celery database",
        "apply_async after commit",
        "email never sent",
    ),
    services=("postgres", "redis", "celery"),
    conditions=(
        ordered(SLOW, ORDERS, setup_sql=SLOW_COMMIT),
        ordered(KILLED, 1, killed=True, variants=("tempting", "correct")),
        ordered(FINE, ORDERS, control=True, variants=("tempting", "correct")),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/orders", method="POST", json={"sku": ""}, status=422)),
    final_reads=(
        FinalRead("misses", sql="SELECT count(*) FROM misses"),
        FinalRead("receipts", sql="SELECT count(*) FROM receipts"),
        FinalRead("lost", sql=OPEN),
        FinalRead("orders", sql="SELECT count(*) FROM orders"),
    ),
    claims=(
        Claim(
            "missed",
            "harm",
            "every job looks for its order before the commit",
            naive.final("misses"),
            predict=under(SLOW, value=float(ORDERS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10: a job is there within milliseconds, a commit after 200",
            source="PostgreSQL documentation, Transaction Isolation: Read Committed sees what was committed before",
        ),
        Claim(
            "committed",
            "mechanism",
            "although all orders are committed in the end",
            naive.final("orders"),
            predict=under(SLOW, value=float(ORDERS)),
            tolerance=0.0,
            formula="N = 10",
            source="the commit follows",
        ),
        Claim(
            "lost",
            "harm",
            "queued after the commit, a crash in between leaves an order without a job",
            tempting.final("lost"),
            predict=under(KILLED, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1 of 1",
            source="nobody else knows that it should have been queued",
        ),
        Claim(
            "after_is_seen",
            "mechanism",
            "queued after the commit none misses its order",
            tempting.final("misses"),
            predict=under(SLOW, value=0.0),
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source="the order is visible when the job is queued",
        ),
        Claim(
            "none_missed",
            "fix",
            "with an outbox none misses its order",
            correct.final("misses"),
            predict=under(SLOW, KILLED, FINE, value=0.0),
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source="the relay sees committed rows only",
            headline=SLOW,
        ),
        Claim(
            "none_lost",
            "fix",
            "and a crash loses none",
            correct.final("lost"),
            predict=under(KILLED, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source="the row is there for the next process",
        ),
        Claim(
            "all_sent",
            "mechanism",
            "while nothing is slow and nobody dies all receipts are written",
            correct.final("receipts"),
            predict=in_control(float(ORDERS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source="each row is queued once",
        ),
        Claim(
            "rows",
            "tax",
            "each job is a row that is written, leased and deleted",
            correct.sql_calls("delete"),
            predict=in_control(float(ORDERS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10 of each",
            source="the outbox",
        ),
    ),
    queries={"delete": "DELETE FROM outbox%"},
    charts=(
        Chart(
            "counts",
            each.final("misses"),
            "Ten jobs, a slow commit: {missed:.0f} find no order inside the transaction, {none_missed:.0f} from an outbox",
            y_label="jobs that found no order",
            conditions=(SLOW,),
            theory=("missed", "after_is_seen", "none_missed"),
        ),
        Chart(
            "counts",
            each.final("lost"),
            "Killed between commit and publication: {lost:.0f} order without a job; with an outbox {none_lost:.0f}",
            y_label="orders without a receipt",
            conditions=(KILLED,),
            theory=("lost", "none_lost"),
        ),
    ),
    answer=(
        "While a commit takes 0.2 s {missed:.0f} of 10 jobs that were queued inside the transaction find no order (predicted "
        "{missed.predicted:.0f}). Queued after it a crash in between loses {lost:.0f} of 1; from an outbox {none_missed:.0f} are missed and "
        "{none_lost:.0f} lost."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        celery=CeleryWorker(concurrency=1),
        ledger={"missed": each.final("misses")},
    ),
)
