"""Orders for N intended ones: without a key N plus one for each lost reply; with look-then-pay C for C retries at once; with a unique key N.

The fault proxy drops replies, not requests: the order was placed.  A worker that is killed while it pays leaves the order (the statement ends by
itself) and, where the record comes after the payment, no record of it.
"""

import gevent
from locust import task

from lab.loadgen.users import LabUser, Reply
from lab.model import Burst, Chart, Claim, Condition, Event, FinalRead, Journey, Probe, Proxy, Scenario, Server

POOL_SIZE = 20  # POOL_SIZE in all targets: more than there are retries at once
CUSTOMERS = 10
RETRIES = 10  # of one order, at one instant
RESULT_TTL_S = 86_400  # RESULT_TTL_S in tempting.py and reservation.py
WITHOUT_RESERVATION = ("naive", "correct", "tempting")
MOST_TRIES = 40
SLOW_CHARGE = """CREATE OR REPLACE FUNCTION place_order(customer integer, cents integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE order_id bigint;
BEGIN
    PERFORM pg_sleep(1.2);
    INSERT INTO orders (customer_id, total_cents) VALUES (customer, cents) RETURNING id INTO order_id;
    RETURN order_id;
END $$"""  # so that a kill meets it


class Customer(LabUser):
    """Places one order and sends it again, with the same key, until there is an answer."""

    def journey(self) -> None:
        self.count("gave_up", 0)
        for _ in range(MOST_TRIES):
            if self.order("order-0001").status == 201:
                return
            gevent.sleep(0.1)
        self.count("gave_up")

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
        self.post("/orders", name="order", json=body, headers={"Idempotency-Key": "order-0001"})


class Checker(Customer):
    """Compares a replay with the first answer, then uses the key for another order."""

    def journey(self) -> None:
        first, replay = self.order("order-0001"), self.order("order-0001")
        self.count("other_answers", (replay.status, replay.body) != (first.status, first.body))
        other = self.order("order-0001", cents=900)
        self.count("wrong_replays", other.status == 201 and b"900" not in other.body)


def in_burst(condition: Condition, value: float) -> float | None:
    """``value`` where one order is sent ten times at once."""
    return value if condition.user == "Impatient" else None


def labelled(condition: Condition, label: str, value: float) -> float | None:
    """``value`` under that condition."""
    return value if condition.label == label else None


SCENARIO = Scenario(
    title="A retry without a key",
    claim="A lost reply is a second order; look-then-pay places C orders for C retries at once; a unique key in the transaction places one",
    parts=(18,),
    catalogue_ids=("id-retry-dup", "id-check-then-act", "id-replay-shape", "id-no-fingerprint", "id-stuck-key", "id-crash-between"),
    services=("postgres", "redis"),
    constants={"POOL_SIZE": POOL_SIZE, "RESULT_TTL_S": RESULT_TTL_S},
    contract_differs="the key is a header of the contract: naive has none, correct asks for it",
    conditions=(
        Condition(
            "each reply lost once", Journey(CUSTOMERS), user="Customer", proxy=Proxy("target", f"drop_first_replies:{CUSTOMERS}"), forced=True,
            params={"intended": CUSTOMERS}, quick_pairs=1, variants=WITHOUT_RESERVATION,
        ),
        Condition("10 retries at once", Burst(RETRIES), user="Impatient", params={"intended": 1}, quick_pairs=1),
        Condition(
            "10 retries at once, 4 workers", Burst(RETRIES, spread=True), user="Impatient", server=Server(workers=4), params={"intended": 1},
            quick_pairs=1, variants=WITHOUT_RESERVATION,
        ),
        Condition("replay and another payload", Journey(1), user="Checker", params={"intended": 1}, quick_pairs=1, variants=("tempting", "correct")),
        Condition(
            "worker killed while it pays", Journey(1), user="Customer", server=Server(workers=2), params={"intended": 1}, quick_pairs=1, forced=True,
            setup_sql=SLOW_CHARGE, events=(Event(0.5, "kill", "querying", label="the worker that pays is killed"),),
        ),
        Condition(
            "nothing lost", Journey(CUSTOMERS), user="Customer", params={"intended": CUSTOMERS}, quick_pairs=1, control=True,
            variants=WITHOUT_RESERVATION,
        ),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe(
            "/orders", method="POST", json={"customer_id": 0, "total_cents": 1}, headers={"Idempotency-Key": "probe-0001"}, status=422,
            after=False,  # reservation.py has reserved the key of the first one for a day
        ),
    ),
    final_reads=(
        FinalRead("orders", sql="SELECT count(*) FROM orders"),
        FinalRead("key_life_s", redis=("TTL", "idem:order-0001")),
    ),
    claims=(
        Claim(
            "duplicates", "harm", "each lost reply is one more order", "naive.final[orders]",
            predict=lambda c: labelled(c, "each reply lost once", 2.0 * CUSTOMERS), tolerance=0.0, null=CUSTOMERS,
            formula="N (1 + f), each reply lost once", source="the request was not lost; claims id-retry-dup",
        ),
        Claim(
            "lost", "mechanism", "every customer lost one reply", "naive.observed[lost_replies]",
            predict=lambda c: labelled(c, "each reply lost once", float(CUSTOMERS)), tolerance=0.0,
            formula="N", source="the fault proxy cuts when the reply comes back",
        ),
        Claim(
            "all_at_once", "harm", "look, pay, remember: C retries at once place C orders", "tempting.final[orders]",
            predict=lambda c: in_burst(c, float(RETRIES)), tolerance=0.0, null=1.0,
            formula="C", source="nobody has remembered while all pay; claims id-check-then-act", headline="10 retries at once",
        ),
        Claim(
            "crash", "harm", "a crash after the payment pays again", "tempting.final[orders]",
            predict=lambda c: labelled(c, "worker killed while it pays", 2.0), tolerance=0.0, null=1.0,
            formula="1 + 1 a crash", source="the record comes after the effect; claims id-crash-between",
        ),
        Claim(
            "shape", "harm", "its replay is another answer", "tempting.observed[other_answers]",
            predict=lambda c: labelled(c, "replay and another payload", 1.0), tolerance=0.0,
            formula="1 of 1", source="raise HTTPException(detail=body); claims id-replay-shape",
        ),
        Claim(
            "wrong", "harm", "another order under the key gets the old one's answer", "tempting.observed[wrong_replays]",
            predict=lambda c: labelled(c, "replay and another payload", 1.0), tolerance=0.0,
            formula="1 of 1", source="the key alone is compared; claims id-no-fingerprint",
        ),
        Claim(
            "stuck", "harm", "a key that is reserved first is stuck after a crash: the customer gives up", "reservation.observed[gave_up]",
            predict=lambda c: labelled(c, "worker killed while it pays", 1.0), tolerance=0.0, null=0.0,
            formula="1 a crash", source="nobody takes a dead worker's reservation back; claims id-stuck-key",
        ),
        Claim(
            "stuck_for", "mechanism", "for as long as an answer is kept: a day", "reservation.final[key_life_s]",
            predict=lambda c: labelled(c, "worker killed while it pays", float(RESULT_TTL_S)), tolerance=0.01,
            formula="RESULT_TTL_S", source="one time to live for both; claims id-stuck-key",
        ),
        Claim(
            "reserved", "mechanism", "although of ten retries at once it lets one pay", "reservation.final[orders]",
            predict=lambda c: labelled(c, "10 retries at once", 1.0), tolerance=0.0,
            formula="1", source="SET NX has one winner",
        ),
        Claim(
            "one_each", "fix", "with a unique key in the transaction every intended order is placed once", "correct.final[orders]",
            predict=lambda c: c.number("intended"), tolerance=0.0,
            formula="N", source="an index has one winner, a transaction one end", headline="10 retries at once",
        ),
        Claim(
            "same_answer", "fix", "a replay is the same bytes", "correct.observed[other_answers]",
            predict=lambda c: labelled(c, "replay and another payload", 0.0), tolerance=0.0, formula="0", source="the answer itself is stored",
        ),
        Claim(
            "refused", "fix", "another order under the key is refused", "correct.status_count[422]",
            predict=lambda c: labelled(c, "replay and another payload", 1.0), tolerance=0.0,
            formula="1", source="draft-ietf-httpapi-idempotency-key-header: 422",
        ),
        Claim(
            "not_stuck", "fix", "nobody gives up after a crash: no key is stuck", "correct.observed[gave_up]",
            predict=lambda c: labelled(c, "worker killed while it pays", 0.0), tolerance=0.0,
            formula="0", source="the key is undone with its transaction; claims id-stuck-key",
        ),
        Claim(
            "control", "mechanism", "where no reply is lost no order is doubled", "naive.final[orders]",
            predict=lambda c: float(CUSTOMERS) if c.control else None, tolerance=0.0, formula="N", source="no retry",
        ),
    ),
    charts=(
        Chart(
            "counts", "final[orders]",
            "One order, ten retries at once: {all_at_once:.0f} with the published remedy, {one_each:.0f} with a unique key",
            y_label="orders placed", conditions=("10 retries at once", "10 retries at once, 4 workers", "worker killed while it pays"),
            theory=("all_at_once", "crash", "reserved", "one_each"),
        ),
        Chart(
            "counts", "final[orders]", "Ten orders, each reply lost once: {duplicates:.0f} without a key",
            y_label="orders placed", conditions=("each reply lost once", "nothing lost"), theory=("duplicates", "one_each", "control"),
        ),
        Chart(
            "counts", "observed[gave_up]", "The worker that pays is killed: with a key reserved for a day the customer gives up",
            y_label="customers who never get an answer", conditions=("worker killed while it pays",), theory=("stuck", "not_stuck"),
        ),
        Chart(
            "timeline", "latency", "The worker that pays is killed; the retry waits for its transaction to end, then is the first",
            conditions=("worker killed while it pays",),
        ),
    ),
    answer="Ten orders whose replies are lost once become {duplicates:.0f}; the published remedy places {all_at_once:.0f} for ten retries at once "
    "and {crash:.0f} when a worker dies, where a key reserved first is stuck for a day; a unique key in the transaction places {one_each:.0f}.",
    disagrees_with_source="The source's code is the tempting variant. It answers a later retry, but not one that comes while the first is being "
    "paid, and it forgets what it paid when it dies; its replay has another shape than the answer.",
)  # fmt: skip
