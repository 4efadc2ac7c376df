"""What is accepted and not done is lost with the process that holds it: all of it (background tasks), the c that run (Celery, acknowledged early).

N users sign up, all are answered, and the mail provider takes T for each welcome.  Then somebody dies before T has passed.  SIGTERM saves what the
server waits for, up to its graceful window.  A failed job that is tried once is lost like one that was killed.  A job that is a row of the
user's own transaction is never lost: its row is there until it is done.
"""

import os
import time
from collections.abc import Callable
from typing import Literal

import gevent
import psycopg
import redis

from lab.loadgen.users import LabUser
from lab.model import (
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
    Server,
    Upstream,
)

JOBS_AT_ONCE = 4  # JOBS_AT_ONCE in correct.py
USERS = JOBS_AT_ONCE  # so that every job runs when the server is killed
PROCESSES = 2  # of the Celery worker: with a multiplier of 4 it reserves all the other jobs
KILL_S = 0.5
JOB_S = 1.0  # all are running at KILL_S, none is done
LONG_JOB_S = 2.0  # KILL_S and the window of a second are over before it is done
WINDOW_S = 1
OUTAGE_S = 0.8
MOST_WAIT_S = 30.0
# Redis gives the unacknowledged jobs of a killed worker back after an hour, here after three seconds: longer than all jobs take.  Only where the
# whole worker dies: a job of a dead pool process is its worker's business, which notices up to five seconds later.
VISIBILITY = (
    "--",
    'broker.transport_options=(json){"visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}',
)
OURS = ("naive", "correct")
KILLED, TERMINATED, WINDOW = "server: SIGKILL", "server: SIGTERM", "server: SIGTERM, window too short"
OUTAGE, NOBODY = "mail provider away", "nobody dies"
WORKER, CHILD, WARM, RAISED = (
    "Celery worker: SIGKILL",
    "pool process: SIGKILL",
    "Celery worker: SIGTERM",
    "provider away, Celery",
)


class Visitor(LabUser):
    """Signs up; the first one waits until every welcome is sent, or until nobody has one to send any more."""

    def journey(self) -> None:
        reply = self.post("/users", name="sign up", json={"email": f"user{self.number}@example.org"})
        self.count("acknowledged", reply.status == 201)
        self.count("unsettled", 0)
        if self.number == 0:
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is left to happen: looked up in the database and the broker, not at the target."""
        deadline = time.monotonic() + MOST_WAIT_S
        quiet_since = 0.0
        patience_s = float(self.params["job_s"]) + 0.5  # what runs and is in no table must have ended by then
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            while (now := time.monotonic()) < deadline:
                gevent.sleep(0.1)
                lives = self.get("/health", name="health").status == 200
                if self.look(database, "SELECT count(DISTINCT user_id) FROM welcomes") == USERS:
                    return
                if not lives or self.waiting(database):
                    quiet_since = 0.0
                elif not quiet_since:
                    quiet_since = now
                elif now - quiet_since > patience_s:
                    return
        self.count("unsettled")

    def waiting(self, database: psycopg.Connection) -> int:
        """Jobs that somebody still knows of."""
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
            in_broker = int(broker.llen("celery")) + int(broker.hlen("unacked"))
        return in_broker + self.look(database, "SELECT count(*) FROM jobs")

    def look(self, database: psycopg.Connection, statement: str) -> int:
        """One number."""
        row = database.execute(statement).fetchone()
        return int(row[0]) if row else 0


def web(label: str, *events: Event, job_s: float = JOB_S, proxy: Proxy | None = None, options: tuple[str, ...] = (),
        variants: tuple[str, ...] = OURS, control: bool = False) -> Condition:  # fmt: skip
    """Jobs in the server's own process, or in a table that it works off."""
    return Condition(
        label, Journey(USERS), events=events, upstream=Upstream(job_s), proxy=proxy, server=Server(options=options), variants=variants,
        control=control, quick_pairs=1, params={"job_s": job_s},
    )  # fmt: skip


def celery(label: str, *events: Event, variants: tuple[str, ...], quick: bool = True, proxy: Proxy | None = None,
           options: tuple[str, ...] = ()) -> Condition:  # fmt: skip
    """Jobs in a worker of Celery."""
    return Condition(
        label, Journey(USERS), events=events, upstream=Upstream(JOB_S), proxy=proxy, variants=variants, quick=quick, quick_pairs=1,
        celery=CeleryWorker(PROCESSES, options=options), params={"job_s": JOB_S},
    )  # fmt: skip


def stopped(action: Literal["kill", "term"], label: str) -> tuple[Event, Event]:
    """The server is stopped and started again, as a deployment does."""
    return Event(KILL_S, action, "server", label=label), Event(
        KILL_S + 0.1, "start", "server", label="server starts again"
    )


def restarted(action: Literal["kill", "term"], whom: str, label: str) -> tuple[Event, Event]:
    """The Celery worker is stopped and started again."""
    return Event(KILL_S, action, whom, label=label), Event(KILL_S + 0.1, "start", "celery", label="worker starts again")


def under(*labels: str, value: float) -> Callable[[Condition], float | None]:
    """``value`` under these conditions."""
    return lambda condition: value if condition.label in labels else None


SCENARIO = Scenario(
    title="Jobs lost when a process dies",
    claim="A background task dies with its process and with its first error; a job that is a row of the same transaction is never lost",
    parts=(8, 16),
    catalogue_ids=("bg-kill-loss", "bg-graceful-window", "bg-no-retry", "ce-early-ack-loss", "ce-child-kill-acked", "ce-seed-config"),
    services=("postgres", "redis", "upstream", "celery"),
    constants={"JOBS_AT_ONCE": JOBS_AT_ONCE},
    conditions=(
        web(KILLED, *stopped("kill", "the server is killed")),
        web(TERMINATED, *stopped("term", "the server is asked to end"), variants=("naive", "create_task", "correct")),
        web(WINDOW, *stopped("term", "the server is asked to end"), job_s=LONG_JOB_S, options=("--timeout-graceful-shutdown", str(WINDOW_S))),
        web(OUTAGE, Event(OUTAGE_S, "fault", statement="pass", label="the provider is back"), proxy=Proxy("upstream", "refuse")),
        celery(
            WORKER, *restarted("kill", "celery", "the Celery worker is killed"), options=VISIBILITY, variants=("celery_early", "celery_source"),
        ),
        celery(
            CHILD, Event(KILL_S, "kill", "celery_child", label="one pool process is killed"), variants=("celery_late", "celery_source"),
        ),
        celery(
            WARM, *restarted("term", "celery_main", "the Celery worker is asked to end"), variants=("celery_early", "celery_source"), quick=False,
        ),
        celery(
            RAISED, Event(OUTAGE_S, "fault", statement="pass", label="the provider is back"), proxy=Proxy("upstream", "refuse"),
            variants=("celery_source",), quick=False,
        ),
        web(NOBODY, control=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/users", method="POST", json={"email": "nobody"}, status=422)),
    final_reads=(
        FinalRead("lost", sql="SELECT count(*) FROM users WHERE id NOT IN (SELECT user_id FROM welcomes)"),
        FinalRead("users", sql="SELECT count(*) FROM users"),
        FinalRead("repeated", sql="SELECT count(*) - count(DISTINCT user_id) FROM welcomes"),
    ),
    queries={"enqueue": "INSERT INTO jobs%"},
    claims=(
        Claim(
            "killed", "harm", "every background task that runs is lost with the process", "naive.final[lost]",
            predict=under(KILLED, value=USERS), tolerance=0.0, null=0.0,
            formula="N, the jobs accepted and not finished", source="they are in its memory only; claims bg-kill-loss",
        ),
        Claim(
            "window", "harm", "and so is what does not fit the graceful window", "naive.final[lost]",
            predict=under(WINDOW, value=USERS), tolerance=0.0, null=0.0,
            formula="N, as the remaining 1.5 s are more than the window of 1 s", source="uvicorn cancels what is left; claims bg-graceful-window",
        ),
        Claim(
            "terminated", "mechanism", "SIGTERM waits for background tasks: they belong to the request", "naive.final[lost]",
            predict=under(TERMINATED, value=0.0), tolerance=0.0,
            formula="0", source="uvicorn's shutdown waits for its ASGI calls, by default without end; claims bg-kill-loss",
        ),
        Claim(
            "unknown", "harm", "for a task of the loop it does not wait", "create_task.final[lost]",
            predict=under(TERMINATED, value=USERS), tolerance=0.0, null=0.0,
            formula="N", source="no ASGI call is open any more; claims bg-kill-loss",
        ),
        Claim(
            "raised", "harm", "a job that failed is not tried again", "naive.final[lost]",
            predict=under(OUTAGE, value=USERS), tolerance=0.0, null=0.0,
            formula="f N, with f = 1 while the provider is away", source="tried once; claims bg-no-retry",
        ),
        Claim(
            "acknowledged", "mechanism", "every one of them was answered with 201", "naive.observed[acknowledged]",
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=USERS), tolerance=0.0,
            formula="N", source="the answer is sent before the task runs",
        ),
        Claim(
            "early", "harm", "acknowledged early, a killed Celery worker loses what it runs", "celery_early.final[lost]",
            predict=under(WORKER, value=PROCESSES), tolerance=0.0, null=0.0,
            formula="c, one for each pool process", source="acknowledged as a job starts; the reserved ones come back; claims ce-early-ack-loss",
        ),
        Claim(
            "late", "mechanism", "acknowledged late it loses none", "celery_source.final[lost]",
            predict=under(WORKER, value=0.0), tolerance=0.0,
            formula="0", source="the broker gives back what was not acknowledged, after the visibility timeout",
        ),
        Claim(
            "child", "harm", "but late acknowledgement alone loses the job of a pool process that dies", "celery_late.final[lost]",
            predict=under(CHILD, value=1.0), tolerance=0.0, null=0.0,
            formula="1 a kill", source="WorkerLostError is a failure, and a failure is acknowledged; claims ce-child-kill-acked",
        ),
        Claim(
            "source", "mechanism", "the source's configuration loses none, whoever dies", "celery_source.final[lost]",
            predict=under(WORKER, CHILD, WARM, value=0.0), tolerance=0.0,
            formula="0", source="acks_late and reject_on_worker_lost; claims ce-seed-config", headline=CHILD,
        ),
        Claim(
            "warm", "mechanism", "asked to end, a Celery worker ends what it runs and gives the rest back", "celery_early.final[lost]",
            predict=under(WARM, value=0.0), tolerance=0.0, formula="0", source="a warm shutdown",
        ),
        Claim(
            "no_retry", "harm", "but a job that raises is tried once there, too", "celery_source.final[lost]",
            predict=under(RAISED, value=USERS), tolerance=0.0, null=0.0,
            formula="f N, with f = 1", source="late acknowledgement is not a retry: autoretry_for is; claims bg-no-retry",
        ),
        Claim(
            "fixed", "fix", "a row of the same transaction is never lost", "correct.final[lost]",
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=0.0), tolerance=0.0,
            formula="0", source="there as long as it is not done, locked while it is; claims bg-kill-loss", headline=KILLED,
        ),
        Claim(
            "once", "fix", "and nobody is recorded as welcomed twice", "correct.final[repeated]",
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=0.0), tolerance=0.0,
            formula="0", source="the record and the end of the job are one transaction", headline=KILLED,
        ),
        Claim(
            "settled", "mechanism", "each count was taken when nothing was left to happen", "naive.observed[unsettled]",
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=0.0), tolerance=0.0,
            formula="0", source="no job in the table or the broker, and longer than a job takes", headline=KILLED,
        ),
        Claim(
            "control", "mechanism", "where nobody dies nothing is lost", "naive.final[lost]",
            predict=under(NOBODY, value=0.0), tolerance=0.0, formula="0", source="every task ends",
        ),
        Claim(
            "statement", "tax", "the outbox costs a statement an answer", "correct.sql_calls[enqueue]",
            predict=under(NOBODY, value=USERS), tolerance=0.0, formula="N", source="one INSERT in the transaction that is open anyway",
        ),
    ),
    charts=(
        Chart(
            "counts", "final[lost]",
            "Of four accepted jobs a killed server loses {killed:.0f}, an outage {raised:.0f}; rows of the same transaction {fixed:.0f}",
            y_label="accepted, never done", conditions=(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY),
            theory=("killed", "terminated", "window", "unknown", "raised", "fixed", "control"),
        ),
        Chart(
            "counts", "final[lost]",
            "A killed Celery worker loses the {early:.0f} jobs it runs; acknowledged late {late:.0f}, but a dead pool process {child:.0f}",
            y_label="accepted, never done", conditions=(WORKER, CHILD, WARM, RAISED), theory=("early", "child", "source", "warm", "no_retry"),
        ),
    ),
    answer="Of four accepted jobs a killed server loses {killed:.0f} (predicted {killed.predicted:.0f}), one asked to end with a short window "
    "{window:.0f}, a provider's outage {raised:.0f}; a killed Celery worker loses the {early:.0f} that it runs; an outbox loses {fixed:.0f}.",
    disagrees_with_source="Part 8 says that a crash loses a background task. So does a deployment whose graceful window is shorter than the task, "
    "and so does the first error. Its example, the welcome mail, is what it says background tasks are not for. Part 16's configuration loses "
    "nothing to a kill, but does not try a failed task again.",
)  # fmt: skip
