"""Between the expiry of a key and the first SET lies one load of D seconds: each of C requests that look meanwhile loads, C times D of work.

An asyncio.Lock leaves one load in each worker, a lock in Redis one in all.  If the worker that holds it is killed, there is one more load, after the
lock has expired.  C loads need no C connections: a request that waits for the pool has missed already.
"""

import time

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    Event,
    FinalRead,
    Probe,
    Scenario,
    Server,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import having

tempting = Arm("tempting")
with_aiocache = Arm("with_aiocache")
with_aiocache_stampede = Arm("with_aiocache_stampede")
with_cashews = Arm("with_cashews")
with_fastapi_cache = Arm("with_fastapi_cache")

CACHE_TTL_S = 1  # CACHE_TTL_S in all targets
LOAD_S = 0.25  # pg_sleep in dataset.sql
POOL_SIZE = 20  # POOL_SIZE in all targets
WAIT_S = 3.0  # WAIT_S in correct.py: the bound of a wait for the lock
LOCK_KEY = "report:{daily_sales}:lock"  # LOCK_KEY in correct.py
OWN = ("naive", "tempting", "correct")  # what the sweep compares; a library runs at 50 readers


class Reader(LabUser):
    @task
    def read_report(self) -> None:
        reply = self.get("/reports/daily-sales", name="report")
        self.count("refused", reply.status >= 400)
        self.count("kept_waiting", reply.latency_s > WAIT_S + LOAD_S)

    def before_burst(self, k: int) -> None:
        """Let the key expire that the probe or the burst before has left: what is tested is a real expiry, so its time must pass."""
        time.sleep(1.25 * CACHE_TTL_S)


class Steady(LabUser):
    """Reads the report again and again, whatever fails."""

    @task
    def read_report(self) -> None:
        self.get("/reports/daily-sales", name="report")


def burst(
    label: str,
    readers: int,
    *,
    workers: int = 1,
    repeats: int = 1,
    quick: bool = True,
    quick_pairs: int | None = 1,
    variants: tuple[str, ...] = (),
    events: tuple[Event, ...] = (),
    control: bool = False,
) -> Condition:
    """``readers`` requests at one instant on an expired key, ``repeats`` times."""
    return Condition(
        label,
        Burst(readers, repeats=repeats, every_s=readers / POOL_SIZE * LOAD_S + 2, spread=workers > 1),
        server=Server(workers=workers),
        user="Reader",
        params={"readers": readers, "workers": workers, "killed": len(events)},
        quick=quick,
        quick_pairs=quick_pairs,
        variants=variants,
        events=events,
        control=control,
    )


def in_burst(condition: Condition, value: float) -> float | None:
    """``value`` for a burst in which nobody dies."""
    return value if "readers" in condition.params and not condition.params["killed"] else None


def where_killed(condition: Condition, value: float) -> float | None:
    """``value`` where the holder of the lock is killed."""
    return value if condition.params.get("killed") else None


def many(condition: Condition) -> bool:
    """Whether enough requests come at once for every worker to get some."""
    return float(condition.params.get("readers", 0)) >= 10 * condition.workers


def runs(condition: Condition, variant: str) -> bool:
    """Whether the variant is an arm of the condition."""
    return not condition.variants or variant in condition.variants


SCENARIO = Scenario(
    title="Cache stampede (thundering herd): one expiry, N queries",
    claim=(
        "When a hot key expires under 50 requests in flight, the database runs the same query 50 times; an "
        "asyncio.Lock in each of 4 workers leaves 4 queries, one lock in Redis leaves 1."
    ),
    before_after=BeforeAfter(
        each.sql_calls_per_burst("load"),
        "queries for one expiry",
        "50 readers, 4 workers",
        "A cached report expires while 50 requests ask for it.",
    ),
    labels={
        "naive": "no lock",
        "tempting": "asyncio.Lock in each worker",
        "correct": "lock in Redis",
        "with_cashews": "cashews, lock=True",
        "with_aiocache_stampede": "aiocache, @cached_stampede",
        "with_aiocache": "aiocache, @cached",
        "with_fastapi_cache": "fastapi-cache2, @cache",
    },
    symptoms=(
        "cache stampede",
        "thundering herd",
        "dogpile",
        "database CPU spikes at regular intervals",
        "the same slow query many times at once",
        "p99 latency spike when the cache expires",
        "Redis cache with expire, database still overloaded",
        "SETEX",
        "cache miss storm",
        "TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already",
        "FATAL: sorry, too many clients already",
    ),
    parts=(5, 11),
    catalogue_ids=("ca-stampede", "ca-lock-ttl", "ca-lock-del-foreign", "ca-lock-holder-dies", "ca-lock-herd"),
    services=("postgres", "redis"),
    constants={"CACHE_TTL_S": CACHE_TTL_S, "POOL_SIZE": POOL_SIZE, "WAIT_S": WAIT_S, "LOCK_KEY": LOCK_KEY},
    queries={"load": "SELECT%FROM daily_sales%"},
    final_reads=(FinalRead("locks", redis=("EXISTS", LOCK_KEY)),),
    conditions=(
        burst("1 reader", 1, variants=("naive", "correct"), control=True),
        burst("10 readers", 10, quick=False, repeats=3, variants=OWN),
        burst("50 readers", 50),
        burst("100 readers", 100, quick=False, repeats=3, variants=OWN),
        burst("500 readers", 500, quick=False, variants=OWN),
        burst("50 readers, 4 workers", 50, workers=4),
        burst(
            "holder killed, 4 workers",
            40,
            workers=4,
            variants=("correct",),
            events=(Event(0.5, "kill", "querying", label="the worker that loads is killed"),),
        ),
        Condition(
            "warm",
            ClosedLoad(4),
            duration_s=1.2,
            user="Reader",
            params={"users": 4},
            variants=("naive", "correct"),
            quick_pairs=1,
        ),
        Condition(
            "side by side",
            ClosedLoad(1),
            duration_s=2.0,
            user="Reader",
            params={"alone": True},
            variants=("naive", "correct"),
            duet=True,
        ),
    ),
    probes=(Probe("/reports/daily-sales"),),
    survival=Survival(
        user="Steady",
        answer_within_s=WAIT_S + 1.0,
        recover_within_s=3.0,
        ledger={"leaked": each.final("locks")},
        variants=("correct",),
    ),
    claims=(
        Claim(
            "naive_loads",
            "harm",
            "C requests in flight at the expiry make C queries",
            naive.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, float(c.params.get("readers", 0))),
            tolerance=0.0,
            formula="C",
            source="every request that looks within one load finds nothing; Nishtala et al., NSDI 2013, section 3.2.1",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "busy",
            "mechanism",
            "every connection of the pool runs the same query",
            naive.connections_peak("active"),
            predict=lambda c: min(c.number("readers"), POOL_SIZE) if in_burst(c, 1.0) and c.workers == 1 else None,
            formula="min(C, pool)",
            source="pg_stat_activity while the loads run; the pool holds 20",
            tolerance=0.0,
            headline="50 readers",
        ),
        Claim(
            "tempting_loads",
            "harm",
            "an asyncio.Lock leaves one query in each worker",
            tempting.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, float(c.workers)) if many(c) and runs(c, "tempting") else None,
            tolerance=0.0,
            formula="W",
            source="Python documentation, asyncio.Lock: for tasks of one event loop",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "every_worker",
            "mechanism",
            "the burst reaches every worker",
            tempting.pids_seen,
            predict=lambda c: in_burst(c, float(c.workers)) if many(c) and runs(c, "tempting") else None,
            tolerance=0.0,
            formula="W",
            source="a worker that got no request would make no query, and the count above would say nothing",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "correct_loads",
            "fix",
            "a lock in Redis leaves one query",
            correct.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, 1.0),
            tolerance=0.0,
            formula="1",
            source="Redis documentation, SET: with NX one caller wins",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "cashews_loads",
            "fix",
            "cashews with lock=True leaves one query too",
            with_cashews.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, 1.0) if many(c) and runs(c, "with_cashews") else None,
            tolerance=0.0,
            formula="1",
            source="cashews' README, Locked: one function call for all, and the others wait for it",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "aiocache_stampede_loads",
            "harm",
            "with aiocache's @cached_stampede only one worker waits; all requests of the others load",
            with_aiocache_stampede.sql_calls_per_burst("load"),
            predict=lambda c: (
                in_burst(c, 1 + c.number("readers") * (1 - 1 / c.workers))
                if many(c) and runs(c, "with_aiocache_stampede")
                else None
            ),
            tolerance=0.02,
            formula="1 + C - C / W, to one request, since 50 are not divisible by 4",
            source="aiocache/lock.py: the lock is in Redis, the event that others wait for is in the process",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "aiocache_loads",
            "harm",
            "aiocache's @cached has no lock",
            with_aiocache.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, c.number("readers")) if many(c) and runs(c, "with_aiocache") else None,
            tolerance=0.0,
            formula="C",
            source="aiocache/decorators.py: get, call, set",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "fastapi_cache_loads",
            "harm",
            "nor has fastapi-cache2's @cache",
            with_fastapi_cache.sql_calls_per_burst("load"),
            predict=lambda c: in_burst(c, c.number("readers")) if many(c) and runs(c, "with_fastapi_cache") else None,
            tolerance=0.0,
            formula="C",
            source="fastapi_cache/decorator.py: get, call, set",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "killed_loads",
            "fix",
            "if the worker that loads is killed, there is one more query",
            correct.sql_calls_per_burst("load"),
            relation="at_most",
            predict=lambda c: where_killed(c, 2.0),
            tolerance=0.0,
            formula="1 + 1 killed",
            source="PostgreSQL finishes the dead worker's query, then one other worker takes the expired lock",
        ),
        Claim(
            "killed_wait",
            "fix",
            "if the worker that loads is killed, nobody waits longer than the bound",
            correct.observed("kept_waiting"),
            predict=lambda c: where_killed(c, 0.0),
            tolerance=0.0,
            formula="0",
            source="LOCK_TTL_S (2 s) and a load (0.25 s) are less than WAIT_S (3 s)",
        ),
        Claim(
            "killed_refused",
            "fix",
            "if the worker that loads is killed, no other worker answers with an error",
            correct.observed("refused"),
            predict=lambda c: where_killed(c, 0.0),
            tolerance=0.0,
            formula="0",
            source="the others wait and load; only connections to the dead worker break",
        ),
        Claim(
            "one_look",
            "tax",
            "a hit still takes one round trip to Redis",
            correct.redis_calls_per_request("mget"),
            predict=having("users", value=1.0),
            tolerance=0.05,
            formula="1",
            source="one MGET reads the report and its state; one more at a miss, once a second",
        ),
        Claim(
            "cpu",
            "tax",
            "a hit costs at most a quarter more CPU",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            relation="at_most",
            predict=having("alone", value=1.25),
            null=1.0,
            formula="1.25",
            source="measured here: a second key in the same command; a quarter is what we would still accept",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.sql_calls_per_burst("load"),
            (
                "One expiry sent {naive_loads:.0f} identical queries; {tempting_loads:.0f} with an asyncio.Lock in "
                "each of 4 workers, {correct_loads:.0f} with a lock in Redis"
            ),
            y_label="queries per expiry",
            conditions=("50 readers", "50 readers, 4 workers"),
            theory=("naive_loads", "tempting_loads", "correct_loads"),
        ),
        Chart(
            "sweep",
            each.sql_calls_per_burst("load"),
            "Without a lock, queries per expiry grow with the number of readers",
            x="readers",
            x_label="requests in flight",
            y_label="queries per expiry",
            conditions=("1 reader", "10 readers", "50 readers", "100 readers", "500 readers"),
            theory=("naive_loads", "tempting_loads", "correct_loads"),
            log_x=True,
            log_y=True,
        ),
        Chart(
            "ecdf",
            "latency",
            "Without a lock, 50 readers queue for {busy:.0f} connections; with a lock, all wait for one query",
            conditions=("50 readers",),
        ),
        Chart(
            "timeline",
            "latency",
            "The worker that holds the lock is killed: the others wait until the lock expires, then one loads",
            conditions=("holder killed, 4 workers",),
        ),
    ),
    answer=(
        "One expiry under {naive_loads.predicted:.0f} requests in flight sends {naive_loads:.0f} identical queries; "
        "an asyncio.Lock in each of 4 workers leaves {tempting_loads:.0f}, a lock in Redis {correct_loads:.0f}, and "
        "at most {killed_loads:.0f} if the worker that holds it is killed."
    ),
    disagrees_with_source=(
        "The source says that one expiry can send 500 simultaneous queries. 500 requests do send 500 queries, but a "
        "pool of 20 runs 20 at a time: the database sees a queue, and the last user waits for 500 / 20 = 25 loads."
    ),
)
