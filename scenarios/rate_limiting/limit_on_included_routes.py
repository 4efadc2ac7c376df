"""What walks over app.routes finds no included route since FastAPI 0.137: slowapi's default limits let N of N requests pass instead of L.

Until 0.136 include_router copied the routes into the application; since 0.137 it adds one entry without path and endpoint that matches for all of
them.  slowapi's middlewares look for the route with an endpoint and limit nothing where there is none; fastapi-limiter reads the path of each
entry and raises AttributeError.  A decorator or a dependency of the route is not concerned.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

with_fastapi_limiter = Arm("with_fastapi_limiter")

LIMIT = 10  # LIMIT in all targets
WINDOW_S = 60  # WINDOW_S in all targets
REQUESTS = 100
OLD = "0.136.3"  # the last release that copied included routes
INCLUDED, BEFORE, DIRECT = (
    "100 requests to an included route",
    f"100 requests to an included route, FastAPI {OLD}",
    "100 requests to a route of the application",
)


class Client(LabUser):
    def journey(self) -> None:
        for _ in range(REQUESTS):
            reply = self.get(str(self.params["path"]), name="read", expect=(200, 429, 500))
            if reply.status == 500:
                self.reconnect()  # uvicorn closes a connection on which a request has raised


class Steady(LabUser):
    """Asks more often than it may: both answers are answers."""

    @task
    def read_quote(self) -> None:
        self.get("/quotes/ACME", name="read", expect=(200, 429))


def asked(
    label: str, path: str, *, fastapi: str = "", variants: tuple[str, ...] = (), control: bool = False
) -> Condition:
    """A hundred requests of one client."""
    return Condition(
        label,
        Journey(1),
        user="Client",
        params={"path": path},
        packages={"fastapi": fastapi, "slowapi": "0.1.10"} if fastapi else {},
        variants=variants,
        control=control,
        quick_pairs=1,
    )


SOURCE = "laurentS/slowapi issue 281; slowapi/middleware.py, _find_route_handler"

SCENARIO = Scenario(
    title="slowapi default_limits do nothing on included routers (FastAPI 0.137 and newer)",
    claim=(
        "With slowapi's default_limits of 10 all 100 requests to an included route pass on FastAPI 0.137 and newer, and 10 on "
        "0.136; with its decorator 10 on both"
    ),
    parts=(4,),
    catalogue_ids=("rl-slowapi-included-routers", "rl-fastapi-limiter-broken"),
    before_after=BeforeAfter(
        each.status_count("200"),
        "requests let through (limit 10)",
        INCLUDED,
        "A client sends 100 requests to a route that was added with include_router.",
    ),
    labels={
        "naive": "slowapi, default_limits",
        "correct": "slowapi, decorator",
        "with_fastapi_limiter": "fastapi-limiter, dependency",
    },
    symptoms=(
        "slowapi not working",
        "slowapi default_limits include_router",
        "SlowAPIMiddleware",
        "rate limit ignored after upgrade",
        "AttributeError: '_IncludedRouter' object has no attribute 'path'",
        "fastapi-limiter 500",
        "Internal Server Error",
        "include_router",
        "_IncludedRouter",
        "app.routes",
    ),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S},
    conditions=(
        asked(INCLUDED, "/quotes/ACME"),
        asked(BEFORE, "/quotes/ACME", fastapi=OLD, variants=("naive", "correct")),
        asked(DIRECT, "/status", variants=("naive", "correct"), control=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}),),
    claims=(
        Claim(
            "all_pass",
            "harm",
            "every request to an included route passes",
            naive.status_count("200"),
            predict=under(INCLUDED, value=float(REQUESTS)),
            tolerance=0.0,
            null=float(LIMIT),
            formula="N = 100",
            source=SOURCE,
        ),
        Claim(
            "not_counted",
            "mechanism",
            "because nobody counts it",
            naive.redis_calls("evalsha"),
            predict=under(INCLUDED, value=0.0),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="0",
            source=SOURCE,
        ),
        Claim(
            "before",
            "mechanism",
            "up to FastAPI 0.136 the same application limits it",
            naive.status_count("200"),
            predict=under(BEFORE, value=float(LIMIT)),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="L = 10",
            source="FastAPI release notes, 0.137: included routes are no longer copied",
        ),
        Claim(
            "direct",
            "mechanism",
            "and a route of the application itself is limited in all versions",
            naive.status_count("200"),
            predict=in_control(float(LIMIT)),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="L = 10",
            source="it stands in app.routes",
        ),
        Claim(
            "all_fail",
            "harm",
            "with fastapi-limiter 0.2 every request fails instead",
            with_fastapi_limiter.status_count("500"),
            predict=under(INCLUDED, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="fastapi_limiter/depends.py: route.path of each entry of app.routes",
        ),
        Claim(
            "decorated",
            "fix",
            "with the decorator the limit holds, whatever the version and wherever the route",
            correct.status_count("200"),
            predict=under(INCLUDED, BEFORE, DIRECT, value=float(LIMIT)),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="L = 10",
            source="slowapi documentation: the decorator wraps the function of the route",
            headline=INCLUDED,
        ),
        Claim(
            "one_command",
            "tax",
            "each request asks Redis once",
            correct.redis_calls("evalsha"),
            predict=under(INCLUDED, value=REQUESTS + 1.0),
            tolerance=0.0,
            null=0.0,
            formula="N + 1: the first one finds no script in Redis yet",
            source="limits, fixed window: one script",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("200"),
            "An included route, limit 10: slowapi's default lets {all_pass:.0f} of 100 pass, its decorator {decorated:.0f}",
            y_label="requests let through",
            conditions=(INCLUDED, BEFORE, DIRECT),
            theory=("all_pass", "before", "direct", "decorated"),
        ),
    ),
    answer=(
        "Of 100 requests to an included route slowapi's default limit of 10 lets {all_pass:.0f} pass (predicted "
        "{all_pass.predicted:.0f}) on this FastAPI and {before:.0f} on 0.136; its decorator lets {decorated:.0f} pass."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0),
)
