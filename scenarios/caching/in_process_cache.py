"""Workers share nothing: K keys are loaded W K times, a write leaves W - 1 workers with the old value, and a dictionary only grows.

The walk visits every worker (a new connection for each request until each worker has answered for each key), so the counts are exact.  The
growth is N values of about 8 kB of JSON for N keys, beside the 75 MB of a worker.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Server, Survival
from lab.words.metrics import correct, each, naive

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
        writer = self.put("/products/1/price", name="write", json={"price_cents": NEW_PRICE}).header("x-lab-pid")
        prices = self.ask_every_worker(1)
        self.count("stale_workers", sum(price == old for price in prices.values()))
        self.count("only_the_writer_is_fresh", {pid for pid, price in prices.items() if price == NEW_PRICE} == {writer})

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


class Steady(LabUser):
    """Raises the price of one product per user, and reads it back twice over new connections, from other workers.

    A write that was not confirmed may have happened or not; what is stale is a price that an earlier confirmed write had set.
    """

    price = 0
    confirmed = 0
    earlier: frozenset[int] = frozenset()

    @task
    def change_and_read(self) -> None:
        path = f"/products/{101 + self.number}"
        self.price += 1
        if self.put(f"{path}/price", name="write", json={"price_cents": self.price}).status == 204:
            self.earlier |= {1101 + self.number if not self.confirmed else self.confirmed}
            self.confirmed = self.price
        # Workers take connections in turn: with one read, each write would go to the worker that read last, and no old price were met.
        for _ in range(2):
            self.reconnect()
            reply = self.get(path, name="read")
            if reply.status == 200:
                self.count("stale", reply.json()["price_cents"] in self.earlier)


def walk(workers: int, *, quick: bool = True, control: bool = False) -> Condition:
    """One walk over so many workers."""
    return Condition(
        f"{workers} worker{'s' if workers > 1 else ''}",
        Journey(),
        server=Server(workers=workers),
        user="Walker",
        params={"workers": workers},
        quick=quick,
        quick_pairs=1,
        control=control,
    )


def walked(condition: Condition, value: float) -> float | None:
    """``value`` where the workers are walked."""
    return value if condition.user == "Walker" else None


SCENARIO = Scenario(
    title="In-process cache: each worker serves its own stale copy",
    claim=(
        "With a dict as cache, 4 workers load 10 products 41 times instead of 11, and 3 of the 4 keep serving the "
        "old price after a change until they are restarted; with one cache in Redis, none does."
    ),
    before_after=BeforeAfter(
        each.observed("stale_workers"),
        "of 4 workers that serve the old price",
        "4 workers",
        "A price is changed while four workers have the old one in their caches.",
    ),
    labels={"naive": "dict in each worker", "correct": "one cache in Redis"},
    symptoms=(
        "stale data after update",
        "value flips between old and new on reload",
        "works with one worker, wrong with --workers 4",
        "lru_cache in FastAPI with several workers",
        "cache not shared between uvicorn workers",
        "gunicorn workers different results",
        "memory grows until restart",
        "memory leak",
        "cache never expires",
        "worker killed by the OOM killer",
        "[ERROR] Worker (pid:1234) was sent SIGKILL! Perhaps out of memory?",
        "RuntimeError: cannot reuse already awaited coroutine",
    ),
    parts=(5, 11),
    catalogue_ids=("ca-inprocess-workers", "ca-no-ttl", "ca-penetration"),
    services=("postgres", "redis"),
    queries={"load": "SELECT%FROM products%"},
    conditions=(
        walk(1, control=True),
        walk(2, quick=False),
        walk(4),
        Condition("crawled", ClosedLoad(4, requests=DISTINCT), user="Crawler", params={"workers": 1}, quick_pairs=3),
    ),
    probes=(
        Probe("/products/9", body={"id": 9, "price_cents": 1009}, ignore=("description",), before=False, after=False),
        Probe("/products/999999", status=404),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.0,
        recover_within_s=3.0,
        ledger={"outdated": each.observed("stale")},
        variants=("correct",),
    ),
    claims=(
        Claim(
            "naive_loads",
            "harm",
            "each worker loads each product (and one loads again after the write)",
            naive.sql_calls("load"),
            predict=lambda c: walked(c, c.workers * KEYS + 1.0),
            tolerance=0.0,
            formula="W K + 1 after the write",
            source="uvicorn documentation, Deployment: workers are processes, and processes share no memory",
            headline="4 workers",
        ),
        Claim(
            "naive_stale",
            "harm",
            "after a write, all workers but one serve the old price",
            naive.observed("stale_workers"),
            predict=lambda c: walked(c, c.workers - 1.0),
            tolerance=0.0,
            formula="W - 1",
            source="the delete reaches one dictionary of W",
            headline="4 workers",
        ),
        Claim(
            "only_the_writer",
            "mechanism",
            "only the worker that served the write has the new price",
            naive.observed("only_the_writer_is_fresh"),
            predict=lambda c: walked(c, 1.0),
            tolerance=0.0,
            formula="1",
            source="cache.pop() runs in the process that got the PUT",
            headline="4 workers",
        ),
        Claim(
            "naive_grows",
            "mechanism",
            "a crawl leaves every product in the worker's memory",
            naive.rss_peak_bytes / correct.rss_peak_bytes,
            relation="at_least",
            predict=lambda c: None if walked(c, 1.0) else 1 + DISTINCT * VALUE_BYTES / WORKER_BYTES,
            tolerance=0.10,
            null=1.0,
            formula="1 + N x 8 kB / a worker",
            source="nothing leaves a dictionary; 8 kB is the description's size in dataset.sql",
        ),
        Claim(
            "correct_loads",
            "fix",
            "in Redis, a product is loaded once for all workers",
            correct.sql_calls("load"),
            predict=lambda c: walked(c, KEYS + 1.0),
            tolerance=0.0,
            formula="K + 1 after the write",
            source="one cache",
            headline="4 workers",
        ),
        Claim(
            "correct_stale",
            "fix",
            "after a write, no worker serves the old price",
            correct.observed("stale_workers"),
            predict=lambda c: walked(c, 0.0),
            tolerance=0.0,
            formula="0",
            source="one delete for all",
            headline="4 workers",
        ),
        Claim(
            "round_trips",
            "tax",
            "a read costs one round trip to Redis",
            correct.redis_calls("get") / correct.requests_ok("read"),
            predict=lambda c: walked(c, 1.0),
            tolerance=0.0,
            formula="1",
            source="GET before every answer",
            headline="4 workers",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("stale_workers"),
            (
                "After a price change {naive_stale:.0f} of 4 workers kept the old one; with one cache in Redis "
                "{correct_stale:.0f}"
            ),
            y_label="workers with the old price",
            conditions=("1 worker", "4 workers"),
            theory=("naive_stale", "correct_stale"),
        ),
        Chart(
            "counts",
            each.sql_calls("load"),
            (
                "10 products, 4 workers: {naive_loads:.0f} queries with a dict in each worker, {correct_loads:.0f} "
                "with one cache in Redis"
            ),
            y_label="queries to the database",
            conditions=("1 worker", "4 workers"),
            theory=("naive_loads", "correct_loads"),
        ),
        Chart(
            "counts",
            each.rss_peak_bytes,
            "A crawl of 3,000 products stays in the worker: {naive_grows:.2f} times the memory",
            conditions=("crawled",),
        ),
    ),
    answer=(
        "With a dict in each of 4 workers, 10 products are loaded {naive_loads:.0f} times and {naive_stale:.0f} "
        "workers keep the old price after a change, until restart; with one cache in Redis it is {correct_loads:.0f} "
        "loads and {correct_stale:.0f} stale workers."
    ),
)
