"""Between the expiry of a key and the first SETEX lies one load of D: each of C requests that look meanwhile loads, C times D of work.

A lock in the process leaves one load a worker, a lock in Redis one in all, also when its holder is killed: then one more, once
the lock has expired.  C loads need no C connections: a request that waits for the pool has missed already.
"""

import time

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Burst, Chart, Claim, ClosedLoad, Condition, Event, Probe, Scenario, Server

CACHE_TTL_S = 1  # CACHE_TTL_S in all targets
LOAD_S = 0.25  # pg_sleep in dataset.sql
POOL_SIZE = 20  # POOL_SIZE in all targets
WAIT_S = 3.0  # WAIT_S in correct.py: the bound of a wait for the lock


class Reader(LabUser):
    @task
    def read_report(self) -> None:
        reply = self.get("/reports/daily-sales", name="report")
        self.count("refused", reply.status >= 400)
        self.count("kept_waiting", reply.latency_s > WAIT_S + LOAD_S)

    def before_burst(self, k: int) -> None:
        """Let the key expire that the probe or the burst before has left: what is tested is a real expiry, so its time must pass."""
        time.sleep(1.25 * CACHE_TTL_S)


def burst(
    label: str, readers: int, *, workers: int = 1, repeats: int = 1, quick: bool = True, quick_pairs: int | None = 1,
    variants: tuple[str, ...] = (), events: tuple[Event, ...] = (), control: bool = False,
) -> Condition:  # fmt: skip
    """``readers`` requests at one instant on an expired key, ``repeats`` times."""
    return Condition(
        label, Burst(readers, repeats=repeats, every_s=readers / POOL_SIZE * LOAD_S + 2, spread=workers > 1), server=Server(workers=workers),
        params={"readers": readers, "workers": workers, "killed": len(events)}, quick=quick, quick_pairs=quick_pairs,
        variants=variants, events=events, control=control,
    )  # fmt: skip


def in_burst(condition: Condition, value: float) -> float | None:
    """``value`` for a burst in which nobody dies."""
    return value if "readers" in condition.params and not condition.params["killed"] else None


def where_killed(condition: Condition, value: float) -> float | None:
    """``value`` where the holder of the lock is killed."""
    return value if condition.params.get("killed") else None


def many(condition: Condition) -> bool:
    """Whether enough requests come at once for every worker to get some."""
    return float(condition.params.get("readers", 0)) >= 10 * condition.workers


SCENARIO = Scenario(
    title="A cache without a lock",
    claim="When a hot key expires under C requests in flight the database gets C loads; a lock in the process leaves W, one in Redis 1",
    parts=(5, 11),
    catalogue_ids=("ca-stampede", "ca-lock-ttl", "ca-lock-del-foreign", "ca-lock-holder-dies", "ca-lock-herd"),
    services=("postgres", "redis"),
    constants={"CACHE_TTL_S": CACHE_TTL_S, "POOL_SIZE": POOL_SIZE, "WAIT_S": WAIT_S},
    queries={"load": "SELECT%FROM daily_sales%"},
    conditions=(
        burst("1 reader", 1, variants=("naive", "correct"), control=True),
        burst("10 readers", 10, quick=False, repeats=3),
        burst("50 readers", 50),
        burst("100 readers", 100, quick=False, repeats=3),
        burst("500 readers", 500, quick=False),
        burst("50 readers, 4 workers", 50, workers=4),
        burst(
            "holder killed, 4 workers", 40, workers=4, variants=("correct",),
            events=(Event(0.5, "kill", "querying", label="the worker that loads is killed"),),
        ),
        Condition("warm", ClosedLoad(4), duration_s=1.2, params={"users": 4}, variants=("naive", "correct"), quick_pairs=1),
        Condition("side by side", ClosedLoad(1), duration_s=2.0, params={"alone": True}, variants=("naive", "correct"), duet=True),
    ),
    probes=(Probe("/reports/daily-sales"),),
    claims=(
        Claim(
            "naive_loads", "harm", "C requests in flight make C loads", "naive.sql_calls_per_burst[load]",
            predict=lambda c: in_burst(c, float(c.params.get("readers", 0))), tolerance=0.0,
            formula="C", source="every request that looks within one load finds nothing; claims ca-stampede",
            headline="50 readers, 4 workers",
        ),
        Claim(
            "busy", "mechanism", "every connection of the pool runs the same query", "naive.connections_peak[active]",
            predict=lambda c: min(c.number("readers"), POOL_SIZE) if in_burst(c, 1.0) and c.workers == 1 else None,
            formula="min(C, pool)", source="pg_stat_activity while the loads run", tolerance=0.0,
            headline="50 readers",
        ),
        Claim(
            "tempting_loads", "harm", "a lock in the process leaves one load a worker", "tempting.sql_calls_per_burst[load]",
            predict=lambda c: in_burst(c, float(c.workers)) if many(c) and not c.variants else None, tolerance=0.0,
            formula="W", source="asyncio.Lock lives in one process; claims ca-stampede", headline="50 readers, 4 workers",
        ),
        Claim(
            "every_worker", "mechanism", "every worker was asked", "tempting.pids_seen",
            predict=lambda c: in_burst(c, float(c.workers)) if many(c) and not c.variants else None, tolerance=0.0,
            formula="W", source="without it tempting makes fewer loads than W", headline="50 readers, 4 workers",
        ),
        Claim(
            "correct_loads", "fix", "a lock in Redis leaves one load", "correct.sql_calls_per_burst[load]",
            predict=lambda c: in_burst(c, 1.0), tolerance=0.0,
            formula="1", source="SET NX has one winner; claims ca-stampede", headline="50 readers, 4 workers",
        ),
        Claim(
            "killed_loads", "fix", "the holder is killed: one more load", "correct.sql_calls_per_burst[load]",
            relation="at_most", predict=lambda c: where_killed(c, 2.0), tolerance=0.0,
            formula="1 + 1 killed", source="PostgreSQL finishes the dead worker's query, then one other takes the expired lock",
        ),
        Claim(
            "killed_wait", "fix", "the holder is killed: nobody waits longer than the bound and a load", "correct.observed[kept_waiting]",
            predict=lambda c: where_killed(c, 0.0), tolerance=0.0,
            formula="0", source="the lock expires before the wait ends; claims ca-lock-holder-dies",
        ),
        Claim(
            "killed_refused", "fix", "the holder is killed: no other worker answers with an error", "correct.observed[refused]",
            predict=lambda c: where_killed(c, 0.0), tolerance=0.0,
            formula="0", source="the others wait and load; only connections to the dead worker break",
        ),
        Claim(
            "one_look", "tax", "a hit still takes one round trip to Redis", "correct.redis_calls_per_request[mget]",
            predict=lambda c: 1.0 if "users" in c.params else None, tolerance=0.05,
            formula="1", source="one MGET for the report and its freshness",
        ),
        Claim(
            "cpu", "tax", "a hit costs at most a quarter more CPU", "correct.cpu_server_s_per_request / naive.cpu_server_s_per_request",
            relation="at_most", predict=lambda c: 1.25 if "alone" in c.params else None, null=1.0,
            formula="1.25", source="ours: a random token and a second key",
        ),
    ),
    charts=(
        Chart(
            "counts", "sql_calls_per_burst[load]",
            "One expiry, fifty requests: {naive_loads:.0f} loads; {tempting_loads:.0f} with one lock per process, "
            "{correct_loads:.0f} with one in Redis",
            y_label="loads per expiry", conditions=("50 readers", "50 readers, 4 workers"),
            theory=("naive_loads", "tempting_loads", "correct_loads"),
        ),
        Chart(
            "sweep", "sql_calls_per_burst[load]", "Without a lock the loads grow with the readers",
            x="readers", x_label="requests in flight", y_label="loads per expiry",
            conditions=("1 reader", "10 readers", "50 readers", "100 readers", "500 readers"),
            theory=("naive_loads", "tempting_loads", "correct_loads"), log_x=True, log_y=True,
        ),
        Chart(
            "ecdf", "latency", "Fifty readers take turns at {busy:.0f} connections; behind a lock all wait for one load",
            conditions=("50 readers",),
        ),
        Chart(
            "timeline", "latency", "The holder is killed: the others wait for the lock to expire and one of them loads",
            conditions=("holder killed, 4 workers",),
        ),
    ),
    answer="One expiry under {naive_loads.predicted:.0f} requests in flight makes {naive_loads:.0f} loads of the same report; a lock in the process "
    "leaves {tempting_loads:.0f} with four workers, a lock in Redis {correct_loads:.0f}, and at most {killed_loads:.0f} when its holder is killed.",
    disagrees_with_source="The source speaks of 500 simultaneous queries. There are 500 queries, but a pool of 20 runs 20 at a time: what the "
    "database sees is a queue, and what the users see is a wait of 25 loads.",
)  # fmt: skip
