"""A reader that loads before a write and puts after its delete stores the old value for a whole TTL.

Forced: the write is sent while the only reader's load of 50 ms is under way; it ends stale in each round.  Natural: readers and writers of many
keys go their own ways; a write of w a second falls into a load of D with probability 1 - e^(-w D), so over many writes some keys end stale.
What counts is read at the end: what the cache says against what the table says, when nobody writes any more.
"""

import time

import gevent
from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, Condition, Journey, Probe, Scenario

LOAD_S = 0.05  # dataset.sql
ROUNDS = 20
ROUND_S = 0.15  # a load, its put, and some rest
CACHE_TTL_S = 60  # CACHE_TTL_S in all targets: longer than the whole condition
NATURAL_KEYS = 60


class Pair(LabUser):
    """User 0 reads each key once from a cold cache, user 1 changes it in the middle of that load; then both look."""

    def journey(self) -> None:
        begin = time.monotonic()  # both users are released at one instant
        for key in range(1, ROUNDS + 1):
            self.wait_until(begin + (key - 1) * ROUND_S + (LOAD_S / 2 if self.number else 0.0))
            if self.number == 0:
                self.get(f"/prices/{key}", name="read")
            else:
                self.put(f"/prices/{key}", name="write", json={"price_cents": 200})
        if self.number == 0:
            self.wait_until(begin + ROUNDS * ROUND_S)
            self.look(ROUNDS)

    def wait_until(self, instant: float) -> None:
        """Sleep until an instant of the monotonic clock."""
        gevent.sleep(max(0.0, instant - time.monotonic()))

    def look(self, keys: int) -> None:
        """Count the keys of which the application still gives the old price."""
        for key in range(1, keys + 1):
            self.count("stale", self.get(f"/prices/{key}", name="look").json()["price_cents"] != 200)


class Before(Pair):
    """The same keys, changed before anybody reads: nothing overlaps."""

    def journey(self) -> None:
        if self.number == 0:
            for key in range(1, ROUNDS + 1):
                self.put(f"/prices/{key}", name="write", json={"price_cents": 200})
                self.get(f"/prices/{key}", name="read")
            self.look(ROUNDS)


class Crowd(Pair):
    """Users who read and write when they like; each key is written once."""

    def journey(self) -> None:
        mine = [key for key in range(1, NATURAL_KEYS + 1) if key % 4 == self.number % 4]
        writer = self.number < 4
        for key in mine:
            gevent.sleep(self.rng.uniform(0, LOAD_S))
            if writer:
                self.put(f"/prices/{key}", name="write", json={"price_cents": 200})
            else:
                self.get(f"/prices/{key}", name="read")
        if self.number == 0:
            gevent.sleep(1.0)  # the slowest of the others has ended
            self.look(NATURAL_KEYS)

    @task
    def by_hand(self) -> None:
        self.journey()


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where the write falls into the load."""
    return value if condition.forced else None


SCENARIO = Scenario(
    title="Delete on write, and the old value comes back",
    claim="A reader that loads before a write and puts after its delete leaves the old value in the cache for a whole TTL",
    parts=(11, 5),
    catalogue_ids=("ca-stale-set-race", "ca-delete-before-commit"),
    services=("postgres", "redis"),
    constants={"CACHE_TTL_S": CACHE_TTL_S},
    queries={"load": "SELECT%FROM prices%"},
    conditions=(
        Condition("forced", Journey(2), user="Pair", params={"rounds": ROUNDS}, forced=True, quick_pairs=1),
        Condition("natural", Journey(8), user="Crowd", params={"rounds": NATURAL_KEYS}, quick_pairs=3, variants=("naive", "correct")),
        Condition("written before read", Journey(2), user="Before", params={"rounds": ROUNDS}, quick_pairs=1, control=True),
    ),
    probes=(Probe("/prices/100", body={"price_cents": 100}, after=False), Probe("/prices/200", status=404)),
    claims=(
        Claim(
            "stale", "harm", "a write in the middle of a load is lost to the cache, each time", "naive.observed[stale]",
            predict=lambda c: forced(c, ROUNDS), tolerance=0.0, null=0.0,
            formula="1 a round", source="load, change, delete, put: the delete is too early; claims ca-stale-set-race",
        ),
        Claim(
            "stale_natural", "harm", "it happens without help, too", "naive.observed[stale]", relation="at_least",
            predict=lambda c: 1.0 if not c.forced and not c.control else None, tolerance=0.0,
            formula="writes x (1 - e^(-w D)), at least 1", source="a load takes 50 ms and the writes come at random; claims ca-stale-set-race",
        ),
        Claim(
            "no_overlap", "mechanism", "where nothing overlaps nothing is stale", "naive.observed[stale]",
            predict=lambda c: 0.0 if c.control else None, tolerance=0.0,
            formula="0", source="the race needs a load under way",
        ),
        Claim(
            "no_reload", "mechanism", "the old value is served from the cache: nobody loads again", "naive.sql_calls[load]",
            predict=lambda c: forced(c, ROUNDS), tolerance=0.0,
            formula="one load a key", source="the key was put back with its whole TTL",
        ),
        Claim(
            "before", "harm", "deleting before the write is no better", "tempting.observed[stale]",
            predict=lambda c: forced(c, ROUNDS), tolerance=0.0,
            formula="1 a round", source="until the commit the old row is what readers find; claims ca-delete-before-commit",
        ),
        Claim(
            "leased", "fix", "with a lease nothing old is put back", "correct.observed[stale]",
            predict=lambda c: 0.0, tolerance=0.0,
            formula="0", source="the write revokes the lease; Nishtala et al. 2013", headline="forced",
        ),
        Claim(
            "loads_again", "tax", "the next reader loads again, once a write", "correct.sql_calls[load]",
            predict=lambda c: forced(c, 2.0 * ROUNDS), tolerance=0.0,
            formula="two loads a key", source="the first one's value was refused",
        ),
    ),
    charts=(
        Chart(
            "counts", "observed[stale]", "Twenty writes in the middle of a load: {stale:.0f} stale keys; with a lease {leased:.0f}",
            y_label="keys with the old value at the end", conditions=("forced", "written before read"),
            theory=("stale", "before", "leased", "no_overlap"),
        ),
        Chart(
            "counts", "observed[stale]", "Nothing is arranged: of 60 keys {stale_natural:.1f} end with the old value",
            y_label="keys with the old value at the end", conditions=("natural",), theory=("leased",),
        ),
        Chart(
            "counts", "sql_calls[load]", "Nobody loads again: the cache believes that it knows", y_label="loads from the database",
            conditions=("forced",), theory=("no_reload", "loads_again"),
        ),
    ),
    answer="A write in the middle of a load leaves the old value in the cache in {stale:.0f} of 20 rounds, and in {stale_natural:.1f} of 60 keys "
    "when nothing is arranged; with a lease in {leased:.0f}, for one more load after a write.",
)  # fmt: skip
