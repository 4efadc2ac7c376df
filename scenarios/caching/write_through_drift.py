"""Two writers, two systems, no common order: A commits, B commits, B sets the cache, A sets the cache, and the cache keeps A until it expires.

Forced: A's SET takes a second to reach Redis; B writes in the meantime.  With a version from the row, compared in one step in Redis, the SET of A
finds a higher one and does nothing.  Two deletions have no wrong order either, and cost the next reader a query.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, Journey, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, delay
from lab.words.predictions import in_control, under

invalidate = Arm("invalidate")

SLOW_MS = 1000
SLOW_S, A_S, PASS_S, B_S, READ_S = 0.5, 0.6, 0.8, 1.0, 2.4
FIRST, SECOND = 1100, 1200
CROSSED, IN_ORDER = "the first writer's SET arrives last", "one writer after the other"
PATH = "/prices/SKU-1"


class Writer(LabUser):
    """A, whose message to Redis is slow, or B, who writes in the meantime and reads afterwards."""

    def journey(self) -> None:
        began = time.monotonic()
        self.get(PATH, name="warm")  # opens the connections
        first = self.number == 0
        gevent.sleep((A_S if first else B_S) - (time.monotonic() - began))
        self.put(PATH, name="write", json={"cents": FIRST if first else SECOND})
        if first:
            return
        gevent.sleep(READ_S - (time.monotonic() - began))
        for name in ("read", "read again"):
            self.count("old", self.get(PATH, name=name).json()["cents"] != SECOND)


class Steady(LabUser):
    """Writes the price of another product each and reads it back."""

    @task
    def write(self) -> None:
        path = f"/prices/SKU-{10 + self.number}"
        self.put(path, name="write", json={"cents": self.rng.randint(1, 1000)})
        self.get(path, name="read")


def written(label: str, *, crossed: bool) -> Condition:
    """Two writers of one price."""
    events = (
        Event(SLOW_S, "fault", statement=delay(SLOW_MS), label="Redis is a second away"),
        Event(PASS_S, "fault", statement=PASS, label="Redis is near again"),
    )
    return Condition(
        label,
        Journey(2),
        user="Writer",
        proxy=Proxy("redis", PASS) if crossed else None,
        events=events if crossed else (),
        forced=crossed,
        control=not crossed,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Write-through cache drift: two writers, and the cache keeps the older value",
    claim=(
        "If the SET of the first writer arrives after that of the second, the cache shows the first price until it expires, and the "
        "database has the second; with a version compared in Redis it never does"
    ),
    parts=(11,),
    catalogue_ids=("ca-write-through-drift",),
    before_after=BeforeAfter(
        each.observed("old"),
        "of 2 reads with the older price",
        CROSSED,
        "Two clients change one price, one after the other; the first one's message to Redis is late.",
    ),
    labels={
        "naive": "SET after the commit",
        "correct": "version compared in Redis",
        "invalidate": "DEL after the commit",
    },
    symptoms=(
        "cache and database differ",
        "write-through",
        "stale cache after update",
        "old price in cache",
        "lost update in cache",
        "dual write",
        "cache drift",
        "wrong until the cache expires",
        "update cache after commit",
    ),
    services=("postgres", "redis"),
    queries={"load": "SELECT cents%"},
    conditions=(written(CROSSED, crossed=True), written(IN_ORDER, crossed=False)),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/prices/SKU-2", body={"sku": "SKU-2", "cents": 1000}),
        Probe("/prices/SKU-1000", status=404),
    ),
    claims=(
        Claim(
            "older",
            "harm",
            "the cache keeps the price of the writer whose SET came last",
            naive.observed("old"),
            predict=under(CROSSED, value=2.0),
            tolerance=0.0,
            null=0.0,
            formula="2 of 2 reads, until the key expires",
            source="Redis keeps the last SET; the database keeps the last commit",
        ),
        Claim(
            "in_order",
            "mechanism",
            "in order the cache is right",
            naive.observed("old"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=2.0,
            formula="0",
            source="the last SET is that of the last commit",
        ),
        Claim(
            "newer",
            "fix",
            "with a version the older price never replaces the newer one",
            correct.observed("old"),
            predict=under(CROSSED, IN_ORDER, value=0.0),
            tolerance=0.0,
            null=2.0,
            formula="0",
            source="versions of one row are in the order of its commits",
            headline=CROSSED,
        ),
        Claim(
            "deleted",
            "fix",
            "nor where both writers delete",
            invalidate.observed("old"),
            predict=under(CROSSED, value=0.0),
            tolerance=0.0,
            null=2.0,
            formula="0",
            source="two deletions have no wrong order",
        ),
        Claim(
            "reload",
            "tax",
            "but a deletion costs a query of the next reader",
            invalidate.redis_calls("set"),
            predict=under(CROSSED, value=1.0),
            relation="at_least",
            tolerance=0.0,
            formula="at least 1 reader who loads and keeps it",
            source="nothing is kept after a deletion",
        ),
        Claim(
            "script",
            "tax",
            "and a version a script for each write",
            correct.redis_calls("evalsha"),
            predict=under(CROSSED, value=2.0),
            relation="at_least",
            tolerance=0.0,
            formula="at least 2 writes; first readers keep what they load too",
            source="EVALSHA where naive has SET",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("old"),
            "The first writer's SET comes last: {older:.0f} of 2 reads are wrong, with a version {newer:.0f}",
            y_label="reads of the older price",
            conditions=(CROSSED, IN_ORDER),
            theory=("older", "newer", "in_order"),
        ),
    ),
    answer=(
        "When the first writer's SET arrives last {older:.0f} of 2 reads show the older price (predicted {older.predicted:.0f}), until it "
        "expires; with a version that Redis compares {newer:.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=4.5, recover_within_s=3.0, variants=("correct", "invalidate")),
)
