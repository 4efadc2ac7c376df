"""The middleware that is added last is the outermost; an answer that is made outside CORSMiddleware has no CORS headers, so no browser shows it.

Starlette's stack from outside to inside: ServerErrorMiddleware (answers 500 for what nobody handles, also where a handler for Exception is
registered), the user's middleware in reverse order of add_middleware, ExceptionMiddleware (turns HTTPException into an answer), the router.
So N of N unhandled errors lack the headers whatever the order, and so does every answer of a middleware that was added after CORS; an HTTPException
raised in a middleware meets no ExceptionMiddleware and becomes a 500.  What a browser would show follows from the Fetch standard: without
Access-Control-Allow-Origin the script gets a TypeError and no status.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, in_duet, under

tempting = Arm("tempting")

ROUNDS = 10
ORIGIN = "https://shop.example"
TOKEN = {"Authorization": "Bearer token-of-ada"}
OTHER, SAME, BUSY = "a page of another origin", "a page of the same origin", "4 users, nothing goes wrong"
KINDS = {
    "ok": ("/account", TOKEN, 200),
    "no_token": ("/account", {}, 401),
    "no_order": ("/orders/101", {}, 404),
    "bug": ("/orders/1/price-per-item?items=0", {}, 500),
}
"""What the page asks for: path, headers, and the status that it would have to see."""


class Browser(LabUser):
    """Does what a browser does with a fetch() of another origin: asks first where it sends a token, and shows only what may be shown."""

    def journey(self) -> None:
        headers = {"Origin": ORIGIN} if self.params["cross_origin"] else {}
        for name in ("preflight", *KINDS):
            self.count(f"blocked_{name}", 0)
            self.count(f"wrong_{name}", 0)
        for _ in range(ROUNDS):
            if headers:
                self.ask_first(headers)
            for name, (path, own, status) in KINDS.items():
                reply = self.get(path, name=name, headers={**headers, **own}, expect=(200, 401, 404, 500))
                self.count(f"wrong_{name}", reply.status != status)
                if headers:
                    self.count(f"blocked_{name}", reply.header("Access-Control-Allow-Origin") != ORIGIN)

    def ask_first(self, headers: dict[str, str]) -> None:
        """The preflight of a request with an Authorization header, which carries none itself."""
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        reply = self.request(
            "OPTIONS", "/account", name="preflight", headers={**headers, **asked}, expect=(200, 204, 400, 401, 500)
        )
        allowed = reply.header("Access-Control-Allow-Origin") == ORIGIN
        self.count("blocked_preflight", not (allowed and 200 <= reply.status < 300))


class Steady(LabUser):
    """Asks with a token, from another origin."""

    @task
    def read(self) -> None:
        reply = self.get("/account", name="ok", headers={"Origin": ORIGIN, **TOKEN})
        self.count("blocked", reply.status == 200 and reply.header("Access-Control-Allow-Origin") != ORIGIN)


def page(label: str, *, cross_origin: bool, control: bool = False) -> Condition:
    """Ten rounds of a page."""
    return Condition(
        label, Journey(1), user="Browser", params={"cross_origin": cross_origin}, control=control, quick_pairs=1
    )


SOURCE = "Starlette's source, Starlette.build_middleware_stack"

SCENARIO = Scenario(
    title="CORS error in the browser that is really a 401 or a 500: the order of middleware",
    claim=(
        "With CORSMiddleware added first, every 401 of a later middleware and every unhandled 500 goes out without CORS headers, "
        "and 10 of 10 preflights fail; added last, with errors caught inside it, all can be read"
    ),
    parts=(1, 15),
    catalogue_ids=("lc-middleware-order", "lc-cors-missing-on-500", "lc-httpexception-in-middleware"),
    before_after=BeforeAfter(
        each.observed("blocked_bug"),
        "answers of 500 (of 10) that a browser calls a CORS error",
        OTHER,
        "A page of another origin meets a bug in a route ten times.",
    ),
    labels={
        "naive": "CORS added first",
        "correct": "CORS added last, errors caught inside",
        "tempting": "CORS last, raise in the middleware",
    },
    symptoms=(
        "blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource",
        "TypeError: Failed to fetch",
        "CORS error on 500",
        "CORS error on 401",
        "CORS preflight 401",
        "middleware order",
        "HTTPException in middleware returns 500",
        "Response to preflight request doesn't pass access control check",
        "exception_handler(Exception) CORS",
        "NetworkError when attempting to fetch resource",
        "CORSMiddleware not working",
    ),
    conditions=(
        page(OTHER, cross_origin=True),
        page(SAME, cross_origin=False, control=True),
        Condition(BUSY, ClosedLoad(4), duration_s=2.0, user="Steady", duet=True, variants=("naive", "correct")),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/orders/101", status=404)),
    claims=(
        Claim(
            "blocked_bug",
            "harm",
            "every unhandled error is a CORS error for the page",
            naive.observed("blocked_bug"),
            predict=under(OTHER, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source=f"{SOURCE}: ServerErrorMiddleware is outside all user middleware",
        ),
        Claim(
            "blocked_401",
            "harm",
            "and so is every 401 of a middleware that was added after CORS",
            naive.observed("blocked_no_token"),
            predict=under(OTHER, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source=f"{SOURCE}: added last is outermost",
        ),
        Claim(
            "preflight",
            "harm",
            "and no preflight gets through, so the page cannot send its token at all",
            naive.observed("blocked_preflight"),
            predict=under(OTHER, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source="Fetch standard, CORS-preflight fetch: it carries no Authorization, and needs a status of 200 to 299",
        ),
        Claim(
            "raised",
            "harm",
            "an HTTPException(401) that is raised in a middleware becomes a 500",
            tempting.observed("wrong_no_token"),
            predict=under(OTHER, SAME, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source=f"{SOURCE}: ExceptionMiddleware is inside all user middleware",
            headline=OTHER,
        ),
        Claim(
            "handler",
            "harm",
            "a handler for Exception answers outside CORSMiddleware too",
            tempting.observed("blocked_bug"),
            predict=under(OTHER, value=float(ROUNDS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source=f"{SOURCE}: the handlers of 500 and Exception are given to ServerErrorMiddleware",
        ),
        Claim(
            "inside",
            "mechanism",
            "what is answered inside CORSMiddleware can be read, a 404 too",
            naive.observed("blocked_no_order"),
            predict=under(OTHER, value=0.0),
            tolerance=0.0,
            null=ROUNDS,
            formula="0",
            source=f"{SOURCE}: ExceptionMiddleware is inside",
        ),
        Claim(
            "same_origin",
            "mechanism",
            "a page of the same origin sees every status",
            naive.observed("wrong_no_token"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="Fetch standard: no CORS check within an origin",
        ),
        Claim(
            "readable",
            "fix",
            "added last, with errors caught inside it, no 500 is blocked",
            correct.observed("blocked_bug"),
            predict=under(OTHER, value=0.0),
            tolerance=0.0,
            null=ROUNDS,
            formula="0",
            source=f"{SOURCE}: CatchErrors was added before CORSMiddleware",
        ),
        Claim(
            "readable_401",
            "fix",
            "no 401 is",
            correct.observed("blocked_no_token"),
            predict=under(OTHER, value=0.0),
            tolerance=0.0,
            null=ROUNDS,
            formula="0",
            source=f"{SOURCE}: added last is outermost",
        ),
        Claim(
            "let_through",
            "fix",
            "and every preflight gets through",
            correct.observed("blocked_preflight"),
            predict=under(OTHER, value=0.0),
            tolerance=0.0,
            null=ROUNDS,
            formula="0",
            source="Starlette's source, CORSMiddleware: it answers a preflight itself",
        ),
        Claim(
            "cpu",
            "tax",
            "the layer that catches errors costs at most a tenth of the CPU of a small request",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            relation="at_most",
            predict=in_duet(1.1),
            tolerance=0.0,
            null=1.0,
            formula="1 + two function calls / a request through BaseHTTPMiddleware",
            source="a pure ASGI middleware adds no task and no copy",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("blocked_bug"),
            "{blocked_bug:.0f} of 10 errors 500 are CORS errors for the page; {readable:.0f} when they are caught inside CORS",
            y_label="answers that the page may not read",
            conditions=(OTHER,),
            theory=("blocked_bug", "handler", "readable"),
        ),
        Chart(
            "counts",
            each.observed("blocked_preflight"),
            "CORS added first: {preflight:.0f} of 10 preflights fail; added last: {let_through:.0f}",
            y_label="preflights that fail",
            conditions=(OTHER,),
            theory=("preflight", "let_through"),
        ),
        Chart(
            "counts",
            each.observed("wrong_no_token"),
            "HTTPException(401) raised in a middleware: {raised:.0f} of 10 become a 500",
            y_label="requests without a token not answered 401",
            conditions=(OTHER, SAME),
            theory=("raised", "same_origin"),
        ),
    ),
    answer=(
        "With CORSMiddleware added first, {blocked_bug:.0f} of 10 unhandled errors (predicted {blocked_bug.predicted:.0f}), "
        "{blocked_401:.0f} of 10 answers of 401 and {preflight:.0f} of 10 preflights are CORS errors for the page. Added last, with "
        "errors caught inside it, {readable:.0f} are."
    ),
    survival=Survival(
        user="Steady", answer_within_s=2.0, recover_within_s=3.0, ledger={"blocked": each.observed("blocked")}
    ),
)
