"""Workers share nothing: a client is admitted sum(min(L, requests that a worker sees)) times, W x L once each has seen L.

The connections are spread evenly over the workers, because a keep-alive connection stays with one worker (a single one is the
control: then the sum has one term).  One log in Redis, read and written by one script, admits L whatever W is.  Both variants keep the
same log of the last minute; they differ in where it is kept.
"""

import time

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    Journey,
    Probe,
    Scenario,
    Server,
    Stage,
    StagedLoad,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import under

slowapi_memory = Arm("slowapi_memory")
slowapi_redis = Arm("slowapi_redis")
with_fastapi_limiter = Arm("with_fastapi_limiter")

LIMIT = 100  # requests; LIMIT in the targets
WINDOW_S = 60  # WINDOW_S in the targets: far longer than a load of about a second
PER_WORKER = 400  # requests per worker: four times what each must see, for a busy worker serves fewer
ACME = {"X-API-Key": "key-of-acme"}
OTHER = {"X-API-Key": "key-of-probe"}
PROBED = 1  # request of the lab's probe before the load, with OTHER
OTHERS = 10  # requests of the second client, which has sent none before


class Client(LabUser):
    @task
    def read_quote(self) -> None:
        self.get("/quotes/ACME", name="quote", headers=ACME)


class TwoClients(LabUser):
    """One client uses up its limit, then another one comes."""

    def journey(self) -> None:
        for _ in range(2 * LIMIT):
            self.get("/quotes/ACME", name="quote", headers=ACME, expect=(200, 429))
        self.count("other_admitted", 0)
        for _ in range(OTHERS):
            status = self.get("/quotes/ACME", name="other", headers=OTHER, expect=(200, 429)).status
            self.count("other_admitted", status == 200)


class Steady(LabUser):
    """Comes at a pace that reaches the limit after the fault, not before: what was granted until then must still count."""

    granted = 0

    @task
    def read_quote(self) -> None:
        time.sleep(0.08)
        admitted = self.get("/quotes/ACME", name="quote", headers=ACME, expect=(200, 429)).status == 200
        Steady.granted += admitted
        self.count("oversold", admitted and Steady.granted > LIMIT)


def workers(count: int, *, quick_pairs: int | None = None, control: bool = False) -> Condition:
    """Twenty connections, spread evenly over ``count`` workers."""
    return Condition(
        f"{count} worker{'s' if count > 1 else ''}",
        ClosedLoad(20, requests=PER_WORKER * count, spread=count > 1),
        user="Client",
        server=Server(workers=count),
        params={"workers": count, "spread": True},
        quick_pairs=quick_pairs,
        control=control,
    )


def spread(condition: Condition) -> bool:
    """Whether the requests reach every worker."""
    return bool(condition.params.get("spread"))


def two_clients(condition: Condition, value: float) -> float | None:
    """``value`` where a second client comes after the first one has used up its limit."""
    return value if condition.user == "TwoClients" else None


SHARED_NOTHING = "Uvicorn documentation, Deployment: workers are processes, and processes share no memory"

SCENARIO = Scenario(
    title="In-process rate limiter: 4 workers admit 4x the limit",
    claim=(
        "With four workers a limit of 100 requests admits 400; one log in Redis admits 100, for one round trip per "
        "request"
    ),
    parts=(4, 10),
    catalogue_ids=("rl-inprocess-workers", "rl-400-per-min"),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S},
    before_after=BeforeAfter(
        each.status_count(200),
        "requests let through (limit 100)",
        "4 workers",
        "One client sends far more than 100 requests to four workers; the limit is 100.",
    ),
    labels={
        "naive": "log in each worker",
        "correct": "Lua sliding log in Redis",
        "slowapi_memory": "slowapi 0.1.10, in-memory default",
        "slowapi_redis": "slowapi 0.1.10, storage_uri=redis",
        "with_fastapi_limiter": "fastapi-limiter 0.2.0, README",
    },
    symptoms=(
        "rate limit not working with multiple workers",
        "rate limiter per process",
        "gunicorn workers",
        "uvicorn --workers",
        "slowapi memory://",
        "AttributeError: '_IncludedRouter' object has no attribute 'path'",
        "fastapi-limiter pyrate-limiter",
        "429 Too Many Requests",
        "ratelimit 100 per 1 minute exceeded at endpoint",
        "limit resets after deploy",
        "too many requests get through",
    ),
    conditions=(
        workers(1, quick_pairs=1, control=True),
        workers(2, quick_pairs=1),
        workers(4, quick_pairs=2),
        Condition(
            "one connection to 4 workers",
            ClosedLoad(1, requests=PER_WORKER),
            server=Server(workers=4),
            user="Client",
            params={"workers": 4, "spread": False},
            variants=("naive",),
            quick_pairs=1,
            control=True,
        ),
        Condition(
            "two clients, one worker",
            Journey(1),
            user="TwoClients",
            params={"clients": 2},
            quick_pairs=1,
            variants=("naive", "correct", "slowapi_redis", "with_fastapi_limiter"),
        ),
        Condition(
            "three rates",
            StagedLoad(tuple(Stage(rate, 1.0) for rate in (50.0, 300.0, 550.0)), connections=16),
            user="Client",
            params={"workers": 1, "spread": True},
            variants=("naive", "correct"),
            duet=True,
        ),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"oversold": each.observed("oversold")},
        variants=("correct",),
    ),
    probes=(
        # Not after a load: where all clients share one bucket, nothing is left for it.
        Probe("/quotes/ACME", headers=OTHER, body={"symbol": "ACME", "price_cents": 1999}, after=False),
        Probe("/quotes/ACME", status=401),
        Probe("/quotes/ACME", headers={"X-API-Key": "made-up"}, status=401),
    ),
    claims=(
        Claim(
            "naive_admitted",
            "harm",
            "four workers admit four times the limit",
            naive.status_count(200),
            predict=lambda c: LIMIT * (c.workers if spread(c) else 1) if "spread" in c.params else None,
            tolerance=0.0,
            formula="workers x limit = 4 x 100 = 400; with one connection 1 x 100",
            source="FastAPI Mastery, parts 4 and 10: 4 workers, 100 a minute become 400",
            headline="4 workers",
        ),
        Claim(
            "slowapi_admitted",
            "harm",
            "so does slowapi with its in-memory default",
            slowapi_memory.status_count(200),
            predict=lambda c: LIMIT * c.workers if spread(c) and not c.duet else None,
            tolerance=0.0,
            formula="workers x limit = 4 x 100 = 400",
            source="slowapi/extension.py: without a storage_uri the storage is memory://, which is the process's",
            headline="4 workers",
        ),
        Claim(
            "fastapi_limiter_admitted",
            "harm",
            "so does fastapi-limiter as its README shows it",
            with_fastapi_limiter.status_count(200),
            predict=lambda c: LIMIT * c.workers - PROBED if spread(c) and not c.duet else None,
            tolerance=0.0,
            formula="workers x limit = 4 x 100 = 400, less the 1 that another client, the lab's probe, took before",
            source="pyrate_limiter/limiter.py 4.5.1: Limiter(Rate(...)) makes an InMemoryBucket, which is the process's",
            headline="4 workers",
        ),
        Claim(
            "fastapi_limiter_other",
            "harm",
            "and all its clients share one bucket: a second client is refused from its first request on",
            with_fastapi_limiter.observed("other_admitted"),
            predict=lambda c: two_clients(c, 0.0),
            tolerance=0.0,
            formula="limit - 100 that the first client took = 0 of 10",
            source="pyrate_limiter/limiter.py 4.5.1: SingleBucketFactory.get ignores its item",
        ),
        Claim(
            "correct_other",
            "fix",
            "one log per client leaves the second client its limit",
            correct.observed("other_admitted"),
            predict=lambda c: two_clients(c, float(OTHERS)),
            tolerance=0.0,
            formula="min(limit, 10) = 10",
            source="the key is the client's",
        ),
        Claim(
            "slowapi_redis_admitted",
            "fix",
            "slowapi with its counters in Redis admits 100 too",
            slowapi_redis.status_count(200),
            predict=lambda c: LIMIT if spread(c) and not c.duet else None,
            tolerance=0.0,
            formula="limit = 100: the window begins with the client's first request",
            headline="4 workers",
            source="limits 5.8.0, incr_expire.lua: one key for all processes, which expires 60 s after its first INCRBY",
        ),
        Claim(
            "own_limit",
            "mechanism",
            "each worker grants exactly its own 100",
            naive.ok_per_pid_min,
            predict=lambda c: LIMIT if spread(c) else None,
            tolerance=0.0,
            formula="min(limit, requests seen) = 100, for the worker that granted least",
            source=SHARED_NOTHING,
            headline="4 workers",
        ),
        Claim(
            "correct_admitted",
            "fix",
            "one log in Redis admits 100 with any number of workers",
            correct.status_count(200),
            predict=lambda c: LIMIT if spread(c) else None,
            tolerance=0.0,
            formula="limit = 100",
            source="Redis documentation, Scripting with Lua: a script runs atomically",
            headline="4 workers",
        ),
        Claim(
            "correct_errors",
            "fix",
            "no request is answered with a 5xx",
            correct.responses_5xx,
            predict=lambda c: 0.0 if spread(c) else None,
            tolerance=0.0,
            formula="0",
            source="the pool waits for a connection instead of raising",
            headline="4 workers",
        ),
        Claim(
            "round_trips",
            "tax",
            "every request makes one round trip to Redis",
            correct.redis_calls_per_request("evalsha"),
            predict=lambda c: 1.0 if spread(c) and not c.duet else None,
            tolerance=0.0,
            formula="1",
            source="counted from the code: one script for each decision",
            headline="4 workers",
        ),
        Claim(
            "cpu",
            "tax",
            "the round trip costs no more CPU than the rest of a small request",
            correct.cpu_marginal_s_per_request("server") / naive.cpu_marginal_s_per_request("server"),
            relation="at_most",
            predict=under("three rates", value=2.0),
            null=1.0,
            tolerance=0.05,
            formula="(route + call) / route, with call <= route",
            source="measured here: one redis-py call takes about as long as a small route, 0.1 ms",
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.status_count(200),
            "With four workers the in-process log admits {naive_admitted:.0f}, Redis {correct_admitted:.0f}",
            x="workers",
            x_label="workers",
            y_label="requests admitted",
            conditions=("1 worker", "2 workers", "4 workers"),
            theory=("naive_admitted", "correct_admitted"),
        ),
        Chart(
            "counts",
            each.status_count(200),
            "A test with one connection does not show it: only one worker is asked",
            y_label="requests admitted",
            conditions=("4 workers", "one connection to 4 workers"),
            theory=("naive_admitted", "correct_admitted"),
        ),
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "The fix costs one round trip: {cpu:.1f} times the CPU",
            conditions=("three rates",),
        ),
    ),
    answer=(
        "With four workers a limit of 100 admits {naive_admitted:.0f} requests (predicted "
        "{naive_admitted.predicted:.0f}), with slowapi's in-memory default {slowapi_admitted:.0f}, with "
        "fastapi-limiter's {fastapi_limiter_admitted:.0f}. One log in Redis admits {correct_admitted:.0f}, for "
        "{round_trips:.0f} round trip per request and {cpu:.1f} times the CPU."
    ),
    disagrees_with_source=(
        "The source says four times the limit for four workers. That holds once every worker has seen the limit. A "
        "client that keeps one connection open is admitted exactly once the limit, because a connection stays with "
        "its worker."
    ),
)
