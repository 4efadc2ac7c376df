"""A reader that loads before a write and stores after its delete leaves the old value in the cache for a whole TTL.

Forced: the write is sent while the only reader's load of 50 ms is under way; it ends stale in each round.  Natural: 90 keys are
read and written once each, at random within 0.75 s; a write of w a second falls into a load of D with probability 1 - e^(-w D) = 6 %: 5.8 keys
are expected to end stale, and none with probability 0.3 %.
Deleted before the commit: another transaction holds the rows, so the writes wait for their locks; a reader that comes meanwhile finds no key, loads
the old row and stores it, and nobody deletes it after the commit.  Deleted afterwards, the same reads leave nothing.
What counts is read at the end: what the application answers against what was written, when nobody writes any more.
"""

import time
from typing import ClassVar

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control

tempting = Arm("tempting")

LOAD_S = 0.05  # dataset.sql
ROUNDS = 20
ROUND_S = 0.15  # a load, its put, and some rest
CACHE_TTL_S = 60  # CACHE_TTL_S in all targets: longer than the whole condition
NATURAL_KEYS = 90
NATURAL_USERS = 60  # half of them read, half write
NATURAL_S = 0.75
WARM_S = 0.5
HELD_KEYS = 5  # writers and readers together are as many as asyncpg's pool has connections
HELD_S = 1.1  # less than QUERY_S in correct.py after the writes begin (0.3 s)
HOLD_ROWS = f"""
    WITH held AS MATERIALIZED (SELECT product_id FROM price_rows WHERE product_id <= {HELD_KEYS} FOR UPDATE)
    SELECT pg_sleep({HELD_S}) FROM (SELECT count(*) FROM held) AS all_of_them
"""  # noqa: S608


class Pair(LabUser):
    """User 0 reads each key once from a cold cache, user 1 changes it in the middle of that load; then both look."""

    changed: ClassVar[set[int]] = set()  # keys whose write was confirmed

    def journey(self) -> None:
        begin = time.monotonic()  # both users are released at one instant
        for key in range(1, ROUNDS + 1):
            self.wait_until(begin + (key - 1) * ROUND_S + (LOAD_S / 2 if self.number else 0.0))
            if self.number == 0:
                self.get(f"/prices/{key}", name="read")
            else:
                self.write(key)
        if self.number == 0:
            self.wait_until(begin + ROUNDS * ROUND_S)
            self.look(ROUNDS)

    def wait_until(self, instant: float) -> None:
        """Sleep until an instant of the monotonic clock."""
        gevent.sleep(max(0.0, instant - time.monotonic()))

    def write(self, key: int) -> None:
        """Change a price; a write that was refused has changed nothing."""
        if self.put(f"/prices/{key}", name="write", json={"price_cents": 200}).status == 204:
            self.changed.add(key)

    def look(self, keys: int) -> None:
        """Count the keys that were changed and for which the application still answers the old price."""
        for key in range(1, keys + 1):
            price = self.get(f"/prices/{key}", name="look").json()["price_cents"]
            self.count("stale", key in self.changed and price != 200)


class Before(Pair):
    """The same keys, changed before anybody reads: nothing overlaps."""

    def journey(self) -> None:
        if self.number == 0:
            for key in range(1, ROUNDS + 1):
                self.write(key)
                self.get(f"/prices/{key}", name="read")
            self.look(ROUNDS)


class Held(Pair):
    """Writers that wait for their rows, and readers that come meanwhile; then the first one looks."""

    def journey(self) -> None:
        begin = time.monotonic()
        key = 1 + self.number % HELD_KEYS
        self.wait_until(begin + (0.3 if self.number < HELD_KEYS else 0.7))  # the rows are held from the start
        if self.number < HELD_KEYS:
            self.write(key)
        else:
            read = self.get(f"/prices/{key}", name="read")
            self.count("read_before_commit", time.monotonic() < begin + HELD_S and read.json()["price_cents"] != 200)
        if self.number == 0:
            self.wait_until(begin + HELD_S + 1.0)
            self.look(HELD_KEYS)


class Crowd(Pair):
    """Each key is read once and written once, at moments that have nothing to do with each other."""

    def journey(self) -> None:
        begin = time.monotonic() + WARM_S
        self.get("/prices/200", name="no such price", expect={404})  # opens the connections to both services
        readers = NATURAL_USERS // 2
        mine = range(1 + self.number % readers, NATURAL_KEYS + 1, readers)
        for at, key in sorted((self.rng.uniform(0, NATURAL_S), key) for key in mine):
            self.wait_until(begin + at)
            if self.number < readers:
                self.get(f"/prices/{key}", name="read")
            else:
                self.write(key)
        if self.number == 0:
            self.wait_until(begin + NATURAL_S + 1.0)  # the slowest of the others has ended
            self.look(NATURAL_KEYS)

    @task
    def by_hand(self) -> None:
        self.journey()


class Steady(LabUser):
    """Raises the price of one product per user while its neighbour reads it, and reads it back.

    A write that was not confirmed may have happened or not; what is stale is a price that an earlier confirmed write had set.
    """

    price = 1000
    confirmed = 100  # dataset.sql
    earlier: frozenset[int] = frozenset()

    @task
    def change_and_read(self) -> None:
        path = f"/prices/{91 + self.number}"
        self.get(
            f"/prices/{91 + (self.number + 1) % 4}", name="neighbour"
        )  # a load that the neighbour's write may meet
        self.price += 1
        if self.put(path, name="write", json={"price_cents": self.price}).status == 204:
            self.earlier |= {self.confirmed}
            self.confirmed = self.price
        self.reconnect()
        reply = self.get(path, name="read")
        if reply.status == 200:
            self.count("stale", reply.json()["price_cents"] in self.earlier)


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where the write falls into the load."""
    return value if condition.user == "Pair" else None


def held(condition: Condition, value: float) -> float | None:
    """``value`` where the write waits for its row."""
    return value if condition.user == "Held" else None


SCENARIO = Scenario(
    title="Cache invalidation race: the old value comes back after a delete",
    claim=(
        "In ordinary traffic about 6 of 90 keys keep the old value for a whole TTL, because a slow reader stores it "
        "after the write's delete; with a lease that the write revokes, 0 do."
    ),
    before_after=BeforeAfter(
        each.observed("stale"),
        "of 20 keys left with the old value",
        "forced",
        "A value is changed while a reader is loading it into the cache.",
    ),
    labels={
        "naive": "delete after the write",
        "tempting": "delete before the commit",
        "correct": "lease revoked by the write",
    },
    symptoms=(
        "stale cache after update",
        "cache shows old value after delete",
        "old price comes back",
        "cache invalidation race condition",
        "cache-aside delete on write",
        "revoked permission still works until the TTL ends",
        "stale data until TTL expires",
        "stale set",
        "cannot reproduce stale cache",
        "delete cache before or after commit",
        "cache and database inconsistent",
        "double delete",
    ),
    parts=(11, 5),
    catalogue_ids=("ca-stale-set-race", "ca-delete-before-commit", "ca-delete-after-commit-loss"),
    services=("postgres", "redis"),
    constants={"CACHE_TTL_S": CACHE_TTL_S},
    queries={"load": "SELECT%FROM prices%"},
    conditions=(
        Condition("forced", Journey(2), user="Pair", params={"rounds": ROUNDS}, forced=True, quick_pairs=1),
        Condition(
            "read before the commit",
            Journey(2 * HELD_KEYS),
            user="Held",
            params={"rounds": HELD_KEYS},
            forced=True,
            quick_pairs=1,
            events=(Event(0.0, "sql", statement=HOLD_ROWS, label="another transaction holds the rows"),),
        ),
        Condition(
            "natural",
            Journey(NATURAL_USERS),
            user="Crowd",
            params={"rounds": NATURAL_KEYS},
            quick_pairs=3,
            variants=("naive", "correct"),
        ),
        Condition(
            "written before read", Journey(2), user="Before", params={"rounds": ROUNDS}, quick_pairs=1, control=True
        ),
    ),
    probes=(Probe("/prices/100", body={"price_cents": 100}, after=False), Probe("/prices/200", status=404)),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"stale": each.observed("stale")},
        variants=("correct",),
    ),
    claims=(
        Claim(
            "stale",
            "harm",
            "a write in the middle of a load leaves the old value in the cache, each time",
            naive.observed("stale"),
            predict=lambda c: forced(c, ROUNDS),
            tolerance=0.0,
            null=0.0,
            formula="1 a round",
            source="load, change, delete, store: the delete comes too early; Nishtala et al., NSDI 2013, section 3.2.1",
        ),
        Claim(
            "stale_natural",
            "harm",
            "it also happens when nothing is arranged",
            naive.observed("stale"),
            relation="at_least",
            predict=lambda c: 1.0 if not c.forced and not c.control else None,
            tolerance=0.0,
            formula="90 (1 - e^(-w D)) = 5.8 are expected; at least 1",
            source="w = 1 / 0.75 s, D = 50 ms; none with probability e^(-5.8) = 0.3 %",
        ),
        Claim(
            "no_overlap",
            "mechanism",
            "if nothing overlaps, nothing is stale",
            naive.observed("stale"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="the race needs a load under way",
        ),
        Claim(
            "no_reload",
            "mechanism",
            "the old value is served from the cache: nobody loads again",
            naive.sql_calls("load"),
            predict=lambda c: forced(c, ROUNDS),
            tolerance=0.0,
            formula="one load for each key",
            source="the key was stored again with its whole TTL",
        ),
        Claim(
            "before",
            "harm",
            "deleting before the write is no better",
            tempting.observed("stale"),
            predict=lambda c: forced(c, ROUNDS),
            tolerance=0.0,
            formula="1 a round",
            source="a reader that has loaded already stores after either delete",
        ),
        Claim(
            "before_commit",
            "harm",
            "deleted before the commit, every key that is read meanwhile stays old",
            tempting.observed("stale"),
            predict=lambda c: held(c, HELD_KEYS),
            tolerance=0.0,
            null=0.0,
            formula="1 for each key",
            source="PostgreSQL documentation, READ COMMITTED: until the commit the old row is what others see",
        ),
        Claim(
            "read_early",
            "mechanism",
            "each key was read while the write was waiting",
            tempting.observed("read_before_commit"),
            predict=lambda c: held(c, HELD_KEYS),
            tolerance=0.0,
            formula="1 for each key",
            source="PostgreSQL documentation, row-level locks: they do not block reads",
        ),
        Claim(
            "after_commit",
            "mechanism",
            "deleted after the commit, the same reads leave nothing old",
            naive.observed("stale"),
            predict=lambda c: held(c, 0.0),
            tolerance=0.0,
            formula="0",
            source="the delete comes after every one of these reads has stored",
        ),
        Claim(
            "leased",
            "fix",
            "with a lease, nothing old is put back",
            correct.observed("stale"),
            predict=lambda c: 0.0,
            tolerance=0.0,
            formula="0",
            source="the write revokes the lease; Nishtala et al., NSDI 2013, section 3.2.1",
            headline="forced",
        ),
        Claim(
            "loads_again",
            "tax",
            "after a write in the middle of a load, the next reader loads again",
            correct.sql_calls("load"),
            predict=lambda c: forced(c, 2.0 * ROUNDS),
            tolerance=0.0,
            formula="two loads for each key",
            source="the first one's value was refused",
        ),
        Claim(
            "write_deletes",
            "tax",
            "a write deletes twice, before and after it, not once",
            correct.redis_calls("del") / correct.requests_ok("write"),
            predict=lambda c: forced(c, 2.0),
            tolerance=0.0,
            null=1.0,
            formula="2",
            source="set_price in correct.py: one DEL (with a ZADD) before the UPDATE, one after it",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("stale"),
            "Nothing is arranged: of 90 keys {stale_natural:.1f} end with the old value; with a lease 0",
            y_label="keys with the old value at the end",
            conditions=("natural",),
            theory=("leased",),
        ),
        Chart(
            "counts",
            each.observed("stale"),
            "20 writes in the middle of a load: {stale:.0f} keys stay old; with a lease {leased:.0f}",
            y_label="keys with the old value at the end",
            conditions=("forced", "written before read"),
            theory=("stale", "before", "leased", "no_overlap"),
        ),
        Chart(
            "counts",
            each.observed("stale"),
            (
                "Deleted before the commit, {before_commit:.0f} of 5 keys that were read meanwhile stay old; deleted "
                "afterwards, {after_commit:.0f}"
            ),
            y_label="keys with the old value at the end",
            conditions=("read before the commit",),
            theory=("before_commit", "after_commit", "leased"),
        ),
        Chart(
            "counts",
            each.sql_calls("load"),
            "Without a lease nobody loads again: the old value is a cache hit",
            y_label="loads from the database",
            conditions=("forced",),
            theory=("no_reload", "loads_again"),
        ),
    ),
    answer=(
        "A write in the middle of a load leaves the old value in the cache in {stale:.0f} of 20 rounds, and for "
        "{stale_natural:.1f} of 90 keys when nothing is arranged; deleted before the commit, {before_commit:.0f} of "
        "5 keys read meanwhile stay old; with a lease {leased:.0f}."
    ),
)
