"""W (p + o) connections against what the database takes; a burst of C > p opens C - p new ones each time; P / T_hold requests per second get through.

The database takes 45 (CONNECTION LIMIT, in place of max_connections less the reserved ones, a hundred scaled down).  Four workers of 10 + 5 want
60, two want 30.  A refused request fails at once, so at least the 15 that are too many fail, and the peak is 45 exactly - as long as no connection
comes back before all were asked for, so the report takes longer there than sixty connects.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Probe,
    Scenario,
    Server,
    Survival,
)
from lab.words.metrics import correct, each, naive
from lab.words.predictions import having, in_control, under

POOL_SIZE = 10  # POOL_SIZE in naive.py
MAX_OVERFLOW = 5  # MAX_OVERFLOW in naive.py
CONNECTION_BUDGET = 36  # CONNECTION_BUDGET in correct.py
POOL_TIMEOUT_S = 3  # POOL_TIMEOUT_S in both targets
USABLE = 45  # more than the 4 x 10 that the pools keep, so that the final read still finds a place
HOLD_S = 0.2  # pg_sleep in dataset.sql
BURST = 12  # more than the pool, fewer than pool and overflow
BURSTS = 4
PROCESSES_OF_BURST = 3  # 36 / 3 = 12: as many as the burst, fewer than naive's 15
PROCESSES_OF_SWEEP = 4  # 36 / 4 = 9 for this worker
CHECKOUTS = 240.0  # of sixty users
# sixty connects took 0.25 s here
SLOW = """EXECUTE 'CREATE OR REPLACE FUNCTION report(customer integer) RETURNS integer LANGUAGE sql VOLATILE AS
    $body$ SELECT customer * 100 FROM pg_sleep(0.6) $body$';"""
LIMITED = (
    f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT {USABLE}', current_database()); {SLOW} END $$"
)


class Reader(LabUser):
    @task
    def read_report(self) -> None:
        self.get(f"/reports/{1 + self.number}", name="report")


def flood(workers: int, *, control: bool = False) -> Condition:
    """Enough requests at once that every worker needs its whole pool."""
    return Condition(
        f"{workers} workers, all at once",
        Burst(25 * workers, spread=True),
        server=Server(workers=workers),
        env={"APP_PROCESSES": str(workers)},
        params={"workers": workers, "flood": True},
        setup_sql=LIMITED,
        quick_pairs=1,
        control=control,
        drain_s=6.0,
    )


def flooded(condition: Condition, value: float) -> float | None:
    """``value`` where all come at once and more connections are wanted than there are."""
    return value if "flood" in condition.params and wanted(condition) > USABLE else None


def wanted(condition: Condition) -> float:
    """Connections that naive's pools may open."""
    return condition.workers * (POOL_SIZE + MAX_OVERFLOW)


def in_bursts(condition: Condition, value: float) -> float | None:
    """``value`` for the repeated bursts."""
    return value if "bursts" in condition.params else None


def steady(users: int, *, quick: bool = True, variants: tuple[str, ...] = ()) -> Condition:
    """Users who never pause, in whole rounds of as many as there are connections."""
    at_once = min(users, POOL_SIZE + MAX_OVERFLOW)
    return Condition(
        f"{users} users",
        ClosedLoad(users, requests=max(12 * at_once, 4 * users)),
        params={"workers": 1, "users": users},
        quick=quick,
        variants=variants,
        env={"APP_PROCESSES": str(PROCESSES_OF_SWEEP)},
    )


def saturated(condition: Condition, value: float) -> float | None:
    """``value`` where more users than connections never pause."""
    return value if "users" in condition.params and condition.number("users") > POOL_SIZE + MAX_OVERFLOW else None


SCENARIO = Scenario(
    title="Too many connections: pool_size is per process, max_connections is not",
    claim=(
        "Four workers of pool_size=10, max_overflow=5 want 60 connections of a database that takes 45: at least 15 "
        "requests fail"
    ),
    before_after=BeforeAfter(
        each.responses_5xx,
        "failed requests of 100",
        "4 workers, all at once",
        "Four workers with a pool of 10 + 5 each meet a database that allows fewer connections.",
    ),
    labels={"naive": "10 + 5 in each process", "correct": "36 shared by all processes"},
    symptoms=(
        "too many connections",
        "connection pool exhaustion",
        "max_connections",
        "FATAL: sorry, too many clients already",
        "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already",
        "TimeoutError: QueuePool limit of size 10 overflow 5 reached, connection timed out, timeout 30.00",
        "max_overflow",
        "pool_size",
        "PgBouncer",
        "errors during a deploy",
    ),
    parts=(17,),
    catalogue_ids=("pool-total", "pool-overflow-spike", "pool-no-churn-sustained", "pool-little"),
    services=("postgres",),
    constants={
        "POOL_SIZE": POOL_SIZE,
        "MAX_OVERFLOW": MAX_OVERFLOW,
        "CONNECTION_BUDGET": CONNECTION_BUDGET,
        "POOL_TIMEOUT_S": POOL_TIMEOUT_S,
    },
    conditions=(
        flood(4),
        flood(2, control=True),
        Condition(
            "4 bursts of 12",
            Burst(BURST, repeats=BURSTS, every_s=1.0),
            params={"workers": 1, "bursts": BURSTS},
            quick_pairs=1,
            env={"APP_PROCESSES": str(PROCESSES_OF_BURST)},
        ),
        steady(5, variants=("naive",)),
        steady(15, variants=("naive",), quick=False),
        steady(30, variants=("naive",)),
        steady(60),
    ),
    probes=(Probe("/health", body={"status": "ok"}),),
    final_reads=(FinalRead("leaked", sql=OPEN_TRANSACTIONS),),
    claims=(
        Claim(
            "refused",
            "harm",
            "requests above the database's limit fail",
            naive.responses_5xx,
            relation="at_least",
            predict=lambda c: flooded(c, wanted(c) - USABLE),
            tolerance=0.0,
            formula="W (p + o) - usable = 4 x 15 - 45 = 15, or more: a failed request makes room for another try",
            source="FastAPI Mastery, part 17: the rule (pool_size + max_overflow) x instances",
        ),
        Claim(
            "peak",
            "mechanism",
            "the database is full",
            naive.connections_peak("total"),
            predict=lambda c: flooded(c, float(USABLE)),
            tolerance=0.0,
            formula="usable = 45",
            source="PostgreSQL documentation, pg_stat_activity, read every 20 ms",
        ),
        Claim(
            "below",
            "mechanism",
            "two workers want 30 of 45, and no request is refused",
            naive.responses_5xx,
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0 while W (p + o) is below the limit",
            source="the same arithmetic",
        ),
        Claim(
            "spikes",
            "harm",
            "each burst opens its overflow again",
            naive.sessions_opened,
            predict=lambda c: in_bursts(c, BURST + (BURSTS - 1) * (BURST - POOL_SIZE)),
            tolerance=0.0,
            null=BURST,
            formula="C + (n - 1) (min(C, p + o) - p) = 12 + 3 x 2 = 18",
            source="SQLAlchemy documentation, max_overflow: such connections are discarded when they come back",
        ),
        Claim(
            "no_churn",
            "mechanism",
            "under sustained load the overflow is hardly ever opened again",
            naive.sessions_opened,
            relation="at_most",
            predict=under("60 users", value=0.1 * CHECKOUTS),
            tolerance=0.0,
            null=CHECKOUTS,
            formula="a tenth of the check-outs: p + o once, and up to o where more than p come back at one instant",
            source="SQLAlchemy, pool/impl.py: a waiting request takes the returned connection over",
            headline="60 users",
        ),
        Claim(
            "little",
            "mechanism",
            "P connections held for T let P / T requests per second through, however many users wait",
            naive.throughput_rps,
            predict=lambda c: (
                min(c.number("users"), POOL_SIZE + MAX_OVERFLOW) / HOLD_S if "users" in c.params else None
            ),
            tolerance=0.12,
            formula="min(C, p + o) / T: no more than 15 / 0.2 s = 75 per second from C = 15 on",
            source="Little's law",
            headline="60 users",
        ),
        Claim(
            "waiting",
            "mechanism",
            "the other users wait for a connection",
            naive.pool_waiting_max,
            relation="at_least",
            predict=lambda c: saturated(c, float(c.params.get("users", 0)) - POOL_SIZE - MAX_OVERFLOW),
            tolerance=0.0,
            formula="C - (p + o), more while connections change hands",
            source="the pool's own queue",
            headline="60 users",
        ),
        Claim(
            "fits",
            "fix",
            "with the budget divided no request is refused",
            correct.responses_5xx,
            predict=having("flood", value=0.0),
            tolerance=0.0,
            formula="0",
            source="W x (36 / W) is at most 36, below 45",
            headline="4 workers, all at once",
        ),
        Claim(
            "fits_peak",
            "fix",
            "and the database has connections left for others",
            correct.connections_peak("total"),
            relation="at_most",
            predict=having("flood", value=float(CONNECTION_BUDGET)),
            tolerance=0.0,
            formula="the budget, 36",
            source="no overflow",
            headline="4 workers, all at once",
        ),
        Claim(
            "no_spikes",
            "fix",
            "a pool of 12 without overflow opens nothing again",
            correct.sessions_opened,
            predict=lambda c: in_bursts(c, float(BURST)),
            tolerance=0.0,
            formula="C = 12",
            source="SQLAlchemy keeps pool_size connections",
        ),
        Claim(
            "share",
            "tax",
            "a worker's share is smaller, and so is what one busy worker can serve",
            correct.throughput_rps,
            predict=under("60 users", value=CONNECTION_BUDGET // PROCESSES_OF_SWEEP / HOLD_S),
            tolerance=0.12,
            formula="(36 / 4) / T = 9 / 0.2 s = 45 per second, not 75",
            source="Little's law",
            headline="60 users",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.responses_5xx,
            (
                "Four workers of 10 + 5 against 45 connections: {refused:.0f} requests fail; with the budget divided "
                "{fits:.0f} do"
            ),
            y_label="requests refused",
            conditions=("4 workers, all at once", "2 workers, all at once"),
            theory=("refused", "below", "fits"),
        ),
        Chart(
            "sweep",
            each.throughput_rps,
            "A pool of 15 serves {little:.0f} requests per second, for 15 users as for 60",
            x="users",
            x_label="users",
            y_label="answers per second",
            conditions=("5 users", "15 users", "30 users", "60 users"),
            theory=("little", "share"),
        ),
        Chart(
            "timeline",
            each.pool_waiting_max,
            "60 users and 15 connections: up to {waiting:.0f} requests wait for one",
            conditions=("60 users",),
        ),
        Chart(
            "timeline",
            "connections",
            "All pools grow at once until the database refuses",
            conditions=("4 workers, all at once",),
        ),
        Chart(
            "counts",
            each.sessions_opened,
            "Four bursts of 12 open {spikes:.0f} connections with a pool of 10 + 5, {no_spikes:.0f} with a pool of 12",
            y_label="connections opened",
            conditions=("4 bursts of 12",),
            theory=("spikes", "no_spikes"),
        ),
    ),
    answer=(
        "Four workers of 10 + 5 want 60 of 45 connections: {refused:.0f} requests fail while the database is full at "
        "{peak:.0f}. With 36 connections divided among them, {fits:.0f} fail. Four bursts of 12 open {spikes:.0f} "
        "connections with an overflow and {no_spikes:.0f} without."
    ),
    survival=Survival(
        user="Reader",
        answer_within_s=3.5,
        recover_within_s=3.0,
        ledger={"leaked": each.final("leaked")},
        env={"APP_PROCESSES": "2"},
    ),
)
