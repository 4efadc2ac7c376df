"""The price of a 422: FastAPI solves all dependencies first and validates the body last, so a body that breaks the model costs what they cost.

Read in fastapi.dependencies.utils.solve_dependencies: the loop over the dependencies comes first, request_body_to_args at its end.  The body has
been read and parsed before that (fastapi.routing.get_request_handler), so what is no JSON at all costs nothing: no query, and no 401 either.
Called by the route instead, the same functions run after the validation.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

body_first = Arm("body_first")

REQUESTS = 20
DAY_S = 86_400  # DAY_S in all targets
VALID = b'{"title": "Sales", "rows": 10}'
BODIES = {
    "valid": VALID,
    "breaks the model": b'{"title": "Sales", "rows": "many"}',
    "no JSON": b'{"title": "Sales", "rows": 10',
}
MODEL, NO_JSON, UNKNOWN, RIGHT = (
    "20 bodies that break the model",
    "20 bodies that are no JSON",
    "20 with an unknown token that break the model",
    "20 valid bodies",
)


class Sender(LabUser):
    """Sends the same body again and again."""

    def journey(self) -> None:
        token = "nobodys" if self.params["unknown"] else "token-1"
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        for _ in range(REQUESTS):
            body = BODIES[str(self.params["body"])]
            self.post("/reports", name="report", body=body, headers=headers, expect=(201, 401, 422))


class Steady(LabUser):
    """Sends valid reports."""

    @task
    def report(self) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer token-{1 + self.number}"}
        self.post("/reports", name="report", body=VALID, headers=headers)


def sent(label: str, body: str, *, unknown: bool = False, control: bool = False) -> Condition:
    """Twenty requests with such a body."""
    return Condition(
        label,
        Journey(1),
        user="Sender",
        params={"body": body, "unknown": unknown},
        control=control,
        quick_pairs=1,
    )


SOURCE = "FastAPI's source, solve_dependencies: the dependencies in a loop, the body after it"

SCENARIO = Scenario(
    title="422 that costs queries: FastAPI validates the body after the dependencies",
    claim=(
        "Twenty bodies that break their model cost 40 queries and 20 of the user's quota, because the body is validated after all "
        "dependencies; called by the route, 20 queries and none of the quota"
    ),
    parts=(1,),
    catalogue_ids=("lc-body-before-deps",),
    before_after=BeforeAfter(
        each.redis_calls("incrby"),
        "of the quota used by 20 wrong bodies",
        MODEL,
        "A client sends twenty reports whose body breaks the model; each is answered 422.",
    ),
    labels={
        "naive": "quota as a dependency",
        "correct": "quota called by the route",
        "body_first": "dependencies that need the body",
    },
    symptoms=(
        "422 Unprocessable Entity",
        "validation error but database queried",
        "dependency runs before body validation",
        "rate limit counts invalid requests",
        "quota used by failed requests",
        "order of dependencies",
        "solve_dependencies",
        "401 or 422",
        "There was an error parsing the body",
        "JSON decode error",
    ),
    services=("postgres", "redis"),
    constants={"DAY_S": DAY_S},
    queries={"user": "SELECT id FROM users%", "quota": "SELECT p.reports_per_day%", "report": "INSERT INTO reports%"},
    conditions=(
        sent(MODEL, "breaks the model"),
        sent(NO_JSON, "no JSON"),
        sent(UNKNOWN, "breaks the model", unknown=True),
        sent(RIGHT, "valid", control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/reports", method="POST", status=401, json={"title": "x", "rows": 1}),
    ),
    claims=(
        Claim(
            "quota_used",
            "harm",
            "each wrong body is counted, what is no JSON is not",
            naive.redis_calls("incrby"),
            predict=under(MODEL, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source=SOURCE,
            headline=MODEL,
        ),
        Claim(
            "quota_query",
            "harm",
            "and costs the query for the quota",
            naive.sql_calls("quota"),
            predict=under(MODEL, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source=SOURCE,
            headline=MODEL,
        ),
        Claim(
            "refused",
            "mechanism",
            "all of them are answered 422, after that",
            naive.status_count("422"),
            predict=under(MODEL, NO_JSON, value=float(REQUESTS)),
            tolerance=0.0,
            formula="N = 20",
            source="FastAPI documentation, Handling Errors",
            headline=MODEL,
        ),
        Claim(
            "no_json",
            "mechanism",
            "what is no JSON costs no query at all: it is parsed before the dependencies",
            naive.sql_calls("user"),
            predict=under(NO_JSON, value=0.0),
            tolerance=0.0,
            null=REQUESTS,
            formula="0",
            source="FastAPI's source, get_request_handler: body = await request.json() comes before solve_dependencies",
        ),
        Claim(
            "who",
            "mechanism",
            "who asks is looked up before the body is validated",
            naive.status_count("401"),
            predict=under(UNKNOWN, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source=SOURCE,
        ),
        Claim(
            "counted",
            "mechanism",
            "a valid body is counted once, whoever counts",
            correct.redis_calls("incrby"),
            predict=in_control(float(REQUESTS)),
            tolerance=0.0,
            formula="N = 20",
            source="one INCR for each report, which redis-py sends as INCRBY 1",
        ),
        Claim(
            "not_counted",
            "fix",
            "called by the route, a wrong body counts nothing",
            correct.redis_calls("incrby"),
            predict=under(MODEL, NO_JSON, UNKNOWN, value=0.0),
            tolerance=0.0,
            null=REQUESTS,
            formula="0",
            source="the route runs when the body is valid",
            headline=MODEL,
        ),
        Claim(
            "no_quota_query",
            "fix",
            "and asks for no quota",
            correct.sql_calls("quota"),
            predict=under(MODEL, value=0.0),
            tolerance=0.0,
            null=REQUESTS,
            formula="0",
            source="the route runs when the body is valid",
        ),
        Claim(
            "still_asked",
            "tax",
            "who asks is still one query: a 401 must come before a 422",
            correct.sql_calls("user"),
            predict=under(MODEL, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source="it is still a dependency",
        ),
        Claim(
            "nothing_paid",
            "fix",
            "dependencies that need the body cost nothing for a wrong one",
            body_first.sql_calls("user"),
            predict=under(MODEL, value=0.0),
            tolerance=0.0,
            null=REQUESTS,
            formula="0",
            source="FastAPI's source, solve_dependencies: a dependency with errors below it is not called",
        ),
        Claim(
            "told_instead",
            "tax",
            "and tell whoever makes up a token what is wrong with the body, instead of 401",
            body_first.status_count("422"),
            predict=under(UNKNOWN, value=float(REQUESTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 20",
            source="the errors of the body come before the user",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.redis_calls("incrby"),
            "Twenty wrong bodies use {quota_used:.0f} of the quota as a dependency, {not_counted:.0f} when the route counts",
            y_label="of the quota used",
            conditions=(MODEL, NO_JSON, UNKNOWN, RIGHT),
            theory=("quota_used", "not_counted", "counted"),
        ),
        Chart(
            "counts",
            each.sql_calls("user"),
            "What is no JSON costs {no_json:.0f} queries; who sends a wrong body is looked up {still_asked:.0f} times",
            y_label="queries for the user",
            conditions=(MODEL, NO_JSON),
            theory=("still_asked", "no_json", "nothing_paid"),
        ),
    ),
    answer=(
        "Twenty bodies that break the model use {quota_used:.0f} of the quota (predicted {quota_used.predicted:.0f}) when the "
        "quota is a dependency, and {not_counted:.0f} when the route counts. What is no JSON costs nothing in both."
    ),
    survival=Survival(user="Steady", answer_within_s=4.5, recover_within_s=3.0, variants=("correct", "body_first")),
)
