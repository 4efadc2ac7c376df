"""A def route with a response model needs a thread twice; its session holds a connection from the first to the second.

With T threads and P connections a burst of T + P finds P requests that hold a connection and wait for a thread, and T that hold a thread and
wait for a connection: nobody moves for the pool's timeout.  With one request fewer a thread is free and it resolves itself.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Burst, Chart, Claim, Condition, Probe, Scenario

POOL_TIMEOUT_S = 2  # POOL_TIMEOUT_S in all targets
QUERY_S = 0.05  # dataset.sql
GRID = ((10, 5, True), (20, 5, True), (10, 10, False), (40, 15, False))


class Reader(LabUser):
    @task
    def read_order(self) -> None:
        reply = self.get(f"/orders/{1 + self.number}", name="order")
        self.count("stalled", reply.latency_s >= POOL_TIMEOUT_S)


def burst(threads: int, pool: int, *, over: bool, quick: bool) -> Condition:
    """The burst at the threshold, or one below it."""
    requests = threads + pool - (not over)
    return Condition(
        f"{threads} threads, {pool} connections, {requests} requests", Burst(requests), env={"THREADS": str(threads), "POOL_SIZE": str(pool)},
        params={"threads": threads, "pool": pool, "requests": requests, "over": over}, quick=quick, quick_pairs=1, control=not over,
    )  # fmt: skip


def over(condition: Condition, value: float) -> float | None:
    """``value`` at the threshold."""
    return value if condition.params["over"] else None


def below(condition: Condition, value: float) -> float | None:
    """``value`` one request below it."""
    return None if condition.params["over"] else value


SCENARIO = Scenario(
    title="Threads and connections in a deadlock",
    claim="A def route with a response model stands still for the pool's timeout at exactly threads + connections requests at once",
    parts=(2, 17),
    catalogue_ids=("as-threadpool-pool-deadlock",),
    services=("postgres",),
    constants={"POOL_TIMEOUT_S": POOL_TIMEOUT_S},
    conditions=tuple(burst(threads, pool, over=at, quick=quick) for threads, pool, quick in GRID for at in (False, True)),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/orders/7", body={"id": 7, "total_cents": 700}), Probe("/orders/2000", status=404)),
    claims=(
        Claim(
            "stall", "harm", "threads + connections requests at once wait for the pool's timeout", "naive.makespan_s", relation="at_least",
            predict=lambda c: over(c, float(POOL_TIMEOUT_S)), tolerance=0.0,
            formula="pool_timeout", source="a cycle of waits ends only by a timeout; claims as-threadpool-pool-deadlock",
            headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "errors", "harm", "and some of them fail", "naive.responses_5xx", relation="at_least",
            predict=lambda c: over(c, 1.0), tolerance=0.0,
            formula="at least 1", source="QueuePool raises TimeoutError", headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "below_clean", "mechanism", "one request fewer and nobody waits for the timeout", "naive.observed[stalled]",
            predict=lambda c: below(c, 0.0), tolerance=0.0,
            formula="0 below threads + connections", source="one free thread makes one answer, which frees one connection",
            headline="10 threads, 5 connections, 14 requests",
        ),
        Claim(
            "below_errors", "mechanism", "and nobody fails", "naive.responses_5xx",
            predict=lambda c: below(c, 0.0), tolerance=0.0,
            formula="0", source="as before", headline="10 threads, 5 connections, 14 requests",
        ),
        Claim(
            "all_threads", "mechanism", "every thread is taken", "naive.threads_borrowed_max",
            predict=lambda c: over(c, c.number("threads")), tolerance=0.0,
            formula="T", source="the limiter's borrowed tokens", headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "all_wait", "mechanism", "and each of them waits for a connection", "naive.pool_waiting_max",
            predict=lambda c: over(c, c.number("threads")), tolerance=0.0,
            formula="T", source="the pool's own queue; the P connections are held by requests that wait for a thread",
            headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "correct_clean", "fix", "with the session ended before the return nobody waits for the timeout", "correct.observed[stalled]",
            predict=lambda c: 0.0, tolerance=0.0,
            formula="0", source="who has a connection needs no other thread", headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "correct_all", "fix", "and everybody is answered", "correct.requests_ok",
            predict=lambda c: c.number("requests"), tolerance=0.0,
            formula="C", source="as before", headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "limited_all", "fix", "with max_concurrency everybody is answered, too", "limited.requests_ok",
            predict=lambda c: c.number("requests"), tolerance=0.0,
            formula="C", source="FastAPI documentation, limit dependency concurrency", headline="10 threads, 5 connections, 15 requests",
        ),
        Claim(
            "limited_clean", "fix", "and nobody waits for the timeout", "limited.observed[stalled]",
            predict=lambda c: 0.0, tolerance=0.0, formula="0", source="waiting holds no thread",
            headline="10 threads, 5 connections, 15 requests",
        ),
    ),
    charts=(
        Chart(
            "counts", "observed[stalled]", "One request more and {stall:.1f} s pass: the threshold is threads + connections",
            y_label="requests that waited for the pool's timeout",
            conditions=tuple(burst(threads, pool, over=at, quick=quick).label for threads, pool, quick in GRID if quick for at in (False, True)),
            theory=("below_clean", "correct_clean", "limited_clean"),
        ),
        Chart(
            "timeline", "latency", "Nothing answers until the pool gives up", conditions=("10 threads, 5 connections, 15 requests",),
        ),
        Chart(
            "ecdf", "latency", "Fifteen requests at once: some wait {stall:.1f} s", log_x=True,
            conditions=("10 threads, 5 connections, 15 requests",),
        ),
    ),
    answer="With 10 threads and 5 connections 15 requests at once stand still for {stall:.1f} s and {errors:.0f} fail; 14 take milliseconds. "
    "With the session ended before the route returns all {correct_all:.0f} are answered.",
)  # fmt: skip
