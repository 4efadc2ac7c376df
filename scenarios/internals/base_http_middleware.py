"""What a layer costs: BaseHTTPMiddleware runs what is below in a task and carries its answer over a stream; an ASGI middleware is a call.

Read in starlette.middleware.base: call_next starts one task for each layer, m tasks for m layers.  Reading a body goes through all layers again, and
each piece starts a task in each layer: a small body is one piece, so 2 m for a POST.  The task has a copy of the context: a ContextVar that is
set below is not seen above.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, in_duet, under

REQUESTS = 20
LAYERS = 5  # HEADERS in all targets
GET_5, GET_1, POST_5, NONE, BUSY = (
    "20 GET, 5 layers",
    "20 GET, 1 layer",
    "20 POST with a body, 5 layers",
    "20 GET, no layer",
    "2 users, 5 layers, side by side",
)


class Counter(LabUser):
    """Reads how many tasks each request has started, and whether the outer layer knows for whom it was."""

    def journey(self) -> None:
        self.count("unnamed", 0)
        for _ in range(REQUESTS):
            if self.params["post"]:
                reply = self.post("/basket?name=grace", name="basket", json={"sku": "SKU-1"})
            else:
                reply = self.get("/basket?name=grace", name="basket")
            self.count("tasks", int(reply.header("x-lab-tasks") or 0))
            self.count("unnamed", reply.header("x-customer") == "nobody")


class Reader(LabUser):
    @task
    def read(self) -> None:
        self.get("/basket", name="basket")


def counted(label: str, layers: int, *, post: bool = False, control: bool = False) -> Condition:
    """Twenty requests through so many layers, with the tasks counted."""
    return Condition(
        label,
        Journey(1),
        user="Counter",
        env={"LAYERS": str(layers)},
        params={"layers": layers, "post": post},
        observers=("tasks",),
        control=control,
        quick_pairs=1,
    )


SOURCE = "Starlette's source, middleware/base.py, BaseHTTPMiddleware.__call__"

SCENARIO = Scenario(
    title="BaseHTTPMiddleware (@app.middleware): a task for every layer, and ContextVars that do not come back",
    claim=(
        "Five layers of @app.middleware start 5 tasks for a GET and 10 for a POST, and see no ContextVar that the route has set; as "
        "ASGI middleware 0, and they see it"
    ),
    parts=(15,),
    catalogue_ids=("fi-basehttp",),
    before_after=BeforeAfter(
        each.observed("tasks"),
        "tasks started for 20 POST",
        POST_5,
        "Twenty POST with a small body go through five layers of middleware, each of which adds a header.",
    ),
    labels={"naive": '@app.middleware("http")', "correct": "ASGI middleware"},
    symptoms=(
        "BaseHTTPMiddleware slow",
        "app.middleware slow",
        "add_middleware performance",
        "ContextVar not set in middleware",
        "contextvars FastAPI middleware",
        "structlog context lost",
        "RuntimeError: No response returned.",
        "anyio.EndOfStream",
        "Caught handled exception, but response already started",
        "pure ASGI middleware",
        "call_next",
    ),
    conditions=(
        counted(GET_5, LAYERS),
        counted(GET_1, 1),
        counted(POST_5, LAYERS, post=True),
        counted(NONE, 0, control=True),
        Condition(BUSY, ClosedLoad(2), duration_s=3.0, user="Reader", env={"LAYERS": str(LAYERS)}, duet=True),
    ),
    probes=(
        Probe("/basket?name=grace", body={"customer": "grace", "items": 3}),
        Probe("/basket", method="POST", json={"sku": ""}, status=422),
    ),
    claims=(
        Claim(
            "tasks",
            "harm",
            "each layer starts a task for each request",
            naive.observed("tasks"),
            predict=under(GET_5, GET_1, value=lambda c: REQUESTS * c.number("layers")),
            tolerance=0.0,
            null=0.0,
            formula="N m",
            source=SOURCE,
            headline=GET_5,
        ),
        Claim(
            "body_tasks",
            "harm",
            "and one more where a body is read",
            naive.observed("tasks"),
            predict=under(POST_5, value=2.0 * REQUESTS * LAYERS),
            tolerance=0.0,
            null=0.0,
            formula="2 N m: the layer, and the body in one piece",
            source=SOURCE,
        ),
        Claim(
            "unnamed",
            "harm",
            "what the route sets in its context no layer sees",
            naive.observed("unnamed"),
            predict=under(GET_5, GET_1, POST_5, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source="Starlette documentation, Middleware, Limitations: changes to ContextVars do not propagate upwards",
            headline=GET_5,
        ),
        Claim(
            "no_layer",
            "mechanism",
            "without a layer no task is started",
            naive.observed("tasks"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="0",
            source="an async route is a call",
        ),
        Claim(
            "calls",
            "fix",
            "as ASGI middleware no layer starts one",
            correct.observed("tasks"),
            predict=under(GET_5, GET_1, POST_5, value=0.0),
            tolerance=0.0,
            null=float(REQUESTS * LAYERS),
            formula="0",
            source="ASGI: an application that calls an application",
            headline=POST_5,
        ),
        Claim(
            "named",
            "fix",
            "and all see what the route has set",
            correct.observed("unnamed"),
            predict=under(GET_5, GET_1, POST_5, value=0.0),
            tolerance=0.0,
            null=float(REQUESTS),
            formula="0",
            source="the same task, so the same context",
            headline=GET_5,
        ),
        Claim(
            "cpu",
            "tax",
            "it takes less than half of the CPU",
            correct.cpu_s_per_request / naive.cpu_s_per_request,
            relation="at_most",
            predict=in_duet(0.5),
            tolerance=0.1,
            null=1.0,
            formula="at most 0.5: 13 callbacks of the loop for each layer against none",
            source="counted with asyncio's loop: 10 callbacks with 1 layer, 62 with 5",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("tasks"),
            "Five layers of @app.middleware: {tasks:.0f} tasks for 20 GET, {body_tasks:.0f} for 20 POST; as ASGI {calls:.0f}",
            y_label="tasks started for 20 requests",
            conditions=(GET_5, POST_5, GET_1, NONE),
            theory=("tasks", "body_tasks", "calls", "no_layer"),
        ),
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "As ASGI middleware a request takes {cpu:.2f} of the CPU",
            conditions=(BUSY,),
        ),
    ),
    answer=(
        "Five layers of @app.middleware start {tasks:.0f} tasks for 20 GET (predicted {tasks.predicted:.0f}) and {body_tasks:.0f} for 20 POST; "
        "as ASGI middleware {calls:.0f}, with {cpu:.2f} of the CPU."
    ),
    survival=Survival(user="Reader", answer_within_s=2.5, recover_within_s=3.0),
)
