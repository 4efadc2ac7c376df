"""Each layer gives its failures a shape: HTTPException {"detail": text}, a wrong input {"detail": [errors]}, a bug or a middleware plain text.

A client whose error type says ``detail: str`` (RFC 9457 says so too) reads the first kind and no other.  A wrong input is answered with one
error an item, each with the item itself: n wrong items give n errors, and a missing member is answered with the whole object that lacks it.
"""

import json
import time
from typing import Any

from locust import task

from lab.generator.users import LabUser, Reply
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Stage, StagedLoad, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_duet, under

tempting = Arm("tempting")

MAX_LINES = 1000  # MAX_LINES in the targets
MAX_ERRORS = 20  # MAX_ERRORS in correct
CARD = "4111111111111111"
TOKEN = {"Authorization": "Bearer a-token"}
WRONG = {"card_number": CARD, "lines": [{"product_id": 1, "quantity": 0}]}
PLAIN_404 = '{"detail":"No product 99"}'
NOT_FOUND = '{"title":"Not Found","status":404,"detail":"No product 99","errors":[]}'
TOO_LARGE = json.dumps({"card_number": "4" * 70_000}).encode()

# Which operation of the OpenAPI document a failure belongs to ("" for none), and the request.
REFUSALS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("", "GET", "/nothing-here", {}),  # the router: no such path
    ("", "DELETE", "/quotes", {}),  # the router: no such method
    ("/products/{product_id}", "GET", "/products/99", {}),  # the route's own HTTPException
    ("/quotes", "POST", "/quotes", {"json": WRONG | {"lines": [{"product_id": 1, "quantity": 1}]}}),  # HTTPBearer
)
WRONG_INPUTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("/products/{product_id}", "GET", "/products/one", {}),  # a path parameter
    ("/quotes", "POST", "/quotes", {"json": WRONG, "headers": TOKEN}),  # a member of the body
    (
        "/quotes",
        "POST",
        "/quotes",
        {"body": b"{", "headers": {**TOKEN, "Content-Type": "application/json"}},
    ),  # not JSON
)
TEXTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("/products/{product_id}/price-per-bag", "GET", "/products/2/price-per-bag", {}),  # a bug: a division by zero
    ("/products/{product_id}", "GET", "/products/3", {}),  # a bug: the answer does not fit the response model
    (
        "/products/{product_id}",
        "GET",
        "/products/1",
        {"headers": {"Host": "elsewhere.example"}},
    ),  # TrustedHostMiddleware
    (
        "/quotes",
        "POST",
        "/quotes",
        {"body": TOO_LARGE, "headers": {**TOKEN, "Content-Type": "application/json"}},
    ),  # max_body_size
)
KINDS = {
    "refusals": REFUSALS,
    "every failure": REFUSALS + WRONG_INPUTS + TEXTS,
    "no request": (("", "BREW", "/quotes", {}),),
}


def media_type(reply: Reply) -> str:
    """The content type without its parameters."""
    return reply.header("content-type").partition(";")[0]


def detail_type(reply: Reply) -> str:
    """What a client finds under ``detail``: the name of its type, ``missing``, or ``text`` where the body is not JSON."""
    try:
        return type(reply.json()["detail"]).__name__
    except ValueError:
        return "text"
    except (KeyError, TypeError):
        return "missing"


class TypedClient(LabUser):
    """Makes each failure happen once and reads the answer with ``detail: str``, as a typed front end does."""

    def journey(self) -> None:
        paths = self.get("/openapi.json", name="contract").json()["paths"]
        seen: set[tuple[str, str]] = set()
        for name in ("failures", "unreadable", "undocumented"):
            self.count(name, 0)
        for operation, method, path, options in KINDS[str(self.params["kinds"])]:
            self.reconnect()  # uvicorn 0.54 closes the connection after an unhandled exception without saying so in the answer
            reply = self.request(method, path, name="failure", **options)
            self.count("failures", 400 <= reply.status < 600)
            self.count("unreadable", detail_type(reply) != "str")
            seen.add((media_type(reply), detail_type(reply)))
            if operation:
                documented = paths[operation][method.lower()]["responses"]
                answer = documented.get(str(reply.status), documented.get("default", {}))
                self.count("undocumented", media_type(reply) not in answer.get("content", {}))
            if path == "/products/99":
                self.count("not_found_bytes", len(reply.body))
        self.count("shapes", len(seen))


class OwnAnswer(LabUser):
    """Asks an application that is mounted under this one and has other error bodies."""

    def journey(self) -> None:
        reply = self.get("/v1/quotes", name="mounted", expect=(410,))
        self.count(
            "kept", (reply.status, media_type(reply), reply.body) == (410, "text/plain", b"This version is gone")
        )


class Reader(LabUser):
    """Reads a product: what the remedy costs where nothing goes wrong."""

    @task
    def read_product(self) -> None:
        self.get("/products/1", name="product")


class Steady(LabUser):
    """Reads a product and makes two mistakes; every error that arrives must be readable."""

    @task
    def browse(self) -> None:
        time.sleep(0.02)
        self.get("/products/1", name="product")
        for path, status in (("/products/99", 404), ("/products/one", 422)):
            reply = self.get(path, name="mistake", expect=(status,))
            self.count("unreadable", reply.status >= 400 and detail_type(reply) != "str")


class WrongItems(LabUser):
    """Sends one body with ``items`` wrong items and a misspelt member that carries a card number."""

    def journey(self) -> None:
        body = wrong_body(int(self.params["items"]))
        reply = self.post(
            "/quotes", name="wrong items", body=body, headers={**TOKEN, "Content-Type": "application/json"}
        )
        answer = reply.json()
        errors = answer["errors"] if "errors" in answer else answer["detail"]
        self.count("errors", len(errors))
        self.count("answer_bytes", len(reply.body))
        self.count("amplification", len(reply.body) / len(body))
        self.count("card_numbers", reply.body.count(CARD.encode()))


def wrong_body(items: int) -> bytes:
    """The body with ``items`` items that are numbers instead of objects; ``cardNumber`` should be ``card_number``."""
    return json.dumps({"cardNumber": CARD, "lines": [0] * items}, separators=(",", ":")).encode()


def echoed_bytes(items: int) -> int:
    """FastAPI's 422 as documented: type, loc, msg and input of each error; the missing member's input is the whole body."""
    message = "Input should be a valid dictionary or object to extract fields from"
    missing = {
        "type": "missing",
        "loc": ["body", "card_number"],
        "msg": "Field required",
        "input": json.loads(wrong_body(items)),
    }
    wrong = [
        {"type": "model_attributes_type", "loc": ["body", "lines", n], "msg": message, "input": 0} for n in range(items)
    ]
    return len(json.dumps({"detail": [missing, *wrong]}, separators=(",", ":")))


def failures(label: str, kinds: str, *, variants: tuple[str, ...] = (), control: bool = False) -> Condition:
    """One client that meets each failure of a group once."""
    return Condition(
        label, Journey(), user="TypedClient", params={"kinds": kinds}, variants=variants, quick_pairs=1, control=control
    )


def wrong_items(count: int, *, quick: bool = True) -> Condition:
    """One body with ``count`` wrong items."""
    return Condition(
        f"{count} wrong items", Journey(), user="WrongItems", params={"items": count}, quick_pairs=1, quick=quick
    )


def for_kinds(condition: Condition, refusals: float, every: float, no_request: float | None = None) -> float | None:
    """The number that belongs to the condition's group of failures; None for the wrong items."""
    by_kind = {"refusals": refusals, "every failure": every, "no request": no_request}
    return by_kind.get(str(condition.params.get("kinds")))


def for_items(condition: Condition, value: float) -> float | None:
    """``value`` where a body with wrong items is sent."""
    return value if "items" in condition.params else None


def items(condition: Condition) -> int:
    """How many wrong items are sent; 0 elsewhere."""
    return int(condition.params.get("items", 0))


SHAPES = "fastapi/exception_handlers.py, starlette/middleware/errors.py and body_limit.py of the versions that run"
ECHO = "Pydantic documentation, Error handling: all errors are collected, each with its input"

SCENARIO = Scenario(
    title="Inconsistent error responses",
    claim=(
        "Eleven kinds of failure come back in 3 shapes, and a client that expects detail: str cannot read 7 of them; "
        "with one problem type, 0"
    ),
    parts=(3,),
    catalogue_ids=("err-shapes", "err-422-echo"),
    constants={"MAX_LINES": MAX_LINES, "MAX_ERRORS": MAX_ERRORS},
    contract_differs="the errors are part of the contract: FastAPI documents the 422 alone, correct its one problem",
    before_after=BeforeAfter(
        each.observed("unreadable"),
        "of 11 errors that a client cannot read",
        "every failure",
        "A client that expects `detail` to be text meets eleven kinds of failure.",
    ),
    labels={
        "naive": "FastAPI's defaults",
        "correct": "one RFC 9457 problem",
        "tempting": "handlers for FastAPI's exceptions",
    },
    symptoms=(
        "[object Object]",
        "detail is a list",
        "422 Unprocessable Entity",
        "422 Unprocessable Content",
        "Internal Server Error",
        "Internal Server Error is not valid JSON",
        "application/problem+json",
        "RFC 7807",
        "RFC 9457",
        "error format",
        "exception_handler not called for 404",
        "password in validation error",
        "Field required",
    ),
    conditions=(
        failures("refusals only", "refusals", control=True),
        failures("every failure", "every failure"),
        failures("not an HTTP request", "no request", variants=("naive", "correct")),
        Condition("mounted application", Journey(), user="OwnAnswer", variants=("naive", "correct"), quick_pairs=1),
        wrong_items(1, quick=False),
        wrong_items(10),
        wrong_items(100, quick=False),
        wrong_items(1000),
        Condition(
            "three rates",
            StagedLoad(tuple(Stage(rate, 1.0) for rate in (50.0, 300.0, 550.0)), connections=8),
            user="Reader",
            params={"rate": 300},
            variants=("naive", "correct"),
            duet=True,
        ),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"unreadable": each.observed("unreadable")},
        variants=("correct",),
    ),
    probes=(
        Probe("/products/1", body={"name": "Green tea", "price_cents": 450}),
        Probe(
            "/quotes",
            "POST",
            headers=TOKEN,
            json={"card_number": CARD, "lines": [{"product_id": 1, "quantity": 2}]},
            body={"total_cents": 900},
        ),
        Probe("/products/99", status=404),
    ),
    claims=(
        Claim(
            "shapes",
            "harm",
            "eleven kinds of failure come back in three shapes",
            naive.observed("shapes"),
            predict=lambda c: for_kinds(c, 1, 3),
            tolerance=0.0,
            formula="JSON with a text, JSON with a list, plain text",
            source=SHAPES,
            headline="every failure",
        ),
        Claim(
            "unreadable",
            "harm",
            "a client that expects detail: str cannot read seven of eleven",
            naive.observed("unreadable"),
            predict=lambda c: for_kinds(c, 0, len(WRONG_INPUTS) + len(TEXTS)),
            tolerance=0.0,
            formula="3 wrong inputs + 2 bugs + 1 middleware + 1 body limit",
            source=SHAPES,
            headline="every failure",
        ),
        Claim(
            "card_numbers",
            "harm",
            "the answer to a misspelt field repeats the card number that was sent",
            naive.observed("card_numbers"),
            predict=lambda c: for_items(c, 1),
            tolerance=0.0,
            formula="1: the input of a missing member is the object that lacks it",
            source=ECHO,
            headline="10 wrong items",
        ),
        Claim(
            "amplification",
            "harm",
            "a body of wrong items is answered with many times its bytes",
            naive.observed("amplification"),
            predict=lambda c: for_items(c, echoed_bytes(items(c)) / len(wrong_body(items(c)))),
            tolerance=0.02,
            formula="(n errors of type, loc, msg, input + the body) / bytes of the body",
            source=ECHO,
            headline="1000 wrong items",
        ),
        Claim(
            "errors",
            "mechanism",
            "1000 wrong items and a missing field are 1001 errors",
            naive.observed("errors"),
            predict=lambda c: for_items(c, items(c) + 1),
            tolerance=0.0,
            formula="items + 1",
            source=ECHO,
            headline="1000 wrong items",
        ),
        Claim(
            "undocumented",
            "mechanism",
            "six of nine failures are not in the OpenAPI document",
            naive.observed("undocumented"),
            predict=lambda c: for_kinds(c, 2, 6),
            tolerance=0.0,
            formula="all but the 3 wrong inputs: FastAPI documents the 422 alone",
            source="fastapi/openapi/utils.py: only the 422 is added to a route's responses",
            headline="every failure",
        ),
        Claim(
            "happened",
            "mechanism",
            "each of the eleven requests failed",
            naive.observed("failures"),
            predict=lambda c: for_kinds(c, len(REFUSALS), len(KINDS["every failure"]), 1),
            tolerance=0.0,
            formula="one each",
            source="counted by status",
            headline="every failure",
        ),
        Claim(
            "tempting_shapes",
            "mechanism",
            "handlers for the exceptions that FastAPI exports leave three shapes",
            tempting.observed("shapes"),
            predict=lambda c: for_kinds(c, 2, 3),
            tolerance=0.0,
            formula="the problem, the router's JSON, the middleware's text",
            source=(
                "the router raises Starlette's HTTPException, the parent of FastAPI's (FastAPI documentation, "
                "Handling Errors)"
            ),
            headline="every failure",
        ),
        Claim(
            "tempting_unreadable",
            "mechanism",
            "and the client cannot read two failures",
            tempting.observed("unreadable"),
            predict=lambda c: for_kinds(c, 0, 2),
            tolerance=0.0,
            formula="1 middleware + 1 body limit",
            source=SHAPES,
            headline="every failure",
        ),
        Claim(
            "one_shape",
            "fix",
            "all eleven come back in one shape",
            correct.observed("shapes"),
            predict=lambda c: for_kinds(c, 1, 1),
            tolerance=0.0,
            formula="1",
            source="RFC 9457",
            headline="every failure",
        ),
        Claim(
            "readable",
            "fix",
            "the client reads all of them",
            correct.observed("unreadable"),
            predict=lambda c: for_kinds(c, 0, 0),
            tolerance=0.0,
            formula="0",
            source="RFC 9457: detail is a string",
            headline="every failure",
        ),
        Claim(
            "documented",
            "fix",
            "and each is in the OpenAPI document",
            correct.observed("undocumented"),
            predict=lambda c: for_kinds(c, 0, 0),
            tolerance=0.0,
            formula="0",
            source="a documented default response stands for all others",
            headline="every failure",
        ),
        Claim(
            "no_card",
            "fix",
            "the card number is not in the answer",
            correct.observed("card_numbers"),
            predict=lambda c: for_items(c, 0),
            tolerance=0.0,
            formula="0",
            source="input, ctx and msg are left out",
            headline="10 wrong items",
        ),
        Claim(
            "bounded",
            "fix",
            "the answer does not grow with the number of mistakes",
            correct.observed("answer_bytes"),
            relation="at_most",
            predict=lambda c: for_items(c, 4096),
            tolerance=0.0,
            formula=f"{MAX_ERRORS} errors of at most 200 bytes",
            source="the code's setting MAX_ERRORS",
            headline="1000 wrong items",
        ),
        Claim(
            "server_text",
            "tax",
            "what is not an HTTP request does not reach the app: the server answers text",
            correct.observed("unreadable"),
            predict=lambda c: for_kinds(c, 0, 0, 1) if c.params.get("kinds") == "no request" else None,
            tolerance=0.0,
            formula="1",
            source="uvicorn/protocols/http/httptools_impl.py: a parser error is answered there",
        ),
        Claim(
            "problem_bytes",
            "tax",
            "a problem is longer than FastAPI's own 404",
            correct.observed("not_found_bytes") / naive.observed("not_found_bytes"),
            predict=lambda c: for_kinds(c, len(NOT_FOUND) / len(PLAIN_404), len(NOT_FOUND) / len(PLAIN_404)),
            tolerance=0.01,
            null=1.0,
            formula="bytes of title, status, detail and errors / bytes of detail alone",
            source="RFC 9457, section 3.1: members of a problem",
            headline="every failure",
        ),
        Claim(
            "own_kept",
            "fix",
            "an error body that a mounted application wrote passes unchanged",
            correct.observed("kept"),
            predict=under("mounted application", value=1.0),
            tolerance=0.0,
            formula="1",
            source="the middleware rewrites only what was refused before a route was asked",
        ),
        Claim(
            "cpu",
            "tax",
            "the middleware costs little where nothing fails",
            correct.cpu_marginal_s_per_request("server") / naive.cpu_marginal_s_per_request("server"),
            relation="at_most",
            predict=in_duet(1.1),
            tolerance=0.1,
            formula="(the request + one more ASGI layer) / the request",
            source="counted from the code: three more Python calls, of hundreds for a request",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("shapes"),
            (
                "{happened:.0f} kinds of failure: {shapes:.0f} shapes by default, {tempting_shapes:.0f} with the "
                "usual handlers, {one_shape:.0f} with problems"
            ),
            y_label="shapes of an error",
            conditions=("refusals only", "every failure"),
            theory=("shapes", "tempting_shapes", "one_shape"),
        ),
        Chart(
            "counts",
            each.observed("unreadable"),
            "A client that expects detail: str cannot read {unreadable:.0f} of {happened:.0f} failures",
            y_label="failures that the client cannot read",
            conditions=("refusals only", "every failure"),
            theory=("unreadable", "tempting_unreadable", "readable"),
        ),
        Chart(
            "sweep",
            each.observed("amplification"),
            "The default 422 sends back {amplification:.0f} times the bytes of the request",
            x="items",
            x_label="wrong items in the body",
            y_label="bytes of the answer / bytes of the body",
            log_x=True,
            theory=("amplification",),
        ),
    ),
    answer=(
        "{happened:.0f} kinds of failure come back in {shapes:.0f} shapes, and a client that expects detail: str "
        "cannot read {unreadable:.0f} of them. Handlers for Starlette's exception, for wrong input and for bugs, "
        "with a small middleware, give {one_shape:.0f} shape. The default 422 answers 1000 wrong items with "
        "{amplification:.0f} times their bytes and repeats a card number that was sent under a wrong name."
    ),
    disagrees_with_source=(
        "The source says that inconsistent error shapes hurt every front end, which holds. Exception handlers alone "
        "do not end them: a middleware that refuses raises no exception, and max_body_size replaces what a handler "
        "answered by its own text."
    ),
)
