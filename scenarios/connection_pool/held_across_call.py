"""P connections, each held for the T seconds of an API call: P / T requests a second, and of C at once P (floor(W / T) + 1) in time.

Request k gets a connection after (ceil(k / P) - 1) T and fails where that is more than W, the time-out of the pool.  Without a connection during the
call all C are in the carrier's hands at once: T, and some milliseconds for the statements.
"""

import math

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Burst, Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Survival, Upstream
from lab.words.metrics import correct, each, naive
from lab.words.predictions import having, in_control, under

POOL_SIZE = 5  # POOL_SIZE in both targets
ACQUIRE_S = 1.0  # ACQUIRE_S in both targets
CARRIER_S = 0.4
QUICK_S = 0.05
USERS = 20
FEW, MANY, MORE, LOOP = "5 at once", "20 at once", "40 at once", "20 users, one order after another"


class Buyer(LabUser):
    """Ships an order of its own."""

    @task
    def ship(self) -> None:
        reply = self.post(f"/orders/{1 + self.number}/shipment", name="ship", expect=(200, 503))
        self.count("refused", reply.status == 503)
        if reply.status == 200:
            self.observe_max("longest_s", reply.latency_s)


class Shipper(LabUser):
    """Ships one order after another."""

    shipped = 0

    @task
    def ship(self) -> None:
        self.shipped += 1
        self.post(f"/orders/{1 + self.number * 5000 + self.shipped}/shipment", name="ship")


class Steady(LabUser):
    """Ships one order after another; what was answered must be written."""

    shipped = 0

    @task
    def ship(self) -> None:
        self.count("unwritten", 0)
        self.shipped += 1
        path = f"/orders/{1 + self.number * 5000 + self.shipped}/shipment"
        if self.post(path, name="ship").status == 200:
            self.count("unwritten", self.get(path, name="look", expect=(200, 503)).status == 404)


def at_once(label: str, requests: int, *, control: bool = False) -> Condition:
    """So many requests at one instant."""
    return Condition(
        label,
        Burst(requests),
        user="Buyer",
        upstream=Upstream(CARRIER_S),
        params={"requests": requests},
        control=control,
        quick_pairs=1,
    )


def refused(condition: Condition) -> float:
    """How many of C requests wait longer than the pool lets them."""
    served = POOL_SIZE * (math.floor(ACQUIRE_S / CARRIER_S) + 1)
    return max(0.0, condition.number("requests") - served)


SCENARIO = Scenario(
    title="Connection held across an API call: QueuePool limit reached while the database is idle",
    claim=(
        "Five connections that are held during a call of 0.4 s serve 15 of 20 requests at once, the others wait a second for a connection and "
        "fail; given back before the call they serve all 20 in half a second"
    ),
    parts=(17,),
    catalogue_ids=("pool-hold-across-io", "pool-timeout-cliff"),
    before_after=BeforeAfter(
        each.observed("refused"),
        "of 20 requests refused",
        MANY,
        "Twenty orders are shipped at once; for each a carrier is asked, who takes 0.4 s.",
    ),
    labels={"naive": "connection held during the call", "correct": "given back before the call"},
    symptoms=(
        "QueuePool limit of size 5 overflow 10 reached",
        "connection timed out, timeout 30.00",
        "TimeoutError pool.acquire",
        "idle in transaction",
        "too many clients already",
        "pool exhausted slow API",
        "database idle pool exhausted",
        "LLM call holds database connection",
    ),
    services=("postgres", "upstream"),
    queries={"reset": "RESET ALL%"},
    conditions=(
        at_once(FEW, POOL_SIZE, control=True),
        at_once(MANY, 20),
        at_once(MORE, 40),
        Condition(LOOP, ClosedLoad(USERS), duration_s=3.0, warmup_s=0.5, user="Shipper", upstream=Upstream(QUICK_S)),
    ),
    probes=(
        Probe("/orders/199999/shipment", status=404),
        Probe("/orders/0/shipment", method="POST", status=422),
    ),
    claims=(
        Claim(
            "refused",
            "harm",
            "whoever would wait longer than the pool's time-out is refused",
            naive.observed("refused"),
            predict=having("requests", value=refused),
            tolerance=0.0,
            null=0.0,
            headline=MANY,
            formula="C - P (floor(W / T) + 1) = C - 5 x 3",
            source="request k begins after (ceil(k / P) - 1) T; P = 5, T = 0.4 s, W = 1 s",
        ),
        Claim(
            "rounds",
            "harm",
            "the last that is served has waited two rounds",
            naive.observed("longest_s"),
            predict=under(MANY, MORE, value=3 * CARRIER_S),
            tolerance=0.15,
            null=CARRIER_S,
            formula="3 T = 1.2 s",
            source="the third round of five",
        ),
        Claim(
            "waiting",
            "mechanism",
            "they wait for a connection",
            naive.pool_waiting_max,
            predict=under(MANY, value=20.0 - POOL_SIZE),
            tolerance=0.0,
            null=0.0,
            formula="C - P = 20 - 5",
            source="the pool hands out P",
        ),
        Claim(
            "rate",
            "mechanism",
            "the pool carries as many requests as calls fit into it",
            naive.throughput_rps,
            predict=under(LOOP, value=POOL_SIZE / QUICK_S),
            tolerance=0.25,
            formula="P / T = 5 / 0.05 s, less the statements",
            source="Little's law for the pool: P connections, each held for T",
        ),
        Claim(
            "few",
            "mechanism",
            "with no more requests than connections none is refused",
            naive.observed("refused"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="C = P",
        ),
        Claim(
            "none_refused",
            "fix",
            "given back before the call the pool refuses nobody",
            correct.observed("refused"),
            predict=having("requests", value=0.0),
            tolerance=0.0,
            headline=MANY,
            formula="0",
            source="a connection is held for a statement",
        ),
        Claim(
            "at_once",
            "fix",
            "and all are served in the time of one call",
            correct.observed("longest_s"),
            relation="at_most",
            predict=under(MANY, value=2 * CARRIER_S),
            tolerance=0.0,
            null=3 * CARRIER_S,
            formula="T + the statements of all: less than 2 T",
            source="the calls overlap",
        ),
        Claim(
            "faster",
            "fix",
            "twenty users have twice the throughput and more",
            correct.throughput_rps / naive.throughput_rps,
            relation="at_least",
            predict=under(LOOP, value=2.0),
            tolerance=0.0,
            null=1.0,
            formula="C / P = 4 where the CPU allows it",
            source="the calls overlap",
        ),
        Claim(
            "resets",
            "tax",
            "each request takes a connection twice, and asyncpg resets it each time",
            correct.sql_calls("reset"),
            predict=in_control(2.0 * POOL_SIZE),
            tolerance=0.0,
            null=float(POOL_SIZE),
            formula="2 x 5 requests",
            source="asyncpg, pool.py: a connection is reset when it is given back",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("refused"),
            "Five connections, calls of 0.4 s: {refused:.0f} of 20 requests at once are refused, {none_refused:.0f} if the call holds none",
            y_label="requests refused",
            conditions=(FEW, MANY, MORE),
            theory=("refused", "none_refused"),
        ),
        Chart(
            "counts",
            each.observed("longest_s"),
            "The slowest of 20: {rounds:.1f} s in three rounds of five, {at_once:.1f} s at once",
            y_label="longest time of a request that was served, s",
            conditions=(MANY,),
            theory=("rounds", "at_once"),
        ),
    ),
    answer=(
        "Of 20 requests at once {refused:.0f} are refused (predicted {refused.predicted:.0f}) while five connections wait for a carrier; given "
        "back before the call {none_refused:.0f} are, and throughput is {faster:.1f} times as high."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        upstream=Upstream(QUICK_S),
        ledger={"unwritten": each.observed("unwritten")},
    ),
)
