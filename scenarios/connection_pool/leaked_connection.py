"""Each 404 keeps a connection: after P of them the pool is empty until a restart, and before that nothing is slower and nothing fails.

The pool is asyncpg's, which waits for release() and takes nothing back by itself; a request that finds no connection waits for the time-out of
acquire() and fails.  Releasing on the 404 as well is one way out of many: a statement that runs into its time-out leaves by another.
"""

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, Journey, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, STALL
from lab.words.predictions import having, in_control, under

tempting = Arm("tempting")

POOL_SIZE = 10  # POOL_SIZE in all targets
ACQUIRE_S = 0.5  # ACQUIRE_S in all targets: what each read of an empty pool waits
READS = 6
STALLED_S = 1.6  # longer than command_timeout, 1 s
HEADLINE = "10 of 404, then 6 reads"
STALL_LABEL = "the database hangs for 1.6 s"


class Reader(LabUser):
    """Asks for orders that do not exist, then for one that does."""

    def journey(self) -> None:
        for number in range(int(self.params["missing"])):
            self.get(f"/orders/{1000 + number}", name="missing", expect=(404,))
        self.read()

    def read(self) -> None:
        """What is left of the service."""
        for _ in range(READS):
            self.get("/orders/1", name="read", expect=(200, 503))


class AfterTheStall(Reader):
    """As many reads in the meantime as there are connections, one each; then one user sees what is left."""

    def journey(self) -> None:
        gevent.sleep(0.3)  # the database hangs from 0.1 s on
        self.get("/orders/1", name="stalled", expect=(200, 503))
        if self.number == 0:
            gevent.sleep(STALLED_S)
            self.read()


class Steady(LabUser):
    """Every other order does not exist."""

    @task
    def read(self) -> None:
        missing = self.rng.random() < 0.5
        self.get("/orders/1000" if missing else "/orders/1", name="read", expect=(404,) if missing else (200,))


def after(missing: int, *, control: bool = False) -> Condition:
    """So many answers of 404, then the reads."""
    return Condition(
        f"{missing} of 404, then {READS} reads",
        Journey(1),
        user="Reader",
        params={"missing": missing},
        control=control,
        quick_pairs=1,
    )


def refused(condition: Condition) -> float:
    """How many of the reads find no connection."""
    return READS if condition.number("missing") >= POOL_SIZE else 0.0


SCENARIO = Scenario(
    title="Connection leak: an error path that never returns its connection (pool exhausted after N errors)",
    claim=(
        "The tenth 404 empties a pool of 10 until the next restart when the error path keeps its connection, and nothing shows before; "
        "with async with, none is lost"
    ),
    parts=(17,),
    catalogue_ids=("pool-leak-N",),
    before_after=BeforeAfter(
        each.status_count("503"),
        "of 6 reads refused with 503",
        HEADLINE,
        "Ten clients ask for orders that do not exist; then somebody reads an order six times.",
    ),
    labels={
        "naive": "acquire, 404, release",
        "correct": "async with acquire",
        "tempting": "release before the 404 too",
    },
    symptoms=(
        "connection leak",
        "pool exhausted",
        "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "asyncpg TimeoutError acquire",
        "works until restart",
        "service hangs after some hours",
        "remaining connection slots are reserved",
        "The garbage collector is trying to clean up non-checked-in connection",
        "session not closed",
        "idle connections never returned",
    ),
    services=("postgres",),
    constants={"POOL_SIZE": POOL_SIZE, "ACQUIRE_S": ACQUIRE_S},
    conditions=(
        after(5),
        after(POOL_SIZE - 1),
        after(POOL_SIZE),
        Condition(
            STALL_LABEL,
            Journey(POOL_SIZE),
            user="AfterTheStall",
            proxy=Proxy("postgres"),
            events=(
                Event(0.1, "fault", statement=STALL, label="the database hangs"),
                Event(0.1 + STALLED_S, "fault", statement=PASS, label="the database answers again"),
            ),
            quick_pairs=1,
        ),
        after(0, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/orders/2", body={"id": 2, "total_cents": 200}, after=False),
    ),
    claims=(
        Claim(
            "refused",
            "harm",
            "after as many answers of 404 as there are connections every read fails, before that none",
            naive.status_count("503"),
            predict=having("missing", value=refused),
            tolerance=0.0,
            formula="all 6 where the answers of 404 are P = 10 or more, else 0",
            source="asyncpg documentation, Pool.acquire: a connection comes back by release()",
            headline=HEADLINE,
        ),
        Claim(
            "refused_later",
            "harm",
            "with a release before the 404 the same happens when ten statements run into their time-out",
            tempting.status_count("503"),
            relation="at_least",
            predict=under(STALL_LABEL, value=POOL_SIZE + READS),
            tolerance=0.0,
            formula="10 that hung + 6 after the database is back = 16",
            source="a TimeoutError leaves the function before its last line",
        ),
        Claim(
            "checked_out",
            "mechanism",
            "each 404 leaves one connection checked out",
            naive.pool_checked_out_max,
            predict=having("missing", value=lambda c: min(c.number("missing") + 1.0, POOL_SIZE)),
            tolerance=0.0,
            null=1.0,
            formula="min(answers of 404 + 1, P)",
            source="and the one in use",
            headline=HEADLINE,
        ),
        Claim(
            "no_errors",
            "mechanism",
            "where nothing is missing nothing is lost",
            naive.status_count("503"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="the way without an error releases",
        ),
        Claim(
            "served",
            "fix",
            "with async with every read is answered, whatever went wrong before",
            correct.requests_ok("read"),
            predict=having("missing", value=float(READS)),
            tolerance=0.0,
            null=0.0,
            formula="6 of 6",
            source="Python documentation, asynchronous context managers: __aexit__ runs on every way out",
            headline=HEADLINE,
        ),
        Claim(
            "one_out",
            "fix",
            "and one connection is out at a time",
            correct.pool_checked_out_max,
            predict=having("missing", value=1.0),
            tolerance=0.0,
            null=POOL_SIZE,
            formula="1 client, 1 connection",
            source="it is given back before the answer",
            headline=HEADLINE,
        ),
        Claim(
            "only_stalled",
            "fix",
            "of the requests that meet a hanging database only these fail",
            correct.status_count("503"),
            predict=under(STALL_LABEL, value=float(POOL_SIZE)),
            tolerance=0.0,
            null=POOL_SIZE + READS,
            formula="10 that hung",
            source="their connections are back when the database is",
        ),
        Claim(
            "free",
            "tax",
            "it costs no statement",
            correct.sql_calls / naive.sql_calls,
            predict=in_control(1.0),
            tolerance=0.0,
            null=1.0,
            formula="1",
            source="the same statement; asyncpg resets a connection on its way back in both",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("503"),
            "The tenth 404 empties a pool of ten: {refused:.0f} of 6 reads fail; with async with, {served:.0f} of 6 are answered",
            y_label="reads refused with 503",
            conditions=tuple(f"{missing} of 404, then {READS} reads" for missing in (0, 5, POOL_SIZE - 1, POOL_SIZE)),
            theory=("refused",),
        ),
        Chart(
            "counts",
            each.status_count("503"),
            "Ten requests meet a hanging database: {refused_later:.0f} fail where only the 404 releases, {only_stalled:.0f} with async with",
            y_label="requests refused with 503",
            conditions=(STALL_LABEL,),
            theory=("refused_later", "only_stalled"),
        ),
    ),
    answer=(
        "After ten answers of 404 {refused:.0f} of 6 reads fail when the error path keeps its connection (predicted "
        "{refused.predicted:.0f}); after nine none does. With async with {served:.0f} of 6 are answered."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0),
)
