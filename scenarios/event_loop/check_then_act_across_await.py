"""C requests that read before the first of them writes all decide on the same number: C seats sold, one counted.

Forced: every message to the database takes 40 ms, so all C reads are answered before any write arrives, and the law is exact.  Natural:
nothing is slowed; how many overlap is up to the machine, that some do is not.  A lock in the process leaves one reader a worker.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Burst, Chart, Claim, ClosedLoad, Condition, FinalRead, Probe, Proxy, Scenario, Server

SEATS = 5  # dataset.sql
POOL_SIZE = 20  # POOL_SIZE in all targets: as many statements at once as there are buyers
BUYERS = 20
NO_TEMPTING = ("naive", "correct")


class Buyer(LabUser):
    @task
    def reserve(self) -> None:
        self.post("/concerts/1/reservations", name="reserve", json={"customer_id": 1 + self.number})


def buyers(
    label: str, *, forced: bool, workers: int = 1, quick_pairs: int = 1, variants: tuple[str, ...] = ()
) -> Condition:
    """Twenty buyers at one instant."""
    return Condition(
        label, Burst(BUYERS, spread=workers > 1), server=Server(workers=workers), forced=forced,
        proxy=Proxy("postgres", "delay:40") if forced else None,
        params={"buyers": BUYERS, "workers": workers, "together": True}, quick_pairs=quick_pairs, variants=variants,
    )  # fmt: skip


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where the interleaving is forced and one process serves everybody."""
    return value if condition.forced and condition.workers == 1 else None


def natural(condition: Condition, value: float) -> float | None:
    """``value`` where twenty buyers come at once and nothing is slowed."""
    return value if condition.params["together"] and not condition.forced and condition.workers == 1 else None


SCENARIO = Scenario(
    title="Check, then act, across an await",
    claim="C requests that read before the first of them writes sell C seats and count one; one thread does not help",
    parts=(14, 9),
    catalogue_ids=("aio-lock-race",),
    services=("postgres",),
    constants={"POOL_SIZE": POOL_SIZE},
    conditions=(
        buyers("20 buyers, forced", forced=True),
        buyers("20 buyers, natural", forced=False, quick_pairs=3, variants=NO_TEMPTING),
        buyers("20 buyers, forced, 4 workers", forced=True, workers=4),
        Condition(
            "1 buyer at a time", ClosedLoad(1, requests=BUYERS), params={"buyers": 1, "workers": 1, "together": False},
            quick_pairs=1, control=True,
        ),
    ),
    probes=(Probe("/concerts/1", body={"concert_id": 1}), Probe("/concerts/2", status=404)),
    final_reads=(
        FinalRead("sold", sql="SELECT count(*) FROM reservations"),
        FinalRead("left", sql="SELECT seats_left FROM concerts WHERE id = 1"),
    ),
    claims=(
        Claim(
            "sold", "harm", "every buyer gets one of five seats", "naive.final[sold]",
            predict=lambda c: forced(c, c.number("buyers")), tolerance=0.0, null=SEATS,
            formula="C", source="all reads come before all writes; claims aio-lock-race", headline="20 buyers, forced",
        ),
        Claim(
            "sold_natural", "harm", "without any help at least one seat too many is sold", "naive.final[sold]", relation="at_least",
            predict=lambda c: natural(c, SEATS + 1.0), tolerance=0.0,
            formula="more than 5", source="the reads of requests in flight overlap; claims aio-lock-race",
        ),
        Claim(
            "same_write", "mechanism", "all of them wrote the same number", "naive.final[left]",
            predict=lambda c: forced(c, SEATS - 1.0), tolerance=0.0,
            formula="5 - 1", source="each computed it from the same read", headline="20 buyers, forced",
        ),
        Claim(
            "alone", "mechanism", "one at a time it sells what there is", "naive.final[sold]",
            predict=lambda c: float(SEATS) if c.control else None, tolerance=0.0,
            formula="5", source="nothing overlaps",
        ),
        Claim(
            "lock_one", "mechanism", "a lock in the process is enough for one process", "tempting.final[sold]",
            predict=lambda c: forced(c, float(SEATS)), tolerance=0.0,
            formula="5", source="asyncio.Lock: one request between read and write",
        ),
        Claim(
            "lock_many", "harm", "a lock in the process oversells with four workers", "tempting.final[sold]", relation="at_least",
            predict=lambda c: SEATS + 1.0 if c.forced and c.workers > 1 else None, tolerance=0.0,
            formula="more than 5", source="four processes have four locks",
        ),
        Claim(
            "correct_sold", "fix", "looking and taking in one statement sells five", "correct.final[sold]",
            predict=lambda c: float(SEATS), tolerance=0.0,
            formula="5", source="UPDATE ... WHERE seats_left > 0 locks the row", headline="20 buyers, forced, 4 workers",
        ),
        Claim(
            "correct_left", "fix", "and none is left", "correct.final[left]",
            predict=lambda c: 0.0, tolerance=0.0, formula="0", source="the row is the count", headline="20 buyers, forced, 4 workers",
        ),
        Claim(
            "correct_errors", "fix", "who comes too late is told so", "correct.status_count[409]",
            predict=lambda c: float(BUYERS - SEATS), tolerance=0.0,
            formula="C - 5", source="201 or 409, nothing else", headline="20 buyers, forced, 4 workers",
        ),
    ),
    charts=(
        Chart(
            "counts", "final[sold]", "Five seats, twenty buyers: {sold:.0f} sold across an await, {correct_sold:.0f} in one statement",
            y_label="seats sold", conditions=("20 buyers, forced", "20 buyers, forced, 4 workers"),
            theory=("sold", "correct_sold", "lock_one"),
        ),
        Chart(
            "counts", "final[left]", "Twenty writes, one counted: {same_write:.0f} of five seats seem to be left",
            y_label="seats left, by the table", conditions=("20 buyers, forced",), theory=("same_write", "correct_left"),
        ),
        Chart(
            "counts", "final[sold]", "It needs no help: {sold_natural:.0f} sold of five when nothing is slowed",
            y_label="seats sold", conditions=("20 buyers, natural", "1 buyer at a time"), theory=("correct_sold", "alone"),
        ),
    ),
    answer="Twenty buyers of five seats get {sold:.0f} of them when the await between look and take is long (predicted {sold.predicted:.0f}), "
    "{sold_natural:.1f} when nothing is slowed, and {correct_sold:.0f} when the database does both in one statement.",
)  # fmt: skip
