"""A node reserves c m jobs (c pool processes, multiplier m) beyond those that run when a job is acknowledged as it starts, none when late and m = 1.

Two nodes of one process, one long job first, then many short ones: the node with the long job takes m of them and keeps them until it is done.
Stranded are the short jobs that start after the long one has ended, while the other node had long been idle: m, exactly.  All is done m short jobs
later, after L + m s instead of L; of the two nodes' time 2 (L + m s) only L + N s was work, the rest is idle.  A node with a free process strands
nothing: Celery's default scheduling gives what the node has reserved to whichever of its processes is free.
"""

import os
import time

import gevent
import redis
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, CeleryWorker, Chart, Claim, Condition, FinalRead, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

disable_prefetch = Arm("disable_prefetch")
tempting = Arm("tempting")

LONG_S = 2.5
SHORT_S = 0.1
SHORT_JOBS = 16  # N: more than a node reserves, few enough for the other node to end them before the long job ends
MOST_WAIT_S = 30.0
MULTIPLIER = {"naive": 4, "correct": 0, "tempting": 1}  # jobs reserved beyond the running one, per process
ONE_LONG, RABBITMQ, FREE, BUSY, SHORT = (
    "2 nodes, a long job first",
    "2 nodes, a long job first, RabbitMQ",
    "1 node of 2 processes, one busy",
    "1 node of 2 processes, both busy",
    "2 nodes, short jobs only",
)


class Client(LabUser):
    """Queues the jobs, looks what the nodes have reserved while the long ones run, and waits for the end."""

    def journey(self) -> None:
        long_jobs = int(self.params["long_jobs"])
        for _ in range(long_jobs):
            self.queue(LONG_S)
        gevent.sleep(0.3)  # the long ones run by now
        for _ in range(SHORT_JOBS):
            self.queue(SHORT_S)
        gevent.sleep(0.5)  # the nodes have reserved what they can
        if "AMQP_URL" not in os.environ:  # with RabbitMQ the broker knows, and nobody here asks it
            with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
                self.count("unacked", broker.hlen("unacked"))
        deadline = time.monotonic() + MOST_WAIT_S
        while self.get("/renderings", name="progress").json()["finished"] < long_jobs + SHORT_JOBS:
            if time.monotonic() > deadline:
                self.count("unfinished")
                return
            gevent.sleep(0.1)

    def queue(self, seconds: float) -> None:
        """One job."""
        self.post("/renderings", name="queue", json={"seconds": seconds})


class Steady(Client):
    """Queues short jobs again and again, and asks how many are done."""

    @task
    def steadily(self) -> None:
        self.queue(SHORT_S / 10)
        self.get("/renderings", name="progress")


def stranded(condition: Condition, value: float) -> float | None:
    """``value`` where a long job runs on one of two nodes, whatever the broker."""
    return value if condition.label in (ONE_LONG, RABBITMQ) else None


def labelled(condition: Condition, label: str, value: float) -> float | None:
    """``value`` under that condition."""
    return value if condition.label == label else None


def nodes(
    label: str,
    count: int,
    processes: int,
    long_jobs: int,
    *,
    pairs: int = 1,
    control: bool = False,
    variants: tuple[str, ...] = (),
    services: tuple[str, ...] = (),
) -> Condition:
    """Sixteen short jobs, after this many long ones."""
    return Condition(
        label,
        Journey(1),
        user="Client",
        celery=CeleryWorker(concurrency=processes, workers=count),
        quick_pairs=pairs,
        control=control,
        variants=variants,
        services=services,
        params={"nodes": count, "long_jobs": long_jobs, "processes": processes},
    )


SCENARIO = Scenario(
    title="Celery prefetch: short jobs stuck behind a long one",
    claim=(
        "Behind one long job 4 of 16 short jobs wait although another worker is idle; with acks_late and a "
        "multiplier of 1 none waits"
    ),
    parts=(16, 8),
    catalogue_ids=("ce-prefetch-stranding", "ce-prefetch-per-process", "ce-seed-config"),
    before_after=BeforeAfter(
        each.final("stranded"),
        "short jobs stuck behind the long one",
        ONE_LONG,
        "Two Celery workers get one long job and sixteen short ones.",
    ),
    labels={
        "naive": "Celery, default prefetch of 4",
        "tempting": "multiplier 1",
        "correct": "multiplier 1 and acks_late",
        "disable_prefetch": "worker_disable_prefetch, early ack",
    },
    symptoms=(
        "worker_prefetch_multiplier",
        "CELERYD_PREFETCH_MULTIPLIER",
        "tasks stuck in reserved",
        "celery inspect reserved",
        "idle workers while tasks wait",
        "queue is empty but tasks are not executed",
        "acks_late",
        "disable-prefetch",
        "-O fair",
        "head-of-line blocking",
        "slow",
        "hang",
    ),
    services=("postgres", "redis", "celery"),
    conditions=(
        nodes(ONE_LONG, 2, 1, 1),
        nodes(RABBITMQ, 2, 1, 1, variants=("naive", "tempting", "correct"), services=("rabbitmq",)),
        nodes(BUSY, 1, 2, 2),
        nodes(FREE, 1, 2, 1, variants=("naive", "correct")),
        nodes(SHORT, 2, 1, 0, pairs=3, control=True, variants=("naive", "correct")),
    ),
    probes=(
        Probe("/renderings", body={"finished": 0}, after=False),
        Probe("/renderings", method="POST", json={"seconds": -1}, status=422),
    ),
    final_reads=(
        FinalRead(
            "stranded",
            sql=(
                "SELECT count(*) FROM runs WHERE seconds < 1 AND started_at >= coalesce((SELECT min(finished_at) "
                "FROM runs WHERE seconds > 1), 'infinity')"
            ),
        ),
        FinalRead("deliveries", sql="SELECT sum(deliveries) FROM runs"),
        FinalRead("doubled", sql="SELECT count(*) FROM runs WHERE results > 1"),
        FinalRead(each.makespan_s, sql="SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM runs"),
        FinalRead(
            "idle_s",
            sql=(
                "SELECT 2 * extract(epoch FROM max(finished_at) - min(started_at)) - sum(extract(epoch FROM "
                "finished_at - started_at)) FROM runs"
            ),
        ),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        ledger={"doubled": each.final("doubled")},
        variants=("correct", "disable_prefetch"),
        celery=CeleryWorker(concurrency=2),
        limits={
            "correct: Celery worker killed": (
                "The jobs that ran come back after the broker's visibility timeout, an hour by default; none is lost."
            ),
            "disable_prefetch: Celery worker killed": (
                "The jobs that ran are lost, because they were acknowledged when they started."
            ),
        },
    ),
    claims=(
        Claim(
            "stranded",
            "harm",
            "four short jobs wait for the long one while the other node is idle",
            naive.final("stranded"),
            predict=lambda c: stranded(c, MULTIPLIER["naive"]),
            tolerance=0.0,
            null=0.0,
            formula="m = 4, the multiplier",
            source="Celery documentation, Optimizing, Prefetch Limits: multiplier times processes",
            headline=ONE_LONG,
        ),
        Claim(
            "reserved",
            "mechanism",
            "a node of two processes reserves eight jobs beyond the two that run",
            naive.observed("unacked"),
            predict=lambda c: labelled(c, BUSY, c.number("processes") * MULTIPLIER["naive"]),
            tolerance=0.0,
            formula="c m = 2 x 4, two processes times the multiplier",
            source="Celery documentation, Optimizing, Prefetch Limits; the running ones are acknowledged already",
        ),
        Claim(
            "makespan",
            "harm",
            "all is done four short jobs later than the long one",
            naive.final("makespan_s"),
            predict=lambda c: stranded(c, LONG_S + MULTIPLIER["naive"] * SHORT_S),
            tolerance=0.06,
            null=LONG_S,
            formula="L + m s = 2.5 + 4 x 0.1",
            source="the reserved jobs run after the long one, one after the other",
            headline=ONE_LONG,
        ),
        Claim(
            "idle",
            "mechanism",
            "meanwhile the other node has nothing to do",
            naive.final("idle_s"),
            predict=lambda c: stranded(c, LONG_S + (2 * MULTIPLIER["naive"] - SHORT_JOBS) * SHORT_S),
            tolerance=0.2,
            null=LONG_S - SHORT_JOBS * SHORT_S,
            formula="2 (L + m s) - (L + N s) node-seconds",
            source="what one node has reserved no other node can take",
            headline=ONE_LONG,
        ),
        Claim(
            "none_long",
            "mechanism",
            "without a long job nothing waits",
            naive.final("stranded"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="what is reserved runs at once",
        ),
        Claim(
            "fair",
            "mechanism",
            "nor does it in a node that has a free process",
            naive.final("stranded"),
            predict=under(FREE, value=0.0),
            tolerance=0.0,
            null=float(MULTIPLIER["naive"]),
            formula="0",
            source="Celery documentation, Optimizing, Prefork pool prefetch settings: -O fair is the default since 4.0",
        ),
        Claim(
            "still_one",
            "harm",
            "with a multiplier of 1 alone one short job still waits",
            tempting.final("stranded"),
            predict=lambda c: stranded(c, MULTIPLIER["tempting"]),
            tolerance=0.0,
            formula="m = 1",
            source="Celery documentation, Optimizing, Reserve one task at a time: it takes acks_late as well",
            headline=ONE_LONG,
        ),
        Claim(
            "fixed",
            "fix",
            "with acks_late and a multiplier of 1 no job waits",
            correct.final("stranded"),
            predict=lambda c: stranded(c, 0.0),
            tolerance=0.0,
            formula="c m - c = 0",
            source="Celery documentation, Optimizing, Reserve one task at a time",
            headline=ONE_LONG,
        ),
        Claim(
            "disabled",
            "fix",
            "nor does any with worker_disable_prefetch",
            disable_prefetch.final("stranded"),
            predict=under(ONE_LONG, value=0.0),
            tolerance=0.0,
            null=float(MULTIPLIER["tempting"]),
            formula="0",
            source="Celery documentation, Configuration, worker_disable_prefetch",
        ),
        Claim(
            "only_running",
            "fix",
            "what is unacknowledged is what runs",
            correct.observed("unacked"),
            predict=lambda c: labelled(c, BUSY, c.number("processes")),
            tolerance=0.0,
            formula="c = 2 processes",
            source="Celery documentation, task_acks_late: acknowledged when it has run",
        ),
        Claim(
            "makespan_fixed",
            "fix",
            "all is done when the long job is",
            correct.final("makespan_s"),
            predict=lambda c: stranded(c, LONG_S),
            tolerance=0.06,
            formula="L, as N s = 1.6 s is less",
            source="the other node has done all the short ones by then",
            headline=ONE_LONG,
        ),
        Claim(
            "once",
            "mechanism",
            "every job was delivered once: late acknowledgement alone repeats nothing",
            correct.final("deliveries"),
            predict=lambda c: SHORT_JOBS + c.number("long_jobs"),
            tolerance=0.0,
            formula="N and the long ones",
            source="a second delivery needs a crash or a job beyond the visibility timeout",
            headline=ONE_LONG,
        ),
        Claim(
            "fetch",
            "tax",
            "short jobs alone take hardly longer without a reserve",
            correct.final("makespan_s") / naive.final("makespan_s"),
            predict=in_control(1.0),
            relation="at_most",
            tolerance=0.10,
            formula="1: two round trips to the broker on this machine against a job of 100 ms",
            source="Celery documentation, Optimizing, Prefetch Limits: a reserve saves the time of a round trip",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("stranded"),
            "Behind one long job {stranded:.0f} short ones wait while a node idles; with acks_late {fixed:.0f}",
            y_label="jobs started after the long one ended",
            conditions=(ONE_LONG, RABBITMQ, FREE, SHORT),
            theory=("stranded", "still_one", "fixed", "disabled", "fair", "none_long"),
        ),
        Chart(
            "counts",
            each.final("makespan_s"),
            "One long job and 16 short ones: {makespan:.2f} s; acknowledged late, {makespan_fixed:.2f} s",
            y_label="from the first start to the last end, s",
            conditions=(ONE_LONG,),
            theory=("makespan", "makespan_fixed"),
        ),
        Chart(
            "counts",
            each.observed("unacked"),
            "Four for each process: a busy node of two holds {reserved:.0f} jobs in reserve; acknowledged late, none",
            y_label="jobs taken and not acknowledged",
            conditions=(BUSY,),
            theory=("reserved", "only_running"),
        ),
    ),
    answer=(
        "Behind one long job {stranded:.0f} of 16 short ones wait while the other node idles (predicted "
        "{stranded.predicted:.0f}); a multiplier of 1 leaves {still_one:.0f}, with acks_late as well {fixed:.0f}. "
        "All is done after {makespan:.2f} s, fixed after {makespan_fixed:.2f} s."
    ),
    disagrees_with_source=(
        "Part 16 says that each worker thread reserves four jobs. Each pool process does, so a node of two reserves "
        "eight, and those wait only while all of its processes are busy. Setting the multiplier to 1 is half of the "
        "advice: without late acknowledgement one job for each process still waits."
    ),
)
