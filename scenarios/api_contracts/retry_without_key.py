"""Orders and charges for N intended ones: without a key N plus one for each lost reply; look-then-pay C for C retries at once; a unique key N.

The fault proxy drops replies, not requests: the order was placed.  The payment provider is a separate server that counts what it has charged, once
for each key that it is given.  A process that is killed while it pays leaves the charge and no record of it: only a retry that brings the provider
the same key is not charged again.
"""

import gevent
from locust import task

from lab.generator.users import LabUser, Reply
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    Condition,
    Event,
    FinalRead,
    Journey,
    Load,
    Probe,
    Proxy,
    Scenario,
    Server,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import drop_first_replies
from lab.words.predictions import in_control, under

reservation = Arm("reservation")
tempting = Arm("tempting")

POOL_SIZE = 20  # POOL_SIZE in all targets: more than there are retries at once
CUSTOMERS = 10
RETRIES = 10  # of one order, at one instant
RESULT_TTL_S = 86_400  # RESULT_TTL_S in tempting.py and reservation.py
LEASE_S = 3.5  # LEASE_S in correct.py
CHARGE_S = 0.05
LONG_CHARGE_S = 1.2  # so that a kill meets it
KILL_S = 0.5
PAUSE_S = 0.25  # between two tries
MOST_TRIES = 40  # ten seconds of them: longer than a restart and a lease
WITHOUT_RESERVATION = ("naive", "correct", "tempting")
LOST, AT_ONCE, AT_ONCE_4, CHECKED, KILLED, NOTHING = (
    "each reply lost once",
    "10 retries at once",
    "10 retries at once, 4 workers",
    "replay and another payload",
    "killed while it pays",
    "nothing lost",
)


class Customer(LabUser):
    """Places one order and sends it again, with the same key, until there is an answer."""

    def journey(self) -> None:
        self.count("gave_up", 0)
        if not self.order_until_placed("order-0001", 500):
            self.count("gave_up")

    def order_until_placed(self, key: str, cents: int) -> bool:
        """Whether it was placed in the end."""
        for _ in range(MOST_TRIES):
            if self.order(key, cents).status == 201:
                return True
            gevent.sleep(PAUSE_S)
        return False

    def order(self, key: str, cents: int = 500) -> Reply:
        """One attempt."""
        body = {"customer_id": 1 + self.number, "total_cents": cents}
        reply = self.post("/orders", name="order", json=body, headers={"Idempotency-Key": key})
        self.count("lost_replies", bool(reply.error))
        return reply


class Impatient(Customer):
    """The same order from every connection at once, as a gateway that retries does."""

    @task
    def place(self) -> None:
        body = {"customer_id": 1, "total_cents": 500}
        self.post("/orders", name="order", json=body, headers={"Idempotency-Key": "order-0001"}, expect=(201, 409))


class Checker(Customer):
    """Compares a replay with the first answer, then uses the key for another order."""

    def journey(self) -> None:
        first, replay = self.order("order-0001"), self.order("order-0001")
        self.count("other_answers", (replay.status, replay.body) != (first.status, first.body))
        other = self.order("order-0001", cents=900)
        self.count("wrong_replays", other.status == 201 and b"900" not in other.body)


class Steady(Customer):
    """Places one order after the other, each with its own key and amount."""

    intended = 0

    @task
    def steadily(self) -> None:
        self.intended += 1
        self.order_until_placed(f"order-{self.intended:06d}", self.intended)


def placed(
    label: str,
    load: Load,
    user: str,
    intended: int,
    *,
    charge_s: float = CHARGE_S,
    workers: int = 1,
    variants: tuple[str, ...] = (),
    proxy: Proxy | None = None,
    events: tuple[Event, ...] = (),
    forced: bool = False,
    control: bool = False,
) -> Condition:
    """Orders, so many of them intended."""
    return Condition(
        label,
        load,
        user=user,
        upstream=Upstream(charge_s),
        server=Server(workers=workers),
        variants=variants,
        proxy=proxy,
        events=events,
        forced=forced,
        control=control,
        quick_pairs=1,
        params={"intended": intended},
    )


def in_burst(condition: Condition, value: float) -> float | None:
    """``value`` where one order is sent ten times at once."""
    return value if condition.user == "Impatient" else None


def labelled(condition: Condition, label: str, value: float) -> float | None:
    """``value`` under that condition."""
    return value if condition.label == label else None


SCENARIO = Scenario(
    title="Duplicate orders: a POST retried without an Idempotency-Key",
    claim=(
        "Ten orders whose replies are lost once are placed and charged 20 times without a key, and 10 times with a "
        "unique key in the database"
    ),
    parts=(18,),
    catalogue_ids=(
        "id-retry-dup",
        "id-check-then-act",
        "id-replay-shape",
        "id-no-fingerprint",
        "id-stuck-key",
        "id-crash-between",
    ),
    before_after=BeforeAfter(
        each.final("orders"),
        "orders placed by 10 customers",
        LOST,
        "Ten customers retry a POST because the reply to the first was lost.",
    ),
    labels={
        "naive": "no key",
        "tempting": "GET, pay, SETEX in Redis",
        "reservation": "SET NX in Redis",
        "correct": "unique key in PostgreSQL",
    },
    symptoms=(
        "duplicate orders",
        "charged twice",
        "double payment",
        "Idempotency-Key",
        "idempotency",
        "POST retried",
        "504 Gateway Time-out",
        "httpx.RemoteProtocolError: Server disconnected without sending a response.",
        "requests.exceptions.ReadTimeout",
        "at-least-once",
        "409 Conflict for every retry",
    ),
    services=("postgres", "redis", "upstream"),
    constants={"POOL_SIZE": POOL_SIZE, "RESULT_TTL_S": RESULT_TTL_S, "LEASE_S": LEASE_S},
    contract_differs="the key is a header of the contract: naive has none, correct asks for it",
    conditions=(
        placed(
            LOST,
            Journey(CUSTOMERS),
            "Customer",
            CUSTOMERS,
            proxy=Proxy("target", drop_first_replies(CUSTOMERS)),
            forced=True,
            variants=WITHOUT_RESERVATION,
        ),
        placed(AT_ONCE, Burst(RETRIES), "Impatient", 1),
        placed(AT_ONCE_4, Burst(RETRIES, spread=True), "Impatient", 1, workers=4, variants=WITHOUT_RESERVATION),
        placed(CHECKED, Journey(1), "Checker", 1, variants=("tempting", "correct")),
        placed(
            KILLED,
            Journey(1),
            "Customer",
            1,
            charge_s=LONG_CHARGE_S,
            forced=True,
            events=(
                Event(KILL_S, "kill", "server", label="the server is killed while it pays"),
                Event(KILL_S + 0.1, "start", "server", label="server starts again"),
            ),
        ),
        placed(NOTHING, Journey(CUSTOMERS), "Customer", CUSTOMERS, control=True, variants=WITHOUT_RESERVATION),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe(
            "/orders",
            method="POST",
            json={"customer_id": 0, "total_cents": 1},
            headers={"Idempotency-Key": "probe-0001"},
            status=422,
            after=False,  # reservation.py has reserved the key of the first one for a day
        ),
    ),
    final_reads=(
        FinalRead("orders", sql="SELECT count(*) FROM orders"),
        FinalRead("doubled", sql="SELECT count(*) - count(DISTINCT (customer_id, total_cents)) FROM orders"),
        FinalRead("charges", path="/charges", pointer="/effects"),
        FinalRead("charged_twice", path="/charges", pointer="/repeated_effects"),
        FinalRead("key_life_s", redis=("TTL", "idem:order-0001")),
    ),
    queries={"keys": "%idempotency_keys%"},
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=LEASE_S + 1.0,
        upstream=Upstream(CHARGE_S),
        ledger={"doubled": each.final("doubled"), "charged": each.final("charged_twice")},
        without=("Redis refuses", "Redis stalls", "Redis cuts", "Redis swallows connects"),  # correct does not use it
    ),
    claims=(
        Claim(
            "duplicates",
            "harm",
            "each lost reply is one more order",
            naive.final("orders"),
            predict=under(LOST, value=2.0 * CUSTOMERS),
            tolerance=0.0,
            null=CUSTOMERS,
            formula="N (1 + 1) = 2 x 10, each reply lost once",
            source="RFC 9110, 9.2.2: POST is not idempotent, a retry is another request",
        ),
        Claim(
            "charged",
            "harm",
            "and one more charge",
            naive.final("charges"),
            predict=under(LOST, value=2.0 * CUSTOMERS),
            tolerance=0.0,
            null=CUSTOMERS,
            formula="N (1 + 1) = 2 x 10",
            source="the provider's own count; RFC 9110, 9.2.2",
        ),
        Claim(
            "lost",
            "mechanism",
            "every customer lost one reply",
            naive.observed("lost_replies"),
            predict=under(LOST, value=float(CUSTOMERS)),
            tolerance=0.0,
            formula="N",
            source="the fault proxy cuts the connection when the reply comes back",
        ),
        Claim(
            "all_at_once",
            "harm",
            "GET, pay, SETEX: ten retries at once place ten orders",
            tempting.final("orders"),
            predict=lambda c: in_burst(c, float(RETRIES)),
            tolerance=0.0,
            null=1.0,
            formula="C = 10",
            source="Redis documentation: GET reserves nothing, and all ten ask before the first has paid",
            headline=AT_ONCE,
        ),
        Claim(
            "crash",
            "harm",
            "a crash while it pays charges the customer again",
            tempting.final("charges"),
            predict=under(KILLED, value=2.0),
            tolerance=0.0,
            null=1.0,
            formula="1 + 1 for each crash",
            source="Brandur Leach, Implementing Stripe-like Idempotency Keys in Postgres: foreign state mutations",
        ),
        Claim(
            "shape",
            "harm",
            "its replay is another answer",
            tempting.observed("other_answers"),
            predict=under(CHECKED, value=1.0),
            tolerance=0.0,
            formula="1 of 1",
            source='FastAPI documentation, Handling Errors: HTTPException answers {"detail": ...}',
        ),
        Claim(
            "wrong",
            "harm",
            "another order under the same key gets the old one's answer",
            tempting.observed("wrong_replays"),
            predict=under(CHECKED, value=1.0),
            tolerance=0.0,
            formula="1 of 1",
            source=(
                "draft-ietf-httpapi-idempotency-key-header, 2.4, Idempotency Fingerprint: the key alone is compared "
                "here"
            ),
        ),
        Claim(
            "stuck",
            "harm",
            "a key that is reserved first is stuck after a crash: the customer gives up",
            reservation.observed("gave_up"),
            predict=under(KILLED, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1 for each crash",
            source="nobody takes back the reservation of a dead process; measured here",
        ),
        Claim(
            "stuck_for",
            "mechanism",
            "it is stuck for as long as an answer is kept: a day",
            reservation.final("key_life_s"),
            predict=under(KILLED, value=float(RESULT_TTL_S)),
            tolerance=0.01,
            formula="86,400 s, less the run",
            source="one time to live for the reservation and the answer",
        ),
        Claim(
            "reserved",
            "mechanism",
            "of ten retries at once it lets one pay",
            reservation.final("orders"),
            predict=under(AT_ONCE, value=1.0),
            tolerance=0.0,
            formula="1",
            source="Redis documentation, SET with NX: one caller sets the key",
        ),
        Claim(
            "one_each",
            "fix",
            "with a unique key in the database every intended order is placed once",
            correct.final("orders"),
            predict=lambda c: c.number("intended"),
            tolerance=0.0,
            formula="N",
            source="PostgreSQL documentation, INSERT ... ON CONFLICT: one caller inserts or takes over the row",
            headline=AT_ONCE,
        ),
        Claim(
            "charged_once",
            "fix",
            "and charged once, even when the process dies while it pays",
            correct.final("charges"),
            predict=lambda c: c.number("intended"),
            tolerance=0.0,
            formula="N",
            source="Stripe documentation, Idempotent requests: a repeated key has no second effect",
            headline=KILLED,
        ),
        Claim(
            "same_answer",
            "fix",
            "a replay is the same bytes",
            correct.observed("other_answers"),
            predict=under(CHECKED, value=0.0),
            tolerance=0.0,
            formula="0",
            source="the answer itself is stored",
        ),
        Claim(
            "refused",
            "fix",
            "another order under the key is refused",
            correct.status_count(422),
            predict=under(CHECKED, value=1.0),
            tolerance=0.0,
            formula="1",
            source="draft-ietf-httpapi-idempotency-key-header, 2.7, Error Handling: 422",
        ),
        Claim(
            "not_stuck",
            "fix",
            "nobody gives up after a crash: the lease ends",
            correct.observed("gave_up"),
            predict=under(KILLED, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0, as the lease of 3.5 s is shorter than 40 tries x 0.25 s",
            source="the row is free when its locked_until has passed",
        ),
        Claim(
            "control",
            "mechanism",
            "where no reply is lost no order is doubled",
            naive.final("orders"),
            predict=in_control(float(CUSTOMERS)),
            tolerance=0.0,
            formula="N",
            source="no retry",
        ),
        Claim(
            "statements",
            "tax",
            "the key costs two statements for each order",
            correct.sql_calls("keys"),
            predict=in_control(2.0 * CUSTOMERS),
            tolerance=0.0,
            null=0.0,
            formula="2 N = 2 x 10",
            source="one INSERT ... ON CONFLICT before the payment, one UPDATE in the transaction of the order",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("orders"),
            "Ten orders whose reply was lost were placed {duplicates:.0f} times without a key; with a unique key, 10",
            y_label="orders placed",
            conditions=(LOST, NOTHING),
            theory=("duplicates", "one_each", "control"),
        ),
        Chart(
            "counts",
            each.final("orders"),
            (
                "Ten retries at once: placed {all_at_once:.0f} times with GET, pay, SETEX; with a unique key, "
                "{one_each:.0f}"
            ),
            y_label="orders placed",
            conditions=(AT_ONCE, AT_ONCE_4),
            theory=("all_at_once", "reserved", "one_each"),
        ),
        Chart(
            "counts",
            each.final("charges"),
            (
                "Killed while it pays: charged {crash:.0f} times with GET, pay, SETEX; with a key for the provider, "
                "{charged_once:.0f}"
            ),
            y_label="charges at the provider",
            conditions=(KILLED,),
            theory=("crash", "charged_once"),
        ),
        Chart(
            "counts",
            each.observed("gave_up"),
            "Killed while it pays: with a key reserved for a day the customer never gets an answer",
            y_label="customers who give up after 40 tries",
            conditions=(KILLED,),
            theory=("stuck", "not_stuck"),
        ),
    ),
    answer=(
        "Ten orders whose replies are lost once are placed {duplicates:.0f} times and charged {charged:.0f} times; "
        "GET, pay, SETEX places {all_at_once:.0f} for ten retries at once and charges {crash:.0f} times when the "
        "process dies; a key reserved in Redis is then stuck for a day. A unique key in the database places "
        "{one_each:.0f} and charges {charged_once:.0f}."
    ),
    disagrees_with_source=(
        'Part 18 has the code of the variant "GET, pay, SETEX in Redis". It answers a later retry, but not one that '
        "arrives while the first is being paid, and it forgets what it paid when it dies; its replay has another shape "
        "than the answer."
    ),
)
