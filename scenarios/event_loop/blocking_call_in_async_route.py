"""One loop that blocks for T is a queue with one server: W workers give W / T however many users there are.

In threads (``def``) it is min(C / W, 40) W / T, AnyIO's forty tokens per worker; awaited it is C / T until the CPU is full.
The number of requests is a multiple of the users, so that the last round is whole and no answer is cut in half by a clock.  A
connection stays with the worker that took it, so with two workers the connections are spread evenly over them.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    Probe,
    Scenario,
    Server,
    Stage,
    StagedLoad,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import under

tempting = Arm("tempting")

UPSTREAM_TIME_S = 0.1  # the supplier's time; long against the 2-3 ms of CPU that a request takes
QUICK_TIME_S = 0.001  # of a supplier beside which the CPU of a request is what counts
THREE_RATES = "three rates, quick supplier"
SIDE_BY_SIDE = "1 user, side by side"
AWAITED_CALL = 1.4  # CPU of a call through httpx2.AsyncClient by that through httpx2.Client, benchmarks/call_costs.py
WAVE_TIME_S = 0.8  # longer where eighty are in flight, so that the CPU is not what limits them
TICK_S = 0.005  # how often the lab's timer in the loop is due
THREADS = 40  # anyio 4.16, default limiter of to_thread.run_sync
MAX_CONNECTIONS = 100  # MAX_CONNECTIONS in all targets


class Shopper(LabUser):
    @task
    def read_availability(self) -> None:
        self.get(f"/availability/{self.rng.randrange(1, 1000)}", name="availability")


class Steady(LabUser):
    """Asks without a pause; a supplier that is away must never be told as "sold out"."""

    @task
    def read_availability(self) -> None:
        reply = self.get(f"/availability/{self.rng.randrange(1, 1000)}", name="availability")
        self.count("untrue", reply.status == 200 and not reply.json()["available"])


def users(
    label: str,
    count: int,
    requests: int,
    *,
    workers: int = 1,
    upstream_s: float = UPSTREAM_TIME_S,
    variants: tuple[str, ...] = (),
    quick: bool = True,
    quick_pairs: int | None = None,
    control: bool = False,
    duet: bool = False,
) -> Condition:
    """``count`` users who send ``requests`` in all."""
    return Condition(
        label,
        ClosedLoad(count, requests=requests, spread=workers > 1),
        user="Shopper",
        server=Server(workers=workers),
        upstream=Upstream(upstream_s),
        params={"users": count, "workers": workers, "upstream_s": upstream_s},
        variants=variants,
        quick=quick,
        quick_pairs=quick_pairs,
        control=control,
        duet=duet,
    )


def served(condition: Condition, at_once: float) -> float:
    """Answers per second when ``at_once`` calls are in flight, each of which takes the supplier's time."""
    return at_once / condition.number("upstream_s")


def runs(condition: Condition, *variants: str) -> bool:
    """Whether these variants run under the condition, each by itself."""
    return not condition.duet and (not condition.variants or set(variants) <= set(condition.variants))


def at_once_in_threads(condition: Condition) -> float | None:
    """Calls that a worker of the ``def`` variant makes at once: its share of the users, at most AnyIO's forty; None where the shares differ."""
    if "tempting" not in condition.variants:
        return None
    share = condition.number("users") / condition.workers
    uneven = condition.workers > 1 and (not condition.load.spread or share % 1)
    return None if uneven else min(share, THREADS)


def served_by_threads(condition: Condition) -> float | None:
    """Answers per second of the ``def`` variant."""
    share = at_once_in_threads(condition)
    return None if share is None else served(condition, share * condition.workers)


SCENARIO = Scenario(
    title="Blocking call in an async route (requests, time.sleep): one request at a time",
    claim=(
        "A blocking call of 100 ms in an `async def` route limits a worker to 10 requests per second, however many "
        "users there are; awaited, ten users get 100"
    ),
    parts=(2, 7, 14),
    catalogue_ids=("as-blocking-async", "as-threadpool-40", "asx-sync-lib-in-async"),
    services=("upstream",),
    constants={"MAX_CONNECTIONS": MAX_CONNECTIONS},
    before_after=BeforeAfter(
        each.throughput_rps,
        "requests per second",
        "10 users",
        "Ten users call a route that makes one blocking call of 0.1 s in `async def`.",
    ),
    labels={
        "naive": "blocking client in async def",
        "correct": "awaited client in async def",
        "tempting": "blocking client in def",
    },
    symptoms=(
        "event loop blocked",
        "slow under load",
        "all requests slow",
        "requests in async def",
        "time.sleep in async def",
        "health check timeout",
        "Executing <Task pending> took 0.101 seconds",
        "httpx.ReadTimeout",
        "CPU idle but slow",
        "ASYNC210",
        "ASYNC212",
        "ASYNC251",
    ),
    conditions=(
        users("1 user", 1, 10, variants=("naive", "correct"), control=True),
        users(SIDE_BY_SIDE, 1, 10, variants=("naive", "correct"), control=True, duet=True),
        # A supplier so quick that even the blocking route is never the limit: what is compared is CPU alone.
        Condition(
            THREE_RATES,
            StagedLoad(tuple(Stage(rate, 1.0) for rate in (20.0, 70.0, 120.0)), connections=8),
            user="Shopper",
            upstream=Upstream(QUICK_TIME_S),
            params={"rate": 70, "workers": 1, "upstream_s": QUICK_TIME_S},
            variants=("naive", "correct"),
            duet=True,
        ),
        users("5 users", 5, 30, quick=False),
        users("10 users", 10, 30),
        users("20 users", 20, 60, quick=False),
        users("2 workers, 10 users", 10, 50, workers=2, variants=("naive",)),
        users("2 workers, 20 users", 20, 120, workers=2, quick=False),
        users(
            "40 users in threads", 40, 160, upstream_s=WAVE_TIME_S, variants=("tempting",), quick=False, control=True
        ),
        users("80 users in threads", 80, 160, upstream_s=WAVE_TIME_S, variants=("tempting",)),
        users("80 users awaited", 80, 160, upstream_s=WAVE_TIME_S, variants=("correct",), quick=False),
    ),
    probes=(Probe("/availability/7", body={"sku": 7, "available": True}),),
    claims=(
        Claim(
            "naive_throughput",
            "harm",
            "a worker serves 1 / T requests per second, however many users there are",
            naive.throughput_rps,
            predict=lambda c: served(c, 1) if runs(c, "naive") and c.workers == 1 else None,
            formula="1 / T",
            source="a queue with one server (FastAPI documentation, Concurrency and async / await)",
            headline="10 users",
        ),
        Claim(
            "naive_workers",
            "harm",
            "W workers serve at most W / T requests per second",
            naive.throughput_rps,
            relation="at_most",
            predict=lambda c: served(c, c.workers) if runs(c, "naive") and c.workers > 1 else None,
            tolerance=0.20,
            formula="W / T",
            source="W queues with one server each",
            headline="2 workers, 10 users",
        ),
        Claim(
            "times_slower",
            "harm",
            "awaiting the call serves C times as many requests for C users",
            correct.throughput_rps / naive.throughput_rps,
            predict=lambda c: c.number("users") if runs(c, "naive", "correct") and c.workers == 1 else None,
            formula="C",
            source="(C / T) / (1 / T)",
            tolerance=0.30,
            null=1.0,
            headline="10 users",
        ),
        Claim(
            "loop_blocked",
            "mechanism",
            "the event loop is blocked for at least one whole call",
            naive.loop_lag_max_s,
            relation="at_least",
            predict=lambda c: c.number("upstream_s") - TICK_S if runs(c, "naive") else None,
            tolerance=0.0,
            formula="T - 5 ms",
            source="a loop that blocks runs no timer; the lab's own is due at any moment of 5 ms",
            headline="10 users",
        ),
        Claim(
            "threads",
            "mechanism",
            "`def` routes use 40 threads of a worker and no more",
            tempting.threads_borrowed_max,
            predict=at_once_in_threads,
            tolerance=0.0,
            formula="min(C / W, 40)",
            source="AnyIO documentation, Working with threads: 40 tokens",
            headline="80 users in threads",
        ),
        Claim(
            "tempting_throughput",
            "harm",
            "`def` serves 40 / T: eighty users take turns",
            tempting.throughput_rps,
            predict=served_by_threads,
            formula="min(C, 40 W) / T",
            source="a queue with 40 servers (AnyIO documentation, Working with threads)",
            tolerance=0.20,
            headline="80 users in threads",
        ),
        Claim(
            "correct_throughput",
            "fix",
            "awaited, C users get C / T requests per second",
            correct.throughput_rps,
            predict=lambda c: served(c, c.number("users")) if runs(c, "correct") else None,
            formula="C / T",
            source="Little's law; opening ten connections is left out",
            tolerance=0.30,
            headline="10 users",
        ),
        Claim(
            "loop_free",
            "fix",
            "awaited, the loop is never blocked for as long as a call",
            correct.loop_lag_max_s,
            relation="at_most",
            predict=lambda c: c.number("upstream_s") if runs(c, "correct") else None,
            formula="T",
            source="an awaited call holds the loop only while its Python code runs",
            tolerance=0.0,
            headline="10 users",
        ),
        Claim(
            "alone",
            "tax",
            "a single user waits no longer for the awaited call",
            correct.latency_p50_s / naive.latency_p50_s,
            predict=under(SIDE_BY_SIDE, value=1.0),
            formula="1",
            source="both wait for the supplier",
            null=1.0,
        ),
        Claim(
            "cpu",
            "tax",
            "one more request costs at most what the awaited client costs more than the blocking one",
            correct.cpu_marginal_s_per_request("server") / naive.cpu_marginal_s_per_request("server"),
            relation="at_most",
            predict=under(THREE_RATES, value=AWAITED_CALL),
            formula="(s + 1.4 h) / (s + h) <= 1.4, for a call of h and all the rest s",
            source="benchmarks/call_costs.py: a call of httpx2 costs 1.4 times the CPU when it is awaited",
            null=1.0,
            tolerance=0.10,
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.throughput_rps,
            (
                "Blocking: {naive_throughput:.0f} requests per second for any number of users; awaited: "
                "{correct_throughput:.0f} for ten users"
            ),
            x="users",
            x_label="users",
            y_label="requests per second",
            conditions=("1 user", "5 users", "10 users", "20 users"),
            theory=("naive_throughput", "correct_throughput"),
        ),
        Chart(
            "ecdf",
            "latency",
            "Ten users: with the blocking client each waits for the other nine",
            x_label="seconds",
            conditions=("10 users",),
            log_x=True,
        ),
        Chart(
            "timeline",
            each.loop_lag_max_s,
            "The event loop is blocked for {loop_blocked:.1f} s; awaited, for {loop_free:.3f} s at most",
            y_label="longest block of the loop, s",
            conditions=("10 users",),
        ),
    ),
    answer=(
        "With ten users the blocking call serves {naive_throughput:.1f} requests per second (1 / 0.1 s = "
        "{naive_throughput.predicted:.0f}); awaited, the same worker serves {correct_throughput:.0f}, "
        "{times_slower:.1f} times as many. Routes with `def` stop at {threads:.0f} threads."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"untrue": each.observed("untrue")},
        variants=("correct", "tempting"),
        upstream=Upstream(0.05),
    ),
    disagrees_with_source=(
        "Part 7 says that a stretch of 200 ms blocks every other request for 200 ms. That is the case of two "
        "requests: with C of them each waits C times as long."
    ),
)
