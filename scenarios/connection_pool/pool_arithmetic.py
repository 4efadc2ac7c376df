"""W (p + o) connections against what the database takes; a burst of C > p opens C - p new ones each time; P / T_hold requests a second get through.

The database takes 40 (CONNECTION LIMIT, in place of max_connections less the reserved ones, a hundred scaled down).  Four workers of 10 + 5 want
60, two want 30.  Who is refused fails at once, so at least the 20 that are too many fail, and the peak is 40 exactly - as long as no connection
comes back before all were asked for, so the report takes longer there than sixty connects.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Burst, Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Server

POOL_SIZE = 10  # POOL_SIZE in naive.py
MAX_OVERFLOW = 5  # MAX_OVERFLOW in naive.py
CONNECTION_BUDGET = 36  # CONNECTION_BUDGET in correct.py
USABLE = 40
HOLD_S = 0.1  # pg_sleep in dataset.sql
BURST = 12  # more than the pool, fewer than pool and overflow
BURSTS = 4
CHECKOUTS = 360.0  # of sixty users
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
        f"{workers} workers, all at once", Burst(40 * workers, spread=True), server=Server(workers=workers), env={"WEB_CONCURRENCY": str(workers)},
        params={"workers": workers, "flood": True}, setup_sql=LIMITED, quick_pairs=1, control=control, drain_s=6.0,
    )  # fmt: skip


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
        f"{users} users", ClosedLoad(users, requests=max(12 * at_once, 6 * users)), params={"workers": 1, "users": users}, quick=quick,
        variants=variants,
    )  # fmt: skip


def saturated(condition: Condition, value: float) -> float | None:
    """``value`` where more users than connections never pause."""
    return value if "users" in condition.params and condition.number("users") > POOL_SIZE + MAX_OVERFLOW else None


SCENARIO = Scenario(
    title="Pool size times processes",
    claim="W processes open W (pool_size + max_overflow) connections: four of 10 + 5 want 60 of 40, and what is above is refused",
    parts=(17,),
    catalogue_ids=("pool-total", "pool-overflow-spike", "pool-no-churn-sustained", "pool-little"),
    services=("postgres",),
    constants={"POOL_SIZE": POOL_SIZE, "MAX_OVERFLOW": MAX_OVERFLOW, "CONNECTION_BUDGET": CONNECTION_BUDGET},
    conditions=(
        flood(4),
        flood(2, control=True),
        Condition(
            "4 bursts of 12", Burst(BURST, repeats=BURSTS, every_s=0.8), params={"workers": 1, "bursts": BURSTS}, quick_pairs=1,
        ),
        steady(5, variants=("naive",)),
        steady(15, variants=("naive",), quick=False),
        steady(30, variants=("naive",)),
        steady(60),
    ),
    probes=(Probe("/health", body={"status": "ok"}),),
    claims=(
        Claim(
            "refused", "harm", "what is above the limit is refused", "naive.responses_5xx", relation="at_least",
            predict=lambda c: flooded(c, wanted(c) - USABLE), tolerance=0.0,
            formula="W (p + o) - usable = 20, or more: who fails makes room for another try", source="part 17; claims pool-total",
        ),
        Claim(
            "peak", "mechanism", "the database is full", "naive.connections_peak[total]",
            predict=lambda c: flooded(c, float(USABLE)), tolerance=0.0,
            formula="usable", source="pg_stat_activity, every 20 ms",
        ),
        Claim(
            "below", "mechanism", "two workers want 30 of 40 and nobody is refused", "naive.responses_5xx",
            predict=lambda c: 0.0 if c.control else None, tolerance=0.0,
            formula="0 while W (p + o) is below the limit", source="claims pool-total",
        ),
        Claim(
            "spikes", "harm", "each burst opens what is above the pool again", "naive.sessions_opened",
            predict=lambda c: in_bursts(c, BURST + (BURSTS - 1) * (BURST - POOL_SIZE)), tolerance=0.0, null=BURST,
            formula="C + (n - 1) (min(C, p + o) - p)", source="overflow is closed when it comes back; claims pool-overflow-spike",
        ),
        Claim(
            "no_churn", "mechanism", "under sustained load hardly anything is opened again", "naive.sessions_opened", relation="at_most",
            predict=lambda c: 0.1 * CHECKOUTS if c.label == "60 users" else None, tolerance=0.0, null=CHECKOUTS,
            formula="a tenth of the check-outs: p + o once, and up to o where more than p come back at one instant",
            source="a waiting request takes the connection over; claims pool-no-churn-sustained", headline="60 users",
        ),
        Claim(
            "little", "mechanism", "P connections held for T let P / T through, however many users wait", "naive.throughput_rps",
            predict=lambda c: min(c.number("users"), POOL_SIZE + MAX_OVERFLOW) / HOLD_S if "users" in c.params else None, tolerance=0.25,
            formula="min(C, p + o) / T: the knee is at C = p + o", source="Little's law; claims pool-little", headline="60 users",
        ),
        Claim(
            "waiting", "mechanism", "all the others wait for a connection", "naive.pool_waiting_max", relation="at_least",
            predict=lambda c: saturated(c, float(c.params.get("users", 0)) - POOL_SIZE - MAX_OVERFLOW), tolerance=0.0,
            formula="C - (p + o), more while connections change hands", source="the pool's own queue", headline="60 users",
        ),
        Claim(
            "fits", "fix", "with the budget divided nobody is refused", "correct.responses_5xx",
            predict=lambda c: 0.0 if "flood" in c.params else None, tolerance=0.0,
            formula="0", source="W x (36 / W) is below 40", headline="4 workers, all at once",
        ),
        Claim(
            "fits_peak", "fix", "and the database has room for others", "correct.connections_peak[total]", relation="at_most",
            predict=lambda c: float(CONNECTION_BUDGET) if "flood" in c.params else None, tolerance=0.0,
            formula="the budget", source="no overflow", headline="4 workers, all at once",
        ),
        Claim(
            "no_spikes", "fix", "nothing is opened again from burst to burst", "correct.sessions_opened",
            predict=lambda c: in_bursts(c, float(BURST)), tolerance=0.0, formula="C", source="all are kept",
        ),
    ),
    charts=(
        Chart(
            "counts", "responses_5xx", "Four workers of 10 + 5 against 40 connections: {refused:.0f} requests refused; divided, {fits:.0f}",
            y_label="requests refused", conditions=("2 workers, all at once", "4 workers, all at once"), theory=("refused", "below", "fits"),
        ),
        Chart(
            "sweep", "throughput_rps", "Beyond 15 connections more users get no more: {little:.0f}/s",
            x="users", x_label="users", y_label="answers per second", conditions=("5 users", "15 users", "30 users", "60 users"), theory=("little",),
        ),
        Chart("timeline", "pool_waiting_max", "Sixty users, 15 connections: up to {waiting:.0f} wait for one", conditions=("60 users",)),
        Chart("timeline", "connections", "All pools grow at once until the database refuses", conditions=("4 workers, all at once",)),
        Chart(
            "counts", "sessions_opened", "Four bursts of 12 open {spikes:.0f} connections with an overflow, {no_spikes:.0f} without",
            y_label="connections opened", conditions=("4 bursts of 12",), theory=("spikes", "no_spikes"),
        ),
    ),
    answer="Four workers of 10 + 5 want 60 of 40 connections and {refused:.0f} requests are refused, the database full at {peak:.0f}; with 36 "
    "divided among them {fits:.0f} are. Each burst above the pool opens its overflow again: {spikes:.0f} connections for four bursts of 12.",
)  # fmt: skip
