"""C requests that read before the first of them commits all decide on the same number: C seats sold, one counted.

Each request is one transaction at READ COMMITTED, PostgreSQL's default: an UPDATE waits for the row's lock, and then writes what was computed
from the old read.  Forced: every message to the database takes 5 ms in each direction, so all C reads are answered before the first COMMIT
arrives, five round trips later, and the law is exact.  Natural: nothing is slowed; how many overlap is up to the machine, that some do is not.
A lock in the process leaves one reader per worker.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Probe,
    Proxy,
    Scenario,
    Server,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control

tempting = Arm("tempting")

SEATS = 5  # of concert 1, dataset.sql
POOL_SIZE = 20  # POOL_SIZE in all targets: as many statements at once as there are buyers
BUYERS = 20
NO_TEMPTING = ("naive", "correct")


class Buyer(LabUser):
    @task
    def reserve(self) -> None:
        self.post("/concerts/1/reservations", name="reserve", json={"customer_id": 1 + self.number})


class Steady(LabUser):
    """Buys seats of the concert that is never sold out."""

    @task
    def reserve(self) -> None:
        self.post("/concerts/2/reservations", name="reserve", json={"customer_id": 1 + self.number})


def buyers(
    label: str, *, forced: bool, workers: int = 1, quick_pairs: int = 1, variants: tuple[str, ...] = ()
) -> Condition:
    """Twenty buyers at one instant."""
    return Condition(
        label,
        Burst(BUYERS, spread=workers > 1),
        user="Buyer",
        server=Server(workers=workers),
        forced=forced,
        proxy=Proxy("postgres", delay(5)) if forced else None,
        params={"buyers": BUYERS, "workers": workers, "together": True},
        quick_pairs=quick_pairs,
        variants=variants,
    )


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where the interleaving is forced and one process serves everybody."""
    return value if condition.forced and condition.workers == 1 else None


def natural(condition: Condition, value: float) -> float | None:
    """``value`` where twenty buyers come at once and nothing is slowed."""
    return value if condition.params["together"] and not condition.forced and condition.workers == 1 else None


SCENARIO = Scenario(
    title="Race condition across an await: check-then-act oversells, even in a transaction",
    claim=(
        "20 buyers at once get 20 of 5 seats: all read 5 before the first one commits, and READ COMMITTED lets each "
        "of them write 4"
    ),
    before_after=BeforeAfter(
        each.final("sold"),
        "seats sold of 5",
        "20 buyers, forced",
        "Twenty buyers ask at once for the last five seats.",
    ),
    labels={
        "naive": "SELECT, then UPDATE",
        "correct": "UPDATE ... WHERE seats_left > 0",
        "tempting": "asyncio.Lock (per process)",
    },
    symptoms=(
        "race condition",
        "oversold",
        "overselling",
        "double booking",
        "lost update",
        "negative stock",
        "asyncio race condition",
        "asyncio.Lock multiple workers",
        "READ COMMITTED",
        "SELECT FOR UPDATE",
        "TOCTOU",
        "check-then-act",
    ),
    parts=(14,),
    catalogue_ids=("aio-lock-race", "aio-lock-per-process"),
    services=("postgres",),
    constants={"POOL_SIZE": POOL_SIZE},
    queries={"known": "SELECT id FROM concerts%"},
    conditions=(
        buyers("20 buyers, forced", forced=True),
        buyers("20 buyers, natural", forced=False, quick_pairs=3, variants=NO_TEMPTING),
        buyers("20 buyers, forced, 4 workers", forced=True, workers=4),
        Condition(
            "1 buyer at a time",
            ClosedLoad(1, requests=BUYERS),
            user="Buyer",
            params={"buyers": 1, "workers": 1, "together": False},
            quick_pairs=1,
            control=True,
        ),
    ),
    probes=(Probe("/concerts/1", body={"concert_id": 1}), Probe("/concerts/9", status=404)),
    final_reads=(
        FinalRead("sold", sql="SELECT count(*) FROM reservations WHERE concert_id = 1"),
        FinalRead("left", sql="SELECT seats_left FROM concerts WHERE id = 1"),
        FinalRead("oversold", sql="SELECT sum(greatest(sold - seats, 0)) FROM books"),
        FinalRead("miscounted", sql="SELECT sum(abs(seats - seats_left - sold)) FROM books"),
    ),
    claims=(
        Claim(
            "sold",
            "harm",
            "every buyer gets one of five seats",
            naive.final("sold"),
            predict=lambda c: forced(c, c.number("buyers")),
            tolerance=0.0,
            null=SEATS,
            formula="C = 20",
            source="PostgreSQL documentation, Read Committed: all reads come before the first commit",
            headline="20 buyers, forced",
        ),
        Claim(
            "sold_natural",
            "harm",
            "with nothing slowed, at least one seat too many is sold",
            naive.final("sold"),
            relation="at_least",
            predict=lambda c: natural(c, SEATS + 1.0),
            tolerance=0.0,
            formula="more than 5",
            source="the reads of requests in flight overlap",
        ),
        Claim(
            "same_write",
            "mechanism",
            "all of them wrote the same number",
            naive.final("left"),
            predict=lambda c: forced(c, SEATS - 1.0),
            tolerance=0.0,
            formula="5 - 1",
            source="each computed it from the same read",
            headline="20 buyers, forced",
        ),
        Claim(
            "alone",
            "mechanism",
            "one buyer at a time gets what there is",
            naive.final("sold"),
            predict=in_control(float(SEATS)),
            tolerance=0.0,
            formula="5",
            source="nothing overlaps",
        ),
        Claim(
            "lock_one",
            "mechanism",
            "a lock in the process is enough for one process",
            tempting.final("sold"),
            predict=lambda c: forced(c, float(SEATS)),
            tolerance=0.0,
            formula="5",
            source="Python documentation, asyncio.Lock: one request between read and write",
        ),
        Claim(
            "lock_many",
            "harm",
            "a lock in the process oversells with four workers",
            tempting.final("sold"),
            relation="at_least",
            predict=lambda c: SEATS + 1.0 if c.forced and c.workers > 1 else None,
            tolerance=0.0,
            formula="more than 5",
            source="four processes have four locks",
        ),
        Claim(
            "correct_sold",
            "fix",
            "checking and taking in one statement sells five",
            correct.final("sold"),
            predict=lambda c: float(SEATS),
            tolerance=0.0,
            formula="5",
            source="PostgreSQL documentation, Read Committed: UPDATE waits for the row and evaluates its WHERE again",
            headline="20 buyers, forced, 4 workers",
        ),
        Claim(
            "correct_left",
            "fix",
            "and none is left",
            correct.final("left"),
            predict=lambda c: 0.0,
            tolerance=0.0,
            formula="0",
            source="the row is the count",
            headline="20 buyers, forced, 4 workers",
        ),
        Claim(
            "correct_errors",
            "fix",
            "a buyer who comes too late is told so",
            correct.status_count(409),
            predict=lambda c: float(BUYERS - SEATS),
            tolerance=0.0,
            formula="C - 5 = 15",
            source="201 or 409, nothing else",
            headline="20 buyers, forced, 4 workers",
        ),
        Claim(
            "known",
            "tax",
            "every refusal costs one more statement: sold out, or no such concert?",
            correct.sql_calls("known"),
            predict=lambda c: float(BUYERS - SEATS),
            tolerance=0.0,
            formula="C - 5 = 15",
            source="an UPDATE that changes no row does not say why",
            headline="20 buyers, forced, 4 workers",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("sold"),
            "20 buyers, 5 seats: {sold:.0f} sold with SELECT, then UPDATE; {correct_sold:.0f} with one statement",
            y_label="seats sold",
            conditions=("20 buyers, forced", "20 buyers, forced, 4 workers"),
            theory=("sold", "correct_sold", "lock_one"),
        ),
        Chart(
            "counts",
            each.final("left"),
            "{sold:.0f} seats sold, one counted: {same_write:.0f} of 5 seem to be left",
            y_label="seats left, by the table",
            conditions=("20 buyers, forced",),
            theory=("same_write", "correct_left"),
        ),
        Chart(
            "counts",
            each.final("sold"),
            "With nothing slowed: {sold_natural:.1f} of 5 seats sold",
            y_label="seats sold",
            conditions=("20 buyers, natural", "1 buyer at a time"),
            theory=("correct_sold", "alone"),
        ),
    ),
    answer=(
        "20 buyers of 5 seats get {sold:.0f} of them when all reads come before the first commit (predicted "
        "{sold.predicted:.0f}), {sold_natural:.1f} when nothing is slowed, and {correct_sold:.0f} when one statement "
        "checks and takes."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"oversold": each.final("oversold"), "lost": each.final("miscounted")},
    ),
)
