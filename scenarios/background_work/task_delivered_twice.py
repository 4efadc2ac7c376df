"""At least once: a task that is delivered d times has d effects, unless a key makes the later ones do nothing.

Deliveries are repeated by a visibility timeout, by a worker that dies before it acknowledges, by a client that sends again.  Here one transfer is
queued three times.  Looking first helps if the deliveries come one after the other: 1 effect.  If they run at once all look before one has paid: 3
effects.  A key that the provider remembers, and a unique row, make it 1 in any order.
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
    FinalRead,
    Journey,
    Probe,
    Scenario,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

DELIVERIES = 3
PAYS_S = 1.0  # longer than a pool process takes to begin its first task
MOST_WAIT_S = 12.0
AT_ONCE, IN_TURN, ONCE = "delivered 3 times at once", "delivered 3 times, one after the other", "delivered once"


class Client(LabUser):
    """Queues one transfer so many times, and waits until all deliveries have ended."""

    def journey(self) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            for number in range(1, int(self.params["deliveries"]) + 1):
                self.post("/transfers", name="transfer", json={"transfer_id": "transfer-1", "cents": 4200})
                if self.params["in_turn"]:
                    self.wait_for(database, number)
            self.wait_for(database, int(self.params["deliveries"]))

    def wait_for(self, database: psycopg.Connection, ended: int) -> None:
        """Until so many deliveries have ended."""
        deadline = time.monotonic() + MOST_WAIT_S
        while time.monotonic() < deadline:
            row = database.execute("SELECT count(*) FROM deliveries").fetchone()
            if row and row[0] >= ended:
                return
            gevent.sleep(0.05)


class Steady(LabUser):
    """Every transfer is another one."""

    sent = 0

    @task
    def transfer(self) -> None:
        self.sent += 1
        body = {"transfer_id": f"transfer-{self.number}-{self.sent}", "cents": 100}
        self.post("/transfers", name="transfer", json=body)


def delivered(label: str, deliveries: int, *, in_turn: bool = False, control: bool = False) -> Condition:
    """One transfer, queued so many times."""
    return Condition(
        label,
        Journey(1),
        user="Client",
        upstream=Upstream(PAYS_S),
        celery=CeleryWorker(concurrency=DELIVERIES),
        params={"deliveries": deliveries, "in_turn": in_turn},
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Celery task delivered twice: two payments (at-least-once delivery and idempotent tasks)",
    claim=(
        "A transfer that is delivered three times is paid three times, also where the task looks first and the deliveries run at "
        "once; with an idempotency key once"
    ),
    parts=(16, 8),
    catalogue_ids=("ce-idempotent", "ce-idempotent-check-race"),
    before_after=BeforeAfter(
        each.final("payments"),
        "payments for one transfer",
        AT_ONCE,
        "One transfer is delivered to three Celery processes at the same time.",
    ),
    labels={
        "naive": "pays at each delivery",
        "correct": "idempotency key, unique row",
        "tempting": "looks first, then pays",
    },
    symptoms=(
        "task executed twice",
        "celery duplicate execution",
        "visibility_timeout",
        "duplicate payment",
        "email sent twice",
        "acks_late duplicate",
        "at-least-once delivery",
        "idempotent task",
        "Idempotency-Key",
        "redelivered",
    ),
    services=("postgres", "redis", "upstream", "celery"),
    conditions=(
        delivered(AT_ONCE, DELIVERIES),
        delivered(IN_TURN, DELIVERIES, in_turn=True),
        delivered(ONCE, 1, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/transfers", method="POST", status=422, json={"transfer_id": "", "cents": 1}),
    ),
    final_reads=(
        FinalRead("payments", path="/payments", pointer="/effects"),
        FinalRead("requests", path="/payments", pointer="/requests"),
        FinalRead("rows", sql="SELECT count(*) FROM transfers"),
    ),
    claims=(
        Claim(
            "each_pays",
            "harm",
            "each delivery pays",
            naive.final("payments"),
            predict=under(AT_ONCE, IN_TURN, value=float(DELIVERIES)),
            tolerance=0.0,
            null=1.0,
            formula="d = 3",
            source="Celery documentation, Tasks: a task may be delivered more than once with acks_late",
            headline=AT_ONCE,
        ),
        Claim(
            "all_look",
            "harm",
            "who looks first pays as often, if the deliveries run at once",
            tempting.final("payments"),
            predict=under(AT_ONCE, value=float(DELIVERIES)),
            tolerance=0.0,
            null=1.0,
            formula="d = 3: all look before one has paid",
            source="check-then-act without a lock",
        ),
        Claim(
            "looks_in_turn",
            "mechanism",
            "and once, if they come one after the other",
            tempting.final("payments"),
            predict=under(IN_TURN, value=1.0),
            tolerance=0.0,
            null=float(DELIVERIES),
            formula="1",
            source="the row of the first one is there",
        ),
        Claim(
            "once",
            "mechanism",
            "delivered once all pay once",
            naive.final("payments"),
            predict=in_control(1.0),
            tolerance=0.0,
            formula="1",
            source="one delivery",
        ),
        Claim(
            "one_row",
            "mechanism",
            "the table shows one transfer all the same",
            naive.final("rows"),
            predict=under(AT_ONCE, value=1.0),
            tolerance=0.0,
            null=float(DELIVERIES),
            formula="1",
            source="the primary key: it protects the row, not the payment",
        ),
        Claim(
            "paid_once",
            "fix",
            "with an idempotency key the provider pays once",
            correct.final("payments"),
            predict=under(AT_ONCE, IN_TURN, ONCE, value=1.0),
            tolerance=0.0,
            null=float(DELIVERIES),
            formula="1",
            source="the provider remembers its keys, as payment providers do",
            headline=AT_ONCE,
        ),
        Claim(
            "asked_each_time",
            "tax",
            "but each delivery still asks it and waits",
            correct.final("requests"),
            predict=under(AT_ONCE, value=float(DELIVERIES)),
            tolerance=0.0,
            null=1.0,
            formula="d = 3 requests for 1 payment",
            source="the key is compared at the provider",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("payments"),
            "One transfer, three deliveries at once: {each_pays:.0f} payments, {all_look:.0f} when the task looks first, {paid_once:.0f} with a key",
            y_label="payments for one transfer",
            conditions=(AT_ONCE, IN_TURN, ONCE),
            theory=("each_pays", "all_look", "looks_in_turn", "once", "paid_once"),
        ),
    ),
    answer=(
        "A transfer that is delivered three times at once is paid {each_pays:.0f} times (predicted {each_pays.predicted:.0f}), "
        "{all_look:.0f} times when the task looks first, and {paid_once:.0f} time with an idempotency key."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        upstream=Upstream(0.05),
        celery=CeleryWorker(concurrency=2),
        limits={
            "correct: Celery worker killed": (
                "The jobs that ran come back after the broker's visibility timeout, an hour by default; none is lost."
            ),
        },
    ),
)
