"""What is accepted and not done is lost with the process that holds it: all of it (background tasks), the c that run (Celery, acknowledged early).

N users sign up, all are answered, and the mail provider takes T for each welcome.  Then somebody dies before T has passed.  SIGTERM saves what the
server waits for, up to its graceful window.  A failed job that is tried once is lost like one that was killed.  A job that is a row of the
user's own transaction is not lost: its row is there until it is done, and due again when the lease of the process that took it has ended.

The libraries' workers run in the app's own process (its lifespan), so that the same kill meets them: procrastinate's run_worker_async and taskiq's
run_receiver_task.  What they have taken is "doing" (procrastinate), gone (taskiq, a list) or pending (taskiq, a stream) when they die.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Literal

import gevent
import psycopg
import redis
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
    Server,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, REFUSE
from lab.words.predictions import under

celery_early = Arm("celery_early")
celery_late = Arm("celery_late")
celery_source = Arm("celery_source")
create_task = Arm("create_task")
with_procrastinate = Arm("with_procrastinate")
with_procrastinate_rescue = Arm("with_procrastinate_rescue")
with_taskiq_list = Arm("with_taskiq_list")
with_taskiq_stream = Arm("with_taskiq_stream")

JOBS_AT_ONCE = 4  # JOBS_AT_ONCE in correct.py
LEASE_S = 6.0  # LEASE_S in correct.py
POLL_S = 0.5  # POLL_S in correct.py
MAX_TRIES = 20  # MAX_TRIES in correct.py
USERS = JOBS_AT_ONCE  # so that every job runs when the server is killed
POISON = 2 * JOBS_AT_ONCE  # so that every worker task meets two jobs that can never succeed: of users that do not exist
POISON_SQL = "INSERT INTO jobs (user_id) SELECT -n FROM generate_series(1, 8) AS n"  # POISON of them
PROCESSES = 2  # of the Celery worker: with a multiplier of 4 it reserves all the other jobs
KILL_S = 0.5
JOB_S = 1.0  # all are running at KILL_S, none is done
CELERY_KILL_S, CELERY_JOB_S = (
    1.0,
    2.5,
)  # a job passes the broker first, and a pool process's first one takes longer to start
LONG_JOB_S = 2.0  # KILL_S and the window of a second are over before it is done
WINDOW_S = 1
OUTAGE_S = 0.8
MOST_WAIT_S = 30.0
# Redis gives the unacknowledged jobs of a killed worker back after an hour, here after six seconds: longer than a job takes.  Only where the
# whole worker dies: a job of a dead pool process is its worker's business, which notices up to five seconds later.
VISIBILITY = (
    "--",
    "broker.transport_options=(json)"
    '{"visibility_timeout": 6, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}',
)
OURS = ("naive", "correct")
PROCRASTINATE = ("with_procrastinate", "with_procrastinate_rescue")
TASKIQ = ("with_taskiq_list", "with_taskiq_stream")
IDLE_TIMEOUT_MS = 3000  # IDLE_TIMEOUT_MS in with_taskiq_stream.py
LATER_S = (
    6.0  # after the server has started again, and what its predecessor had taken has been idle for longer than that
)
LATER, BROKER = "server: SIGKILL, and one job later", "broker away when users sign up"
KILLED, TERMINATED, WINDOW = "server: SIGKILL", "server: SIGTERM", "server: SIGTERM, window too short"
OUTAGE, POISONED, NOBODY = "mail provider away", "jobs that always fail", "nobody dies"
WORKER, CHILD, WARM, RAISED = (
    "Celery worker: SIGKILL",
    "pool process: SIGKILL",
    "Celery worker: SIGTERM",
    "provider away, Celery",
)
# "doing" counts where a periodic task looks for the jobs of dead workers; without one nobody will take them again.
PROCRASTINATE_KNOWS = """SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'welcome' AND (status = 'todo'
    OR status = 'doing' AND EXISTS (SELECT FROM procrastinate_periodic_defers))"""
FAULTS_OF_CELERY = ("Celery worker killed", "Celery child killed")
FAULTS_OF_REDIS = ("Redis refuses", "Redis stalls", "Redis cuts", "Redis swallows connects")


class Visitor(LabUser):
    """Signs up; the first one waits until every welcome is sent, or until nobody has one to send any more."""

    def journey(self) -> None:
        self.count("acknowledged", self.sign_up() == 201)
        self.count("unsettled", 0)
        if self.number == 0:
            self.wait_until_done()

    def sign_up(self) -> int:
        """One user more; the status."""
        return self.post("/users", name="sign up", json={"email": f"user{self.number}@example.org"}).status

    def wait_until_done(self) -> None:
        """Returns when nothing is left to happen: looked up in the database and the broker, not at the target."""
        deadline = time.monotonic() + MOST_WAIT_S
        users = USERS
        if later_s := float(self.params["later_s"]):
            gevent.sleep(later_s)
            users += 1
            self.sign_up()
        quiet_since = 0.0
        patience_s = float(self.params["job_s"]) + 0.5  # what runs and is in no table must have ended by then
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
            if broker.exists("taskiq") and broker.type("taskiq") == b"stream":
                patience_s += 2 * IDLE_TIMEOUT_MS / 1000  # time enough to claim what was pending
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            while (now := time.monotonic()) < deadline:
                gevent.sleep(0.1)
                lives = self.get("/health", name="health").status == 200
                if self.look(database, "SELECT count(DISTINCT user_id) FROM welcomes") == users:
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
            in_broker += int(broker.llen("taskiq")) if broker.type("taskiq") == b"list" else 0
        in_table = self.look(database, "SELECT count(*) FROM jobs")
        if self.look(database, "SELECT count(to_regclass('procrastinate_jobs'))"):
            in_table += self.look(database, PROCRASTINATE_KNOWS)
        return in_broker + in_table

    def look(self, database: psycopg.Connection, statement: str) -> int:
        """One number."""
        row = database.execute(statement).fetchone()
        return int(row[0]) if row else 0


class Steady(Visitor):
    """Signs up again and again, in a database that has a job that always fails, where that is the fault."""

    poisoned = False

    @task
    def steadily(self) -> None:
        if self.params.get("fault") == "poison job" and not self.poisoned:
            self.poisoned = True
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
                database.execute(POISON_SQL)
        self.sign_up()


def web(
    label: str,
    *events: Event,
    job_s: float = JOB_S,
    proxy: Proxy | None = None,
    options: tuple[str, ...] = (),
    variants: tuple[str, ...] = OURS,
    control: bool = False,
    setup_sql: str = "",
    later_s: float = 0.0,
) -> Condition:
    """Jobs in the server's own process, or in a table that it works off."""
    return Condition(
        label,
        Journey(USERS),
        user="Visitor",
        events=events,
        upstream=Upstream(job_s),
        proxy=proxy,
        server=Server(options=options),
        variants=variants,
        control=control,
        setup_sql=setup_sql,
        quick_pairs=1,
        params={"job_s": job_s, "later_s": later_s},
    )


def celery(
    label: str,
    *events: Event,
    variants: tuple[str, ...],
    quick: bool = True,
    proxy: Proxy | None = None,
    options: tuple[str, ...] = (),
) -> Condition:
    """Jobs in a worker of Celery."""
    return Condition(
        label,
        Journey(USERS),
        user="Visitor",
        events=events,
        upstream=Upstream(CELERY_JOB_S),
        proxy=proxy,
        variants=variants,
        quick=quick,
        quick_pairs=1,
        celery=CeleryWorker(PROCESSES, options=options),
        params={"job_s": CELERY_JOB_S, "later_s": 0.0},
    )


def stopped(action: Literal["kill", "term"], label: str) -> tuple[Event, Event]:
    """The server is stopped and started again, as a deployment does."""
    return Event(KILL_S, action, "server", label=label), Event(
        KILL_S + 0.1, "start", "server", label="server starts again"
    )


def restarted(action: Literal["kill", "term"], whom: str, label: str) -> tuple[Event, Event]:
    """The Celery worker is stopped and started again."""
    return (
        Event(CELERY_KILL_S, action, whom, label=label),
        Event(CELERY_KILL_S + 0.1, "start", "celery", label="worker starts again"),
    )


def counts(values: Mapping[str, float]) -> Callable[[Condition], float | None]:
    """The value of each condition, by its label."""
    return lambda condition: values.get(condition.label)


SCENARIO = Scenario(
    title="Lost background tasks: a FastAPI BackgroundTask does not survive a crash, a deploy or an error",
    claim=(
        "Of four accepted jobs a killed server loses all four in BackgroundTasks, and none that is a row of the "
        "user's own transaction"
    ),
    parts=(8, 16),
    catalogue_ids=(
        "bg-kill-loss",
        "bg-graceful-window",
        "bg-no-retry",
        "ce-early-ack-loss",
        "ce-child-kill-acked",
        "ce-seed-config",
    ),
    before_after=BeforeAfter(
        each.final("lost"),
        "accepted jobs lost",
        KILLED,
        "The server is killed while it runs the background jobs that it has accepted.",
    ),
    labels={
        "naive": "FastAPI BackgroundTasks",
        "create_task": "task of asyncio.create_task",
        "correct": "job rows in PostgreSQL",
        "celery_early": "Celery, default settings",
        "celery_late": "Celery, acks_late",
        "celery_source": "Celery, acks_late + reject",
        "with_procrastinate": "procrastinate 3.10, default",
        "with_procrastinate_rescue": "procrastinate 3.10, rescue task",
        "with_taskiq_list": "taskiq-redis 1.2, ListQueueBroker",
        "with_taskiq_stream": "taskiq-redis 1.2, RedisStreamBroker",
    },
    symptoms=(
        "BackgroundTasks lost on restart",
        "background task not executed",
        "emails not sent after deploy",
        "job lost",
        "worker crashed",
        "Cancel 1 running task(s), timeout graceful shutdown exceeded",
        "Task was destroyed but it is pending!",
        "billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL)",
        "acks_late",
        "outbox",
        "dead letter",
        "at-least-once",
    ),
    services=("postgres", "redis", "upstream", "celery"),
    constants={
        "JOBS_AT_ONCE": JOBS_AT_ONCE,
        "LEASE_S": LEASE_S,
        "POLL_S": POLL_S,
        "MAX_TRIES": MAX_TRIES,
        "IDLE_TIMEOUT_MS": IDLE_TIMEOUT_MS,
    },
    conditions=(
        web(KILLED, *stopped("kill", "the server is killed"), variants=(*OURS, *PROCRASTINATE, *TASKIQ)),
        web(TERMINATED, *stopped("term", "the server is asked to end"), variants=("naive", "create_task", "correct")),
        web(
            WINDOW,
            *stopped("term", "the server is asked to end"),
            job_s=LONG_JOB_S,
            options=("--timeout-graceful-shutdown", str(WINDOW_S)),
        ),
        web(
            OUTAGE,
            Event(OUTAGE_S, "fault", statement=PASS, label="the provider is back"),
            proxy=Proxy("upstream", REFUSE),
            variants=(*OURS, *PROCRASTINATE),
        ),
        web(LATER, *stopped("kill", "the server is killed"), later_s=LATER_S, variants=TASKIQ),
        web(BROKER, proxy=Proxy("redis", REFUSE), variants=("correct", "with_taskiq_list")),
        web(
            POISONED,
            variants=("correct",),
            setup_sql=POISON_SQL,
        ),
        celery(
            WORKER,
            *restarted("kill", "celery", "the Celery worker is killed"),
            options=VISIBILITY,
            variants=("celery_early", "celery_source"),
        ),
        celery(
            CHILD,
            Event(CELERY_KILL_S, "kill", "celery_child", label="one pool process is killed"),
            variants=("celery_late", "celery_source"),
        ),
        celery(
            WARM,
            *restarted("term", "celery_main", "the Celery worker is asked to end"),
            variants=("celery_early", "celery_source"),
            quick=False,
        ),
        celery(
            RAISED,
            Event(OUTAGE_S, "fault", statement=PASS, label="the provider is back"),
            proxy=Proxy("upstream", REFUSE),
            variants=("celery_source",),
            quick=False,
        ),
        web(NOBODY, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/users", method="POST", json={"email": "nobody"}, status=422),
    ),
    final_reads=(
        FinalRead("lost", sql="SELECT count(*) FROM users WHERE id NOT IN (SELECT user_id FROM welcomes)"),
        FinalRead(
            "forgotten",
            sql=(
                "SELECT count(*) FROM users WHERE id NOT IN (SELECT user_id FROM welcomes) AND id NOT IN (SELECT "
                "user_id FROM jobs) AND id NOT IN (SELECT jobs_of_procrastinate())"
            ),
        ),
        FinalRead("repeated", sql="SELECT count(*) - count(DISTINCT user_id) FROM welcomes"),
        FinalRead("poisoned", sql="SELECT count(*) FROM jobs WHERE user_id < 0 AND error IS NOT NULL"),
        FinalRead("buried", sql="SELECT count(*) FROM jobs WHERE tries >= 20"),  # MAX_TRIES
        FinalRead(
            "delay_s",
            sql="SELECT max(extract(epoch FROM sent_at - created_at)) FROM welcomes JOIN users ON users.id = user_id",
        ),
    ),
    queries={"enqueue": "INSERT INTO jobs%"},
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        upstream=Upstream(0.05),
        ledger={"lost": each.final("forgotten"), "doubled": each.final("repeated"), "buried": each.final("buried")},
        variants=("correct", "with_procrastinate_rescue"),
        also=("poison",),
        limits={
            "with_procrastinate_rescue: PostgreSQL stalls": "A stall shorter than its time-out is waited for, and not logged.",
            "with_procrastinate_rescue: upstream stalls": "A stall shorter than its time-out is waited for, and not logged.",
        },
        without=(*FAULTS_OF_REDIS, *FAULTS_OF_CELERY, "with_procrastinate_rescue: poison job"),  # correct uses neither
    ),
    claims=(
        Claim(
            "killed",
            "harm",
            "a killed server loses every background task that it had accepted",
            naive.final("lost"),
            predict=under(KILLED, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="N, the jobs accepted and not finished",
            source="Starlette documentation, Background Tasks: they run in the same process",
        ),
        Claim(
            "window",
            "harm",
            "a deployment loses the tasks that outlast the graceful window",
            naive.final("lost"),
            predict=under(WINDOW, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="N, as the remaining 1.5 s are more than the window of 1 s",
            source="uvicorn documentation, --timeout-graceful-shutdown: what is left is cancelled",
        ),
        Claim(
            "terminated",
            "mechanism",
            "without a window SIGTERM waits for background tasks, which belong to the request",
            naive.final("lost"),
            predict=under(TERMINATED, value=0.0),
            tolerance=0.0,
            formula="0",
            source="uvicorn documentation, --timeout-graceful-shutdown: by default it waits for all requests",
        ),
        Claim(
            "unknown",
            "harm",
            "SIGTERM does not wait for a task of asyncio.create_task",
            create_task.final("lost"),
            predict=under(TERMINATED, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="N",
            source="the server waits for its requests, and none is open; measured here",
        ),
        Claim(
            "raised",
            "harm",
            "a background task that fails is not tried again",
            naive.final("lost"),
            predict=under(OUTAGE, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="f N, with a share of failures f = 1 while the provider is away",
            source="Starlette documentation, Background Tasks: no retry",
        ),
        Claim(
            "acknowledged",
            "mechanism",
            "the client was told 201 each time",
            naive.observed("acknowledged"),
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=USERS),
            tolerance=0.0,
            formula="N",
            source="Starlette documentation, Background Tasks: they run once the response has been sent",
        ),
        Claim(
            "early",
            "harm",
            "a killed Celery worker loses the jobs that it runs, with default settings",
            celery_early.final("lost"),
            predict=under(WORKER, value=PROCESSES),
            tolerance=0.0,
            null=0.0,
            formula="c, one for each pool process",
            source="Celery documentation, task_acks_late: by default a task is acknowledged before it runs",
        ),
        Claim(
            "late",
            "mechanism",
            "with acks_late it loses none",
            celery_source.final("lost"),
            predict=under(WORKER, value=0.0),
            tolerance=0.0,
            formula="0",
            source="Celery documentation, Redis, visibility timeout: what is not acknowledged is delivered again",
        ),
        Claim(
            "child",
            "harm",
            "acks_late alone loses the job of a pool process that is killed",
            celery_late.final("lost"),
            predict=under(CHILD, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1 for each kill",
            source="Celery documentation, task_reject_on_worker_lost: without it the task is acknowledged",
        ),
        Claim(
            "source",
            "mechanism",
            "acks_late and reject_on_worker_lost together lose none to a kill",
            celery_source.final("lost"),
            predict=under(WORKER, CHILD, WARM, value=0.0),
            tolerance=0.0,
            formula="0",
            source="Celery documentation, task_acks_late and task_reject_on_worker_lost",
            headline=CHILD,
        ),
        Claim(
            "warm",
            "mechanism",
            "a Celery worker that is asked to end finishes what it runs and gives the rest back",
            celery_early.final("lost"),
            predict=under(WARM, value=0.0),
            tolerance=0.0,
            formula="0",
            source="Celery documentation, Workers Guide: warm shutdown",
        ),
        Claim(
            "no_retry",
            "harm",
            "a Celery job that raises is tried once, whatever its acknowledgement",
            celery_source.final("lost"),
            predict=under(RAISED, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="f N, with f = 1",
            source="Celery documentation, Should I use retry or acks_late?; retries need autoretry_for or retry()",
        ),
        Claim(
            "procrastinate",
            "harm",
            (
                "procrastinate's job rows stay in the state doing when their worker is killed, and a job that raises "
                "is failed"
            ),
            with_procrastinate.final("lost"),
            predict=under(KILLED, OUTAGE, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="N, all of them running or failed",
            source="procrastinate documentation, Retry stalled jobs; tasks have no retry by default",
            headline=KILLED,
        ),
        Claim(
            "rescued",
            "fix",
            "a periodic task that retries stalled jobs, and a retry strategy, lose none",
            with_procrastinate_rescue.final("lost"),
            predict=under(KILLED, OUTAGE, value=0.0),
            tolerance=0.0,
            formula="0",
            source="procrastinate documentation, Retry stalled jobs: get_stalled_jobs and retry_job",
            headline=KILLED,
        ),
        Claim(
            "taskiq_list",
            "harm",
            "taskiq's ListQueueBroker loses every job that its receiver has taken",
            with_taskiq_list.final("lost"),
            predict=counts({KILLED: USERS, LATER: USERS}),
            tolerance=0.0,
            null=0.0,
            formula="N, as one receiver takes up to 100",
            source="redis_broker.py: BRPOP removes the job before it runs",
            headline=KILLED,
        ),
        Claim(
            "taskiq_stream",
            "mechanism",
            "its RedisStreamBroker keeps them, but gives them to nobody before a further job arrives",
            with_taskiq_stream.final("lost"),
            predict=counts({KILLED: USERS, LATER: 0.0}),
            tolerance=0.0,
            formula="N until the next job, then 0",
            source="taskiq-redis, redis_broker.py: XAUTOCLAIM stands after XREADGROUP has returned something",
            headline=LATER,
        ),
        Claim(
            "two_steps",
            "harm",
            "a user is committed before the broker is asked: where it is away the job is lost",
            with_taskiq_list.final("lost"),
            predict=under(BROKER, value=USERS),
            tolerance=0.0,
            null=0.0,
            formula="N",
            source="the commit and the publish are two steps; Pattern: Transactional outbox",
        ),
        Claim(
            "fixed",
            "fix",
            "no job row is lost, whatever dies",
            correct.final("lost"),
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, BROKER, NOBODY, value=0.0),
            tolerance=0.0,
            formula="0",
            source="PostgreSQL documentation, transactions: a committed row is there after a crash",
            headline=KILLED,
        ),
        Claim(
            "once",
            "fix",
            "no mail is recorded twice",
            correct.final("repeated"),
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=0.0),
            tolerance=0.0,
            formula="0",
            source="one statement records the mail and deletes the job, only for the holder of the lease",
            headline=KILLED,
        ),
        Claim(
            "poison",
            "fix",
            "eight jobs that always fail hold up nobody else's",
            correct.final("lost"),
            predict=under(POISONED, value=0.0),
            tolerance=0.0,
            null=USERS,
            formula="0",
            source="a failed job is due later, so that the others come first",
        ),
        Claim(
            "poisoned",
            "mechanism",
            "each of them was tried, and kept its error",
            correct.final("poisoned"),
            predict=under(POISONED, value=POISON),
            tolerance=0.0,
            null=0.0,
            formula="2 x 4, two for each of the four tasks that work",
            source="any exception is recorded, and ends no task",
        ),
        Claim(
            "settled",
            "mechanism",
            "each count was taken when nothing was left to happen",
            naive.observed("unsettled"),
            predict=under(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY, value=0.0),
            tolerance=0.0,
            formula="0",
            source="no job in the table or the broker, and longer than a job takes",
            headline=KILLED,
        ),
        Claim(
            "control",
            "mechanism",
            "where nobody dies nothing is lost",
            naive.final("lost"),
            predict=under(NOBODY, value=0.0),
            tolerance=0.0,
            formula="0",
            source="every task ends",
        ),
        Claim(
            "statement",
            "tax",
            "the job row costs one statement for each answer",
            correct.sql_calls("enqueue"),
            predict=under(NOBODY, value=USERS),
            tolerance=0.0,
            formula="N",
            source="one INSERT in the transaction that is open anyway",
        ),
        Claim(
            "lease",
            "tax",
            "a job of a killed process waits until its lease has ended",
            correct.final("delay_s"),
            predict=under(KILLED, value=LEASE_S + JOB_S + POLL_S),
            tolerance=0.10,
            null=JOB_S,
            formula="lease 6 s + job 1 s + half a poll of 0.5 s before and after it",
            source="the row is due again when the lease that was written into it ends; polls are 0.5 s apart",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("lost"),
            (
                "Kill the server: {killed:.0f} of 4 accepted jobs are lost in BackgroundTasks, {fixed:.0f} as rows "
                "of the user's transaction"
            ),
            y_label="jobs accepted and never done",
            conditions=(KILLED, TERMINATED, WINDOW, OUTAGE, NOBODY),
            theory=("killed", "terminated", "window", "unknown", "raised", "fixed", "control"),
        ),
        Chart(
            "counts",
            each.final("lost"),
            (
                "Kill a Celery worker: the {early:.0f} jobs that it runs are lost, with acks_late {late:.0f}; kill "
                "one of its processes: {child:.0f}"
            ),
            y_label="jobs accepted and never done",
            conditions=(WORKER, CHILD, WARM, RAISED),
            theory=("early", "child", "source", "warm", "no_retry"),
        ),
    ),
    answer=(
        "Of four accepted BackgroundTasks a killed server loses {killed:.0f} (predicted {killed.predicted:.0f}), a "
        "deployment with a short graceful window {window:.0f} and an outage of the mail provider {raised:.0f}; a "
        "killed Celery worker loses the {early:.0f} that it runs. Job rows in PostgreSQL lose {fixed:.0f}; after a "
        "kill they wait for their lease, {lease:.1f} s instead of 1 s."
    ),
    disagrees_with_source=(
        "Part 8 says that a crash loses a background task. So does a deployment whose graceful window is shorter "
        "than the task, and so does the first error. Its example, the welcome mail, is what it says background tasks "
        "are not for. Part 16's configuration loses nothing to a kill, but does not try a failed task again."
    ),
)
