"""A cache that keeps only what it has found never keeps a miss: N requests for an id that does not exist are N queries, for any time to live.

With the absence kept they are one query for each time to live of the absence.  Ids that are asked for once each are one query each in both, and with
the absence kept a key each besides.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, FinalRead, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, under

REQUESTS = 100
GONE = 5000  # an id that nobody has
SAME, DIFFERENT, CREATED, PRESENT = (
    "100 requests for one id that does not exist",
    "100 ids that do not exist, once each",
    "asked for, created, asked for",
    "100 requests for one that exists",
)


class Client(LabUser):
    """Asks a hundred times, for the same id or for another each time."""

    def journey(self) -> None:
        for number in range(REQUESTS):
            product = int(self.params["first"]) + number * int(self.params["step"])
            self.get(f"/products/{product}", name="product", expect=(200, 404))


class Creator(LabUser):
    """Looks for ten products before they are created, and at once after."""

    def journey(self) -> None:
        for product in range(GONE, GONE + 10):
            self.get(f"/products/{product}", name="before", expect=(404,))
            self.put(f"/products/{product}", name="create", json={"name": "New"})
            after = self.get(f"/products/{product}", name="after", expect=(200, 404))
            self.count("hidden", after.status == 404)


class Steady(LabUser):
    """Asks for what exists, for what does not, and now and then for what nobody has asked for."""

    @task
    def read_product(self) -> None:
        product = self.rng.randint(900, 1100)
        if self.rng.random() < 0.1:
            product = self.rng.randint(2_000, 2_000_000)
        reply = self.get(f"/products/{product}", name="product", expect=(200, 404))
        self.count("wrong", reply.status == (404 if product <= 1000 else 200))


def asked(label: str, first: int, step: int, *, control: bool = False) -> Condition:
    """A hundred requests from one client."""
    return Condition(
        label, Journey(1), user="Client", params={"first": first, "step": step}, control=control, quick_pairs=1
    )


SCENARIO = Scenario(
    title="Cache penetration: ids that do not exist reach the database every time (no negative caching)",
    claim=(
        "100 requests for an id that does not exist are 100 queries, cache or no cache; where the absence is kept for five seconds 1"
    ),
    parts=(5, 11),
    catalogue_ids=("ca-penetration",),
    before_after=BeforeAfter(
        each.sql_calls("product"),
        "queries for 100 requests",
        SAME,
        "A client asks a hundred times for a product that does not exist.",
    ),
    labels={"naive": "keeps what it found", "correct": "keeps the absence, 5 s"},
    symptoms=(
        "cache penetration",
        "negative caching",
        "404 not cached",
        "404 storm",
        "cache hit rate low",
        "queries for ids that do not exist",
        "deleted product still requested",
        "bots scanning ids",
        "bloom filter",
        "None is not cached",
    ),
    services=("postgres", "redis"),
    queries={"product": "SELECT name FROM products%"},
    conditions=(
        asked(SAME, GONE, 0),
        asked(DIFFERENT, GONE, 1),
        Condition(CREATED, Journey(1), user="Creator", quick_pairs=1),
        asked(PRESENT, 7, 0, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/products/8", body={"id": 8, "name": "Product 8"}),
        Probe("/products/2000000", status=404),
        Probe("/products/0", status=422),
    ),
    final_reads=(FinalRead("keys", redis=("DBSIZE",)),),
    claims=(
        Claim(
            "every_time",
            "harm",
            "each request for what does not exist is a query",
            naive.sql_calls("product"),
            predict=under(SAME, value=float(REQUESTS)),
            tolerance=0.0,
            null=1.0,
            formula="N = 100",
            source="nothing is kept, so nothing is found",
        ),
        Claim(
            "asked_redis",
            "mechanism",
            "after it has asked the cache in vain",
            naive.redis_calls("get"),
            predict=under(SAME, value=float(REQUESTS)),
            tolerance=0.0,
            formula="N = 100",
            source="cache-aside: the cache first",
        ),
        Claim(
            "present",
            "mechanism",
            "what exists is queried once",
            naive.sql_calls("product"),
            predict=in_control(1.0),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="1",
            source="the first request keeps it",
        ),
        Claim(
            "once",
            "fix",
            "with the absence kept it is one query",
            correct.sql_calls("product"),
            predict=under(SAME, value=1.0),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="1 for each time to live",
            source="the first request keeps that there was nothing",
        ),
        Claim(
            "not_hidden",
            "fix",
            "and what is created is seen at once",
            correct.observed("hidden"),
            predict=under(CREATED, value=0.0),
            tolerance=0.0,
            null=10.0,
            formula="0 of 10",
            source="who creates deletes what was kept",
        ),
        Claim(
            "no_help",
            "mechanism",
            "ids that are asked for once are a query each, whatever is kept",
            correct.sql_calls("product"),
            predict=under(DIFFERENT, value=float(REQUESTS)),
            tolerance=0.0,
            formula="N = 100",
            source="each is a first request",
        ),
        Claim(
            "keys",
            "tax",
            "and a key each",
            correct.final("keys"),
            predict=under(DIFFERENT, value=REQUESTS + 2.0),
            tolerance=0.02,
            null=2.0,
            formula="N + 2 of the probes",
            source="each absence is kept for 5 s",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.sql_calls("product"),
            "One id that does not exist, asked for 100 times: {every_time:.0f} queries; with the absence kept {once:.0f}",
            y_label="queries",
            conditions=(SAME, DIFFERENT, PRESENT),
            theory=("every_time", "once", "present", "no_help"),
        ),
    ),
    answer=(
        "100 requests for an id that does not exist are {every_time:.0f} queries (predicted {every_time.predicted:.0f}), and "
        "{once:.0f} where the absence is kept for five seconds. 100 different ids are {no_help:.0f} queries in both."
    ),
    survival=Survival(
        user="Steady", answer_within_s=3.5, recover_within_s=3.0, ledger={"wrong": each.observed("wrong")}
    ),
)
