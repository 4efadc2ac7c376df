"""A def route with a response model needs a thread twice; its session holds a connection from the first to the second.

With T threads and P connections a burst of T + P finds P requests that hold a connection and wait for a thread, and T that hold a thread and
wait for a connection: none can go on until the pool's timeout.  With one request fewer a thread is free and all are answered.
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
    Probe,
    Scenario,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive

limited = Arm("limited")

POOL_TIMEOUT_S = 2  # POOL_TIMEOUT_S in all targets
QUERY_S = 0.05  # dataset.sql
GRID = ((10, 5, True), (20, 5, True), (10, 10, False), (40, 15, False))
AT = "10 threads, 5 connections, 15 requests"
BELOW = "10 threads, 5 connections, 14 requests"
UNSEEN = (
    "A thread that waits for psycopg cannot be interrupted: the request hangs, and nothing is logged, until the "
    "database answers again."
)


class Reader(LabUser):
    @task
    def read_order(self) -> None:
        reply = self.get(f"/orders/{1 + self.number}", name="order")
        self.count("stalled", reply.latency_s >= POOL_TIMEOUT_S)


def burst(threads: int, pool: int, *, over: bool, quick: bool) -> Condition:
    """The burst at the threshold, or one below it."""
    requests = threads + pool - (not over)
    return Condition(
        f"{threads} threads, {pool} connections, {requests} requests",
        Burst(requests),
        env={"THREADS": str(threads), "POOL_SIZE": str(pool)},
        params={"threads": threads, "pool": pool, "requests": requests, "over": over},
        quick=quick,
        quick_pairs=1,
        control=not over,
    )


def over(condition: Condition, value: float) -> float | None:
    """``value`` at the threshold."""
    return value if condition.params["over"] else None


def below(condition: Condition, value: float) -> float | None:
    """``value`` one request below it."""
    return None if condition.params["over"] else value


SCENARIO = Scenario(
    title="Thread pool and connection pool deadlock in `def` routes",
    claim=(
        "With 10 threads and 5 connections, 15 requests at once block each other until the pool's timeout of 2 s, "
        "and some fail; 14 do not"
    ),
    before_after=BeforeAfter(
        each.makespan_s,
        "until 15 requests are answered",
        AT,
        "Fifteen requests at once meet ten threads and five database connections.",
    ),
    labels={
        "naive": "session from a dependency",
        "correct": "session ends in the route",
        "limited": "dependency with max_concurrency",
    },
    symptoms=(
        "deadlock",
        "hangs for 30 seconds",
        "FastAPI freezes under load",
        "threadpool exhausted",
        "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached",
        "https://sqlalche.me/e/21/3o7r",
        "anyio 40 threads",
        "total_tokens",
        "max_concurrency",
        "CPU idle but requests time out",
    ),
    parts=(2, 17),
    catalogue_ids=("as-threadpool-pool-deadlock",),
    services=("postgres",),
    constants={"POOL_TIMEOUT_S": POOL_TIMEOUT_S},
    conditions=tuple(
        burst(threads, pool, over=at, quick=quick) for threads, pool, quick in GRID for at in (False, True)
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/orders/7", body={"id": 7, "total_cents": 700}),
        Probe("/orders/2000", status=404),
    ),
    final_reads=(FinalRead("leaked", sql=OPEN_TRANSACTIONS),),
    claims=(
        Claim(
            "stall",
            "harm",
            "threads + connections requests at once wait for the pool's timeout",
            naive.makespan_s,
            relation="at_least",
            predict=lambda c: over(c, float(POOL_TIMEOUT_S)),
            tolerance=0.0,
            formula="pool_timeout = 2 s",
            source="a cycle of waits ends only by a timeout; fastapi/fastapi issue 12066",
            headline=AT,
        ),
        Claim(
            "errors",
            "harm",
            "and some of them fail",
            naive.responses_5xx,
            relation="at_least",
            predict=lambda c: over(c, 1.0),
            tolerance=0.0,
            formula="at least 1: the first timeout frees the thread that breaks the cycle",
            source="SQLAlchemy documentation, pool_timeout: QueuePool raises TimeoutError",
            headline=AT,
        ),
        Claim(
            "below_clean",
            "mechanism",
            "one request fewer, and no request waits for the timeout",
            naive.observed("stalled"),
            predict=lambda c: below(c, 0.0),
            tolerance=0.0,
            formula="0 below threads + connections",
            source="one free thread makes one answer, which frees one connection",
            headline=BELOW,
        ),
        Claim(
            "below_errors",
            "mechanism",
            "and none fails",
            naive.responses_5xx,
            predict=lambda c: below(c, 0.0),
            tolerance=0.0,
            formula="0",
            source="as before",
            headline=BELOW,
        ),
        Claim(
            "all_threads",
            "mechanism",
            "at the threshold every thread is taken",
            naive.threads_borrowed_max,
            predict=lambda c: over(c, c.number("threads")),
            tolerance=0.0,
            formula="T",
            source="AnyIO documentation: the limiter's borrowed tokens",
            headline=AT,
        ),
        Claim(
            "all_wait",
            "mechanism",
            "and each of them waits for a connection",
            naive.pool_waiting_max,
            predict=lambda c: over(c, c.number("threads")),
            tolerance=0.0,
            formula="T",
            source="the pool's own queue; the P connections are held by requests that wait for a thread",
            headline=AT,
        ),
        Claim(
            "correct_clean",
            "fix",
            "with the session ended in the route no request waits for the timeout",
            correct.observed("stalled"),
            predict=lambda c: 0.0,
            tolerance=0.0,
            formula="0",
            source="a request that has a connection needs no other thread",
            headline=AT,
        ),
        Claim(
            "correct_all",
            "fix",
            "and all are answered",
            correct.requests_ok,
            predict=lambda c: c.number("requests"),
            tolerance=0.0,
            formula="C",
            source="as before",
            headline=AT,
        ),
        Claim(
            "limited_all",
            "fix",
            "with max_concurrency all are answered, too",
            limited.requests_ok,
            predict=lambda c: c.number("requests"),
            tolerance=0.0,
            formula="C",
            source="FastAPI documentation, Limit dependency concurrency",
            headline=AT,
        ),
        Claim(
            "limited_clean",
            "fix",
            "and none waits for the timeout",
            limited.observed("stalled"),
            predict=lambda c: 0.0,
            tolerance=0.0,
            formula="0",
            source="FastAPI documentation: waiting uses no thread",
            headline=AT,
        ),
        Claim(
            "limited_threads",
            "fix",
            "with max_concurrency no more threads are taken than there are connections",
            limited.threads_borrowed_max,
            relation="at_most",
            predict=lambda c: c.number("pool"),
            tolerance=0.0,
            formula="P",
            source="FastAPI documentation: waiting uses no thread",
            headline=AT,
        ),
        Claim(
            "correct_threads",
            "tax",
            "with the session ended in the route, a request that waits for a connection still holds a thread",
            correct.threads_borrowed_max,
            predict=lambda c: over(c, c.number("threads")),
            tolerance=0.0,
            formula="T: all of them, so other def routes wait as well",
            source="SQLAlchemy's QueuePool blocks the calling thread",
            headline=AT,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("stalled"),
            "One request more and {stall:.1f} s pass: the threshold is threads + connections",
            y_label="requests that waited for the pool's timeout",
            conditions=tuple(
                burst(threads, pool, over=at, quick=quick).label
                for threads, pool, quick in GRID
                if quick
                for at in (False, True)
            ),
            theory=("below_clean", "correct_clean", "limited_clean"),
        ),
        Chart(
            "counts",
            each.threads_borrowed_max,
            (
                "Threads taken by 15 requests: {limited_threads:.0f} with max_concurrency, {correct_threads:.0f} "
                "with the session in the route"
            ),
            y_label="threads",
            conditions=(AT,),
            theory=("limited_threads", "correct_threads", "all_threads"),
        ),
        Chart("timeline", "latency", "No request is answered until the pool gives up", conditions=(AT,)),
        Chart("ecdf", "latency", "15 requests at once: some wait {stall:.1f} s", log_x=True, conditions=(AT,)),
    ),
    answer=(
        "With 10 threads and 5 connections, 15 requests at once take {stall:.1f} s and {errors:.0f} fail; 14 take "
        "milliseconds. With the session ended before the route returns, all {correct_all:.0f} are answered."
    ),
    survival=Survival(
        user="Reader",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"leaked": each.final("leaked")},
        variants=("correct", "limited"),
        limits={f"{variant}: PostgreSQL stalls": UNSEEN for variant in ("correct", "limited")},
    ),
)
