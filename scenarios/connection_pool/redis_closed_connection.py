"""P pooled connections that were closed are P failed commands, if the pool does not look at a connection before it hands it out.

redis-py's asyncio pools ask can_read() of a connection that they hand out: a closed one is opened again.  In 8.1 the answer is ignored where
maintenance notifications are on, and they are on with RESP3 (redis/asyncio/connection.py, ensure_connection).  After a restart of Redis, a failover
or an idle time-out each pooled connection of each process fails once.  With RESP2, or with redis-py 7, none does.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Burst, Chart, Claim, Condition, Event, Probe, Proxy, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import CUT, delay
from lab.words.predictions import in_control, under

with_retry = Arm("with_retry")

POOLED = 10
OLD = "7.4.1"  # before RESP3 was the default
NEAR = delay(5)  # so that ten commands at once need ten connections
CLOSED, OLD_CLOSED, OPEN = (
    "10 connections closed while idle",
    f"10 connections closed while idle, redis-py {OLD}",
    "nothing is closed",
)


class Reader(LabUser):
    @task
    def read(self) -> None:
        self.get("/pages/home", name="page", expect=(200, 503))


class Steady(LabUser):
    @task
    def read(self) -> None:
        self.get("/pages/home", name="page")


def bursts(
    label: str, *, closed: bool, redis: str = "", variants: tuple[str, ...] = (), control: bool = False
) -> Condition:
    """Ten requests at once, three times; between the first and the second time all connections to Redis are closed."""
    events = (
        Event(0.5, "fault", statement=CUT, label="all connections to Redis are closed"),
        Event(0.6, "fault", statement=NEAR, label="Redis takes new ones"),
    )
    return Condition(
        label,
        Burst(POOLED, repeats=3, every_s=1.0),
        user="Reader",
        proxy=Proxy("redis", NEAR),
        events=events if closed else (),
        packages={"redis": redis} if redis else {},
        variants=variants,
        control=control,
        forced=True,
        quick_pairs=1,
    )


SOURCE = "redis-py's source, redis/asyncio/connection.py, ensure_connection (8.1.0)"

SCENARIO = Scenario(
    title="redis-py 8: after a restart of Redis every pooled connection fails once",
    claim=(
        "Ten pooled connections that Redis has closed are ten failed requests with redis-py 8 as it is, none with protocol=2, and none "
        "with redis-py 7"
    ),
    parts=(5, 17),
    catalogue_ids=("ca-redis-closed-connection",),
    before_after=BeforeAfter(
        each.status_count("503"),
        "of 30 requests fail",
        CLOSED,
        "Ten connections to Redis are closed while they are idle; then ten requests come at once, and ten more.",
    ),
    labels={
        "naive": "redis-py 8, default",
        "correct": "protocol=2",
        "with_retry": "one retry for each command",
    },
    symptoms=(
        "redis.exceptions.ConnectionError: Connection closed by server.",
        "Connection closed by server",
        "ConnectionResetError",
        "errors after Redis restart",
        "errors after failover",
        "first request after idle fails",
        "maint_notifications_config",
        "RESP3",
        "protocol=2",
        "redis timeout idle connections",
        "health_check_interval",
    ),
    services=("redis",),
    conditions=(
        bursts(CLOSED, closed=True),
        bursts(OLD_CLOSED, closed=True, redis=OLD, variants=("naive", "correct")),
        bursts(OPEN, closed=False, control=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/pages/probe", body={"page": "probe", "visits": 0})),
    claims=(
        Claim(
            "each_once",
            "harm",
            "each connection that was closed fails one request",
            naive.status_count("503"),
            predict=under(CLOSED, value=float(POOLED)),
            tolerance=0.0,
            null=0.0,
            formula="P = 10",
            source=SOURCE,
        ),
        Claim(
            "redis_7",
            "mechanism",
            "with redis-py 7 none fails",
            naive.status_count("503"),
            predict=under(OLD_CLOSED, value=0.0),
            tolerance=0.0,
            null=float(POOLED),
            formula="0",
            source="it speaks RESP2 if nothing else is asked for",
        ),
        Claim(
            "none_closed",
            "mechanism",
            "nor where nothing is closed",
            naive.status_count("503"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(POOLED),
            formula="0",
            source="the connections are good",
        ),
        Claim(
            "looked_at",
            "fix",
            "with RESP2 none fails",
            correct.status_count("503"),
            predict=under(CLOSED, OLD_CLOSED, OPEN, value=0.0),
            tolerance=0.0,
            null=float(POOLED),
            formula="0",
            source=SOURCE,
            headline=CLOSED,
        ),
        Claim(
            "retried",
            "fix",
            "nor with a retry",
            with_retry.status_count("503"),
            predict=under(CLOSED, OPEN, value=0.0),
            tolerance=0.0,
            null=float(POOLED),
            formula="0",
            source="redis-py documentation, Retries: the connection is opened again",
            headline=CLOSED,
        ),
        Claim(
            "one_command",
            "tax",
            "a request is one command, as before",
            correct.redis_calls("get"),
            predict=under(CLOSED, value=3.0 * POOLED),
            tolerance=0.0,
            formula="30 requests",
            source="a connection is looked at without a command",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("503"),
            "Ten closed connections: {each_once:.0f} failed requests with redis-py 8, with protocol=2 {looked_at:.0f}",
            y_label="requests of 30 that fail",
            conditions=(CLOSED, OLD_CLOSED, OPEN),
            theory=("each_once", "redis_7", "none_closed", "looked_at", "retried"),
        ),
    ),
    answer=(
        "After ten pooled connections were closed {each_once:.0f} of 30 requests fail with redis-py 8 (predicted "
        "{each_once.predicted:.0f}), {looked_at:.0f} with protocol=2 and {redis_7:.0f} with redis-py 7."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, variants=("correct", "with_retry")),
)
