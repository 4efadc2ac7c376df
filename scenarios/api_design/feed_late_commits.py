"""A reader that asks for ids above its last one never sees a row that commits after a higher id: one lost row for each such commit.

The id is given at the INSERT, the row is seen after the COMMIT.  Ten writers insert and then wait 0.6 s for a search engine before they commit; an
eleventh commits at once and is read; the ten ids below it are lost.  With the transaction's number in the row the reader takes only what is older
than every running transaction (the xmin of its snapshot), in the order of transactions: it is late by as much as the oldest of them, and loses none.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Scenario,
    Server,
    Survival,
    Upstream,
)
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, under

WRITERS = 10
INDEX_S = 0.6
FOLLOWED_S = 2.0
POLL_S = 0.02
PAGE_SIZE = 100  # PAGE_SIZE in both targets
SLOW, SLOW_4, QUICK = (
    "10 writers that commit late",
    "10 writers that commit late, 4 workers",
    "10 writers that commit at once",
)


class WriterOrReader(LabUser):
    """Each writes one change; the last one writes when the others have, and follows the feed."""

    def journey(self) -> None:
        if self.number < WRITERS:
            self.write(f"slow {self.number}", index=bool(self.params["late"]))
            return
        gevent.sleep(INDEX_S / 3)
        self.write("quick", index=False)
        self.follow()

    def write(self, text: str, *, index: bool) -> int:
        """The status."""
        return self.post("/changes", name="write", json={"text": text, "index": index}).status

    def follow(self) -> None:
        """Ask for what is new, again and again, as a consumer of the feed does."""
        begin, after, seen = time.monotonic(), "0.0", set()
        while time.monotonic() < begin + FOLLOWED_S:
            page = self.get(f"/changes?after={after}", name="follow").json()
            after = page["next"]
            if "quick" not in seen and any(item["text"] == "quick" for item in page["items"]):
                self.observe_max("late_s", time.monotonic() - begin)
            seen |= {item["text"] for item in page["items"]}
            gevent.sleep(POLL_S)
        self.count("seen", len(seen))
        self.count("missed", WRITERS + 1 - len(seen))


class Steady(LabUser):
    """Writes, and follows the feed until it has seen what was confirmed."""

    after = "0.0"
    written = 0
    waited_for = ""

    @task
    def write_and_follow(self) -> None:
        if not self.waited_for:
            self.written += 1
            text = f"{self.number}-{self.written}"
            reply = self.post("/changes", name="write", json={"text": text, "index": self.written % 2 == 0})
            self.waited_for = text if reply.status == 201 else ""
            return
        reply = self.get(f"/changes?after={self.after}", name="follow")
        if reply.status != 200:
            return
        page = reply.json()
        self.after = page["next"]
        if any(item["text"] == self.waited_for for item in page["items"]):
            self.waited_for = ""


def written(label: str, *, late: bool, workers: int = 1, control: bool = False) -> Condition:
    """Ten writers and one that is quick."""
    return Condition(
        label,
        Journey(WRITERS + 1),
        user="WriterOrReader",
        server=Server(workers=workers),
        upstream=Upstream(INDEX_S),
        params={"late": late},
        forced=late,
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Polling by id (or created_at) misses rows that commit late",
    claim=(
        "A reader that asks for ids above the last one misses 10 of 11 rows when ten transactions commit after a higher id; one "
        "that waits for the oldest running transaction misses none"
    ),
    parts=(9,),
    catalogue_ids=("pg-keyset-commit-order",),
    before_after=BeforeAfter(
        each.observed("missed"),
        "changes of 11 that the reader never sees",
        SLOW,
        "Ten transactions insert and commit 0.6 s later; an eleventh inserts after them and commits at once.",
    ),
    labels={"naive": "id > last id", "correct": "below the oldest running transaction"},
    symptoms=(
        "polling misses rows",
        "missing events",
        "outbox misses messages",
        "sync skips records",
        "id > last_id",
        "created_at > last",
        "sequence gaps",
        "commit order",
        "incremental export incomplete",
        "change feed",
        "xmin",
        "pg_snapshot_xmin",
    ),
    services=("postgres", "upstream"),
    constants={"PAGE_SIZE": PAGE_SIZE},
    conditions=(
        written(SLOW, late=True),
        written(SLOW_4, late=True, workers=4),
        written(QUICK, late=False, control=True),
    ),
    probes=(
        Probe("/changes", body={"items": [], "next": "0.0"}, after=False),
        Probe("/changes?after=yesterday", status=422),
    ),
    final_reads=(FinalRead("rows", sql="SELECT count(*) FROM changes"),),
    claims=(
        Claim(
            "missed",
            "harm",
            "every row that commits after a higher id has been read is never seen",
            naive.observed("missed"),
            predict=under(SLOW, SLOW_4, value=float(WRITERS)),
            tolerance=0.0,
            null=0.0,
            formula="n = 10",
            source="PostgreSQL documentation, Sequence Functions: nextval is not undone and does not wait; a row is seen after its COMMIT",
            headline=SLOW,
        ),
        Claim(
            "stored",
            "mechanism",
            "all eleven are in the table",
            naive.final("rows"),
            predict=under(SLOW, SLOW_4, QUICK, value=WRITERS + 1.0),
            tolerance=0.0,
            formula="n + 1 = 11",
            source="every writer has committed",
            headline=SLOW,
        ),
        Claim(
            "in_order",
            "mechanism",
            "where all commit in the order of their ids none is missed",
            naive.observed("missed"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="the quick one has the highest id and commits last",
        ),
        Claim(
            "all_seen",
            "fix",
            "a reader that stays below the oldest running transaction sees all",
            correct.observed("missed"),
            predict=under(SLOW, SLOW_4, QUICK, value=0.0),
            tolerance=0.0,
            null=WRITERS,
            formula="0",
            source="PostgreSQL documentation, pg_snapshot_xmin: every transaction below it has ended",
            headline=SLOW,
        ),
        Claim(
            "late",
            "tax",
            "and sees what is quick as late as the slowest",
            correct.observed("late_s"),
            relation="at_least",
            predict=under(SLOW, SLOW_4, value=INDEX_S / 3),
            tolerance=0.0,
            null=0.0,
            formula="what is left of 0.6 s after the reader has begun, at least 0.2 s",
            source="the ten are older and still run",
            headline=SLOW,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("missed"),
            "Ten commits after a higher id: {missed:.0f} of 11 rows are never seen by id, {all_seen:.0f} below the oldest transaction",
            y_label="changes that the reader never sees",
            conditions=(SLOW, SLOW_4, QUICK),
            theory=("missed", "all_seen", "in_order"),
        ),
        Chart(
            "counts",
            each.observed("late_s"),
            "The price: what commits at once is seen {late:.2f} s later, when the slowest has ended",
            y_label="seconds until the quick change is seen",
            conditions=(SLOW, QUICK),
            theory=("late",),
        ),
    ),
    answer=(
        "When ten transactions commit after a higher id has been read, a reader by id misses {missed:.0f} of 11 rows (predicted "
        "{missed.predicted:.0f}); one that stays below the oldest running transaction misses {all_seen:.0f}, and sees the quick one "
        "{late:.2f} s later."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=5.0,
        recover_within_s=4.0,
        upstream=Upstream(0.05),
    ),
)
