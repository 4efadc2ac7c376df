"""What a 304 saves: the bytes, always; the query and the work of the answer only where the tag is known before the answer is.

A hash of the body needs the body.  Of N conditional requests for a catalogue of M items each reads M rows, as without a tag.  A version in the
row of the catalogue is one row for each of them.  Last-Modified is as cheap, but a date of HTTP has whole seconds: of two changes in one second
the second is never seen (RFC 9110, 8.8.2.2 calls it weak for that reason).
"""

import time
from typing import Any

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

ITEMS = 500  # of each catalogue, dataset.sql
REQUESTS = 50
ROUNDS = 3
UNCHANGED, CHANGED, PLAIN = (
    "50 requests, nothing changed",
    "two changes within a second",
    "50 requests without a condition",
)
PATH = "/catalogues/1"


def condition_of(reply: Any) -> dict[str, str]:
    """The header that asks whether this answer is still the current one."""
    if tag := reply.header("etag"):
        return {"If-None-Match": tag}
    return {"If-Modified-Since": reply.header("last-modified")}


class Client(LabUser):
    """Keeps the answer that it has, and asks again and again whether it is current."""

    def journey(self) -> None:
        headers = condition_of(self.get(PATH, name="first")) if self.params["conditional"] else {}
        for _ in range(REQUESTS):
            self.get(PATH, name="again", headers=headers, expect=(200, 304))


class Editor(LabUser):
    """Changes a price, reads, changes it again within the same second, and asks whether what it has read is current."""

    def journey(self) -> None:
        for number in range(ROUNDS):
            gevent.sleep(1.05 - time.time() % 1)  # the second has just begun
            self.change(2 * number)
            read = self.get(PATH, name="read")
            self.change(2 * number + 1)
            again = self.get(PATH, name="again", headers=condition_of(read), expect=(200, 304))
            self.count("stale", again.status == 304)

    def change(self, price: int) -> None:
        """Another price each time."""
        self.put(f"{PATH}/items/7", name="change", json={"price_cents": 1000 + price})


class Steady(LabUser):
    """Reads, changes, reads."""

    @task
    def edit(self) -> None:
        path = f"/catalogues/{1 + self.number % 10}"
        read = self.get(path, name="read")
        if read.status == 200:
            self.get(path, name="again", headers=condition_of(read), expect=(200, 304))
        self.put(f"{path}/items/{self.rng.randint(1, ITEMS)}", name="change", json={"price_cents": 1})


SCENARIO = Scenario(
    title="ETag from a hash of the body: a 304 saves the bytes and not the query",
    claim=(
        "Fifty requests answered 304 read 25,000 rows when the ETag is a hash of the body, as many as fifty full answers; with a "
        "version they read one row each"
    ),
    parts=(18,),
    catalogue_ids=("etag-body-hash-saves-bytes", "etag-none-by-default"),
    before_after=BeforeAfter(
        each.sql_rows,
        "rows read for 50 answers of 304",
        UNCHANGED,
        "A client has a catalogue of 500 items and asks fifty times whether it has changed.",
    ),
    labels={
        "naive": "hash of the body",
        "correct": "version of the row",
        "tempting": "Last-Modified",
    },
    symptoms=(
        "304 Not Modified",
        "If-None-Match",
        "ETag middleware",
        "304 as slow as 200",
        "304 but the database is as busy as before",
        "conditional request",
        "Last-Modified",
        "If-Modified-Since",
        "stale 304",
    ),
    services=("postgres",),
    queries={"items": "SELECT c.version%", "version": "SELECT version FROM catalogues%"},
    conditions=(
        Condition(UNCHANGED, Journey(1), user="Client", params={"conditional": True}, quick_pairs=1),
        Condition(CHANGED, Journey(1), user="Editor", quick_pairs=1),
        Condition(PLAIN, Journey(1), user="Client", params={"conditional": False}, control=True, quick_pairs=1),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/catalogues/2"),
        Probe("/catalogues/11", status=404),
        Probe("/catalogues/11", status=404, headers={"If-None-Match": "*"}),
    ),
    claims=(
        Claim(
            "all_rows",
            "harm",
            "each 304 reads all the rows of the answer that it saves",
            naive.sql_rows("items"),
            predict=under(UNCHANGED, value=float((REQUESTS + 1) * ITEMS)),
            tolerance=0.0,
            null=float(ITEMS),
            formula="(N + 1) M = 51 x 500",
            source="the hash needs the body, and the body needs the rows",
        ),
        Claim(
            "not_modified",
            "mechanism",
            "all of them are answered 304",
            naive.status_count("304"),
            predict=under(UNCHANGED, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 50",
            source="RFC 9110, section 13.1.2",
        ),
        Claim(
            "bytes",
            "mechanism",
            "and send a head without a body",
            naive.response_mean_bytes("again") / naive.response_mean_bytes("first"),
            relation="at_most",
            predict=under(UNCHANGED, value=0.01),
            tolerance=0.0,
            null=1.0,
            formula="a head of 200 bytes for 500 items of 40 and more: 1 % at most",
            source="RFC 9110, section 15.4.5: a 304 has no content",
        ),
        Claim(
            "second_lost",
            "harm",
            "with Last-Modified the second change within a second is never seen",
            tempting.observed("stale"),
            predict=under(CHANGED, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="3 of 3",
            source="RFC 9110, section 8.8.2.2: a date has whole seconds",
        ),
        Claim(
            "plain",
            "mechanism",
            "without a condition all variants read all rows",
            correct.sql_rows("items"),
            predict=in_control(float(REQUESTS * ITEMS)),
            tolerance=0.0,
            formula="N M = 50 x 500",
            source="there is nothing to compare with",
        ),
        Claim(
            "one_row",
            "fix",
            "with a version only the first answer reads the items",
            correct.sql_rows("items"),
            predict=under(UNCHANGED, value=float(ITEMS)),
            tolerance=0.0,
            null=float((REQUESTS + 1) * ITEMS),
            formula="M = 500",
            source="the version is looked up before the items are read",
        ),
        Claim(
            "still_304",
            "fix",
            "and all others are answered 304 as before",
            correct.status_count("304"),
            predict=under(UNCHANGED, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 50",
            source="RFC 9110, section 13.1.2",
        ),
        Claim(
            "never_stale",
            "fix",
            "no change is missed, however fast it follows",
            correct.observed("stale"),
            predict=under(CHANGED, value=0.0),
            tolerance=0.0,
            null=float(ROUNDS),
            formula="0",
            source="each change is another version",
        ),
        Claim(
            "version_query",
            "tax",
            "each conditional request is one query more",
            correct.sql_calls("version"),
            predict=under(UNCHANGED, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 50",
            source="one row by its key, before the items where they have changed",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.sql_rows("items"),
            "Fifty times 304: {all_rows:,.0f} rows read for a hash of the body, {one_row:,.0f} for a version",
            y_label="rows of items read",
            conditions=(UNCHANGED, PLAIN),
            theory=("all_rows", "one_row", "plain"),
        ),
        Chart(
            "counts",
            each.observed("stale"),
            "Two changes within a second: Last-Modified misses {second_lost:.0f} of 3, a version {never_stale:.0f}",
            y_label="old answers called current",
            conditions=(CHANGED,),
            theory=("second_lost", "never_stale"),
        ),
    ),
    answer=(
        "Fifty answers of 304 and the one before them read {all_rows:,.0f} rows when the ETag is a hash of the body (predicted "
        "{all_rows.predicted:,.0f}), and {one_row:,.0f} rows of items with a version."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0),
)
