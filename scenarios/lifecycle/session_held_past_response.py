"""A session that ends after the background tasks holds its connection for T + T_bg: P / (T + T_bg) requests a second get through.

Its commit comes as late, so a client that reads what it has just been told was created finds nothing.  Which versions of FastAPI end a dependency
when is the law here: up to 0.105 after the tasks, 0.106 to 0.117 before the response, from 0.118 after the tasks again.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Upstream

POOL_SIZE = 5  # POOL_SIZE in both targets
MAIL_S = 0.4
USERS = 20
REQUESTS = 60
ORDERS = 8
AFTER_TASKS = ("0.105.0", "0.118.0")
BEFORE_RESPONSE = ("0.117.1",)


class Buyer(LabUser):
    @task
    def order(self) -> None:
        self.post("/orders", name="order", json={"total_cents": 500})


class Reader(LabUser):
    """Orders and reads the order at once, as a page that follows a redirect does."""

    def journey(self) -> None:
        for _ in range(ORDERS):
            order = self.post("/orders", name="order", json={"total_cents": 500}).json()
            self.count("not_there", self.get(f"/orders/{order['id']}", name="read").status == 404)


def reads(label: str, version: str = "", *, mail_s: float = MAIL_S, control: bool = False) -> Condition:
    """Orders that are read at once, under a version of FastAPI."""
    return Condition(
        label, Journey(1), user="Reader", upstream=Upstream(mail_s), packages={"fastapi": version} if version else {}, quick_pairs=1,
        params={"version": version or "this one", "mail_s": mail_s}, variants=("naive",) if version else (), control=control,
    )  # fmt: skip


def late(condition: Condition) -> float | None:
    """How many of the orders a reader does not find under naive."""
    if "version" not in condition.params:
        return None
    return 0.0 if condition.params["version"] in BEFORE_RESPONSE else float(ORDERS)


def under_load(condition: Condition, value: float) -> float | None:
    """``value`` where the pool is the limit."""
    return None if "version" in condition.params else value


SCENARIO = Scenario(
    title="A session held past its response",
    claim="A yield dependency is held until every background task is done (FastAPI 0.118 and newer): P / (T + T_bg) requests a second",
    parts=(1, 17),
    catalogue_ids=("lc-yield-dep-outlives-response",),
    services=("postgres", "upstream"),
    constants={"POOL_SIZE": POOL_SIZE},
    conditions=(
        Condition("20 users", ClosedLoad(USERS, requests=REQUESTS), user="Buyer", upstream=Upstream(MAIL_S), params={"users": USERS}),
        *(reads(f"read at once, FastAPI {version}", version) for version in sorted((*AFTER_TASKS, *BEFORE_RESPONSE))),
        reads("read at once"),
        Condition(
            "no background work", ClosedLoad(USERS, requests=8 * REQUESTS), user="Buyer", upstream=Upstream(0.0),
            params={"users": USERS, "mail_s": 0.0}, control=True, quick_pairs=5,
        ),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/orders/999", status=404)),
    claims=(
        Claim(
            "capped", "harm", "the pool lets P / T_bg through", "naive.throughput_rps",
            predict=lambda c: None if c.control else under_load(c, POOL_SIZE / MAIL_S), tolerance=0.20,
            formula="P / (T + T_bg), T small", source="Little's law; claims lc-yield-dep-outlives-response", headline="20 users",
        ),
        Claim(
            "not_there", "harm", "what was answered 201 is not there yet, in these versions", "naive.observed[not_there]",
            predict=late, tolerance=0.0,
            formula="all, but none under 0.106 to 0.117", source="FastAPI's release notes; claims lc-yield-dep-outlives-response",
            headline="read at once",
        ),
        Claim(
            "idle", "mechanism", "the whole pool is idle in transaction", "naive.connections_peak[idle in transaction]",
            predict=lambda c: None if c.control else under_load(c, float(POOL_SIZE)), tolerance=0.0,
            formula="P", source="pg_stat_activity", headline="20 users",
        ),
        Claim(
            "no_tasks", "mechanism", "with nothing to wait for both serve the same", "correct.throughput_rps / naive.throughput_rps",
            predict=lambda c: 1.0 if c.control else None, tolerance=0.35, null=1.0,
            formula="1", source="T_bg = 0",
        ),
        Claim(
            "there", "fix", "with scope=function every order is there", "correct.observed[not_there]",
            predict=lambda c: 0.0 if c.label == "read at once" else None, tolerance=0.0,
            formula="0", source="the commit comes before the answer",
        ),
        Claim(
            "freed", "fix", "and the pool serves at least three times as many", "correct.throughput_rps / naive.throughput_rps", relation="at_least",
            predict=lambda c: None if c.control else under_load(c, 3.0), null=1.0,
            formula="T_bg / T, at least 3", source="a connection is held for a statement and a commit", headline="20 users",
        ),
    ),
    charts=(
        Chart(
            "counts", "observed[not_there]", "Answered 201 and not there: {not_there:.0f} of 8, depending on the version of FastAPI",
            y_label="orders that a reader did not find",
            conditions=("read at once, FastAPI 0.105.0", "read at once, FastAPI 0.117.1", "read at once, FastAPI 0.118.0", "read at once"),
            theory=("not_there", "there"),
        ),
        Chart(
            "counts", "throughput_rps", "A mail of 0.4 s caps a pool of five at {capped:.0f} orders a second",
            y_label="orders a second", conditions=("20 users", "no background work"), theory=("capped",),
        ),
        Chart("timeline", "connections", "Idle in transaction, all of them, for as long as the mail takes", conditions=("20 users",)),
    ),
    answer="With a mail of 0.4 s in the background a pool of five lets {capped:.1f} orders a second through (predicted {capped.predicted:.1f}), and "
    "{not_there:.0f} of 8 orders are not there when their 201 is; with scope=\"function\" it is {freed:.1f} times as many and {there:.0f}.",
    disagrees_with_source="The get_db of part 17 commits after its yield. Whether that is before or after the client has its answer was changed "
    "twice: before it from 0.106 to 0.117, after it and after all background tasks up to 0.105 and from 0.118 on.",
)  # fmt: skip
