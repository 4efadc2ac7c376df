"""task.delay() is synchronous: for as long as the broker takes, a route that calls it on the event loop serves nobody.

Forced: Redis hangs until 3 s after the start, and one client queues a job 0.5 s after it.  On the loop everybody waits for the other 2.5 s; in a
thread nobody does, and the client hears after 2 s that the queue is away.  In a background task the client is told 202 before anybody has tried:
while the broker refuses all N are accepted and none is queued.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, FinalRead, Journey, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, REFUSE, STALL
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

QUEUED_S, BACK_S = 0.5, 3.0  # when the job is queued, when the broker answers again
PUBLISH_TIMEOUT_S = 2.0  # PUBLISH_TIMEOUT_S in correct.py
JOBS = 3
HANGS, REFUSES, FINE = "the broker hangs for 3 s", "the broker refuses", "the broker answers"
BODY = {"template": "invoice"}


class Visitor(LabUser):
    """The first one queues a job while the broker hangs; the second one asks for the health of the server all the time."""

    def journey(self) -> None:
        began = time.monotonic()
        if self.number == 0:
            gevent.sleep(QUEUED_S)
            self.post("/renderings", name="queue", json=BODY, expect=(202, 503))
            return
        while time.monotonic() - began < BACK_S + 0.5:
            self.get("/health", name="health")
            gevent.sleep(0.05)


class Client(LabUser):
    """Queues some jobs, and counts those that were accepted."""

    def journey(self) -> None:
        for _ in range(JOBS):
            reply = self.post("/renderings", name="queue", json=BODY, expect=(202, 503))
            self.count("accepted", reply.status == 202)


class Steady(LabUser):
    @task
    def queue(self) -> None:
        self.post("/renderings", name="queue", json=BODY)


SCENARIO = Scenario(
    title="task.delay() in an async route blocks the event loop while the broker hangs (Celery)",
    claim=(
        "While Redis hangs for 2.5 s a task.delay() in an async route makes all other clients wait 2.5 s; in a thread they wait "
        "milliseconds"
    ),
    parts=(8, 16),
    catalogue_ids=("bg-celery-delay-blocks-loop",),
    before_after=BeforeAfter(
        each.latency_max_s("health"),
        "longest wait of another client",
        HANGS,
        "A client queues a Celery job; Redis hangs for another 2.5 s; a second client asks for the health of the server.",
    ),
    labels={
        "naive": "delay() in an async route",
        "correct": "in a thread, 2 s at most",
        "tempting": "in a BackgroundTask",
    },
    symptoms=(
        "celery delay blocks",
        "apply_async hangs",
        "kombu.exceptions.OperationalError",
        "Error 111 connecting to",
        "Connection refused",
        "event loop blocked",
        "health check fails when Redis is down",
        "liveness probe failed",
        "delay() slow",
        "async def celery",
    ),
    services=("redis",),
    conditions=(
        Condition(
            HANGS,
            Journey(2),
            user="Visitor",
            proxy=Proxy("redis", STALL),
            events=(Event(BACK_S, "fault", statement=PASS, label="the broker answers again"),),
            forced=True,
        ),
        Condition(
            REFUSES,
            Journey(1),
            user="Client",
            proxy=Proxy("redis", REFUSE),
            forced=True,
            quick_pairs=1,
            variants=("correct", "tempting"),
        ),
        Condition(FINE, Journey(1), user="Client", control=True, quick_pairs=1),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/renderings", method="POST", status=422, json={"template": ""}),
    ),
    final_reads=(FinalRead("queued", redis=("LLEN", "celery")),),
    claims=(
        Claim(
            "all_wait",
            "harm",
            "all other clients wait until the broker answers",
            naive.latency_max_s("health"),
            predict=under(HANGS, value=BACK_S - QUEUED_S),
            tolerance=0.1,
            null=0.05,
            formula="3.0 - 0.5 s",
            source="kombu is synchronous; a loop that waits for a socket runs nothing else",
        ),
        Claim(
            "loop",
            "mechanism",
            "the event loop is blocked for that time",
            naive.loop_lag_max_s,
            predict=under(HANGS, value=BACK_S - QUEUED_S),
            tolerance=0.1,
            null=0.05,
            formula="3.0 - 0.5 s",
            source="the call is on the loop",
        ),
        Claim(
            "accepted_unqueued",
            "harm",
            "a background task accepts jobs that nobody has queued",
            tempting.observed("accepted"),
            predict=under(REFUSES, value=float(JOBS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 3",
            source="the answer is sent before the task runs",
        ),
        Claim(
            "none_queued",
            "mechanism",
            "none of which is in the queue",
            tempting.final("queued"),
            predict=under(REFUSES, value=0.0),
            tolerance=0.0,
            formula="0",
            source="the broker refuses",
        ),
        Claim(
            "fine",
            "mechanism",
            "while the broker answers all variants queue every job",
            naive.final("queued"),
            predict=in_control(float(JOBS)),
            tolerance=0.0,
            formula="N = 3",
            source="one message for each job, and no worker takes them",
        ),
        Claim(
            "nobody_waits",
            "fix",
            "in a thread nobody else waits",
            correct.latency_max_s("health"),
            relation="at_most",
            predict=under(HANGS, value=0.25),
            tolerance=0.0,
            null=BACK_S - QUEUED_S,
            formula="a tenth of the hang: a thread and the loop share the GIL while Celery's parts are imported",
            source="the thread waits, the loop does not",
        ),
        Claim(
            "told",
            "fix",
            "and a client whose job was not queued is told",
            correct.observed("accepted"),
            predict=under(REFUSES, value=0.0),
            tolerance=0.0,
            null=float(JOBS),
            formula="0 of 3 accepted",
            source="503 is the answer to an error of the broker",
        ),
        Claim(
            "answer",
            "tax",
            "the client itself waits for the broker, two seconds at most",
            correct.latency_max_s("queue"),
            predict=under(HANGS, value=PUBLISH_TIMEOUT_S),
            tolerance=0.1,
            null=0.0,
            formula="the time-out, 2 s",
            source="asyncio.timeout",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.latency_max_s("health"),
            "Redis hangs while a job is queued: others wait {all_wait:.1f} s on the loop, {nobody_waits:.2f} s beside a thread",
            y_label="longest wait of another client, s",
            conditions=(HANGS,),
            theory=("all_wait", "nobody_waits"),
        ),
        Chart(
            "timeline",
            each.loop_lag_max_s,
            "The event loop stops when delay() is called, until the broker answers",
            y_label="longest pause of the event loop, s",
            conditions=(HANGS,),
        ),
        Chart(
            "counts",
            each.observed("accepted"),
            "The broker refuses: a BackgroundTask accepts {accepted_unqueued:.0f} of 3 jobs that nobody queues, a thread {told:.0f}",
            y_label="jobs answered 202",
            conditions=(REFUSES,),
            theory=("accepted_unqueued", "told"),
        ),
    ),
    answer=(
        "While Redis hangs, a task.delay() on the event loop makes others wait {all_wait:.2f} s (predicted {all_wait.predicted:.2f} s), "
        "in a thread {nobody_waits:.2f} s. In a BackgroundTask {accepted_unqueued:.0f} of 3 jobs are accepted while the broker refuses all."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0),
)
