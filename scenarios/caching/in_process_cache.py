"""Workers share nothing: K keys are loaded W K times, a write leaves W - 1 workers with the old value, and a dictionary only grows.

The walk visits every worker (a new connection for each request until each worker has answered for each key), so the counts are exact.  The
growth is N values of about 8 kB of JSON for N keys, beside the 75 MB of a worker.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Server

KEYS = 10
NEW_PRICE = 1
MOST_TRIES = 4000  # of a walk; a worker that never answers ends it
DISTINCT = 3000  # dataset.sql
VALUE_BYTES = 8192  # of a description in dataset.sql
WORKER_BYTES = 75_000_000  # of a worker with nothing cached: FastAPI, asyncpg, Redis; measured once, an order of magnitude is enough


class Walker(LabUser):
    """Warms every worker, changes one price, and looks which workers still serve the old one."""

    def journey(self) -> None:
        for key in range(1, KEYS + 1):
            self.ask_every_worker(key)
        old = self.get("/products/1", name="read").json()["price_cents"]
        self.put("/products/1/price", name="write", json={"price_cents": NEW_PRICE})
        self.count("stale_workers", sum(price == old for price in self.ask_every_worker(1).values()))

    def ask_every_worker(self, key: int) -> dict[str, int]:
        """Read a product from each worker; the price that each gave."""
        prices: dict[str, int] = {}
        for _ in range(MOST_TRIES):
            self.reconnect()
            reply = self.get(f"/products/{key}", name="read")
            prices[reply.header("x-lab-pid")] = reply.json()["price_cents"]
            if len(prices) == self.condition.workers:
                break
        return prices


class Crawler(LabUser):
    """Asks for every product once."""

    asked = 0

    @task
    def read(self) -> None:
        type(self).asked += 1
        self.get(f"/products/{type(self).asked}", name="crawl")


def walk(workers: int, *, quick: bool = True, control: bool = False) -> Condition:
    """One walk over so many workers."""
    return Condition(
        f"{workers} worker{'s' if workers > 1 else ''}", Journey(), server=Server(workers=workers), user="Walker",
        params={"workers": workers}, quick=quick, quick_pairs=1, control=control,
    )  # fmt: skip


def walked(condition: Condition, value: float) -> float | None:
    """``value`` where the workers are walked."""
    return value if condition.user == "Walker" else None


SCENARIO = Scenario(
    title="A cache in the process",
    claim="W workers load K keys W K times, a write leaves W - 1 of them stale for ever, and the dictionary only grows",
    parts=(5, 11),
    catalogue_ids=("ca-inprocess-workers", "ca-no-ttl"),
    services=("postgres", "redis"),
    queries={"load": "SELECT%FROM products%"},
    conditions=(
        walk(1, control=True),
        walk(2, quick=False),
        walk(4),
        Condition("crawled", ClosedLoad(4, requests=DISTINCT), user="Crawler", params={"workers": 1}, quick_pairs=3),
    ),
    probes=(Probe("/products/9", body={"id": 9, "price_cents": 1009}, ignore=("description",), before=False, after=False),
            Probe("/products/999999", status=404)),
    claims=(
        Claim(
            "naive_loads", "harm", "each worker loads each key (and one again after the write)", "naive.sql_calls[load]",
            predict=lambda c: walked(c, c.workers * KEYS + 1.0), tolerance=0.0,
            formula="W K + 1 after the write", source="processes share nothing; claims ca-inprocess-workers", headline="4 workers",
        ),
        Claim(
            "naive_stale", "harm", "after a write all workers but one serve the old price", "naive.observed[stale_workers]",
            predict=lambda c: walked(c, c.workers - 1.0), tolerance=0.0,
            formula="W - 1", source="the delete reaches one dictionary; claims ca-inprocess-workers", headline="4 workers",
        ),
        Claim(
            "every_worker", "mechanism", "every worker was asked", "naive.pids_seen",
            predict=lambda c: walked(c, float(c.workers)), tolerance=0.0,
            formula="W", source="a new connection for each request, until each has answered", headline="4 workers",
        ),
        Claim(
            "naive_grows", "mechanism", "a crawl leaves every product in the worker's memory", "naive.rss_peak_bytes / correct.rss_peak_bytes",
            relation="at_least", predict=lambda c: None if walked(c, 1.0) else 1 + DISTINCT * VALUE_BYTES / WORKER_BYTES, tolerance=0.10, null=1.0,
            formula="1 + N x 8 kB / a worker", source="nothing leaves a dictionary; claims ca-no-ttl",
        ),
        Claim(
            "correct_loads", "fix", "in Redis a key is loaded once for all workers", "correct.sql_calls[load]",
            predict=lambda c: walked(c, KEYS + 1.0), tolerance=0.0,
            formula="K + 1 after the write", source="one cache", headline="4 workers",
        ),
        Claim(
            "correct_stale", "fix", "after a write no worker serves the old price", "correct.observed[stale_workers]",
            predict=lambda c: walked(c, 0.0), tolerance=0.0,
            formula="0", source="one delete for all", headline="4 workers",
        ),
        Claim(
            "round_trips", "tax", "a hit costs one round trip to Redis", "correct.redis_calls_per_request[get]",
            predict=lambda c: walked(c, 1.0), relation="at_least", tolerance=0.0,
            formula="1, and another for a miss", source="GET before every answer", headline="4 workers",
        ),
    ),
    charts=(
        Chart(
            "counts", "observed[stale_workers]", "One price is changed: {naive_stale:.0f} of four workers go on serving the old one",
            y_label="workers with the old price", conditions=("1 worker", "4 workers"), theory=("naive_stale", "correct_stale"),
        ),
        Chart(
            "counts", "sql_calls[load]", "Ten keys, four workers: {naive_loads:.0f} loads; from one cache {correct_loads:.0f}",
            y_label="loads from the database", conditions=("1 worker", "4 workers"), theory=("naive_loads", "correct_loads"),
        ),
        Chart(
            "counts", "rss_peak_bytes", "A crawl of 3,000 products stays in the worker: {naive_grows:.2f} times the memory",
            conditions=("crawled",),
        ),
    ),
    answer="Four workers load ten keys {naive_loads:.0f} times (predicted {naive_loads.predicted:.0f}) and {naive_stale:.0f} of them keep "
    "the old price after a write, for ever; with one cache in Redis it is {correct_loads:.0f} loads and {correct_stale:.0f} stale workers.",
)  # fmt: skip
