"""What a route says about its answer decides who writes the JSON: Pydantic at once in Rust, or jsonable_encoder value by value in Python.

Read in FastAPI 0.165, routing.py and encoders.py: with a response model and the default response class the answer is ``serialize_json``; without a
model jsonable_encoder calls itself for the list, for each model and its dict, and for each key and value, and json.dumps does the rest.
Starlette alone, with the same writer, shows what FastAPI itself costs.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting, starlette = Arm("tempting"), Arm("starlette")

MANY, REQUESTS = 200, 10
FIELDS, TAGS = 5, 2  # of a Product in all targets
CALLS_EACH = 2 + 2 * FIELDS + TAGS  # the model, its dict, each key and each value, each tag
COUNTED, LARGE, SMALL = "200 products, calls counted", "200 products, side by side", "1 product, side by side"
NONE = "1 product, calls counted"


class Counter(LabUser):
    """Reads how many calls of jsonable_encoder each request took."""

    def journey(self) -> None:
        for _ in range(REQUESTS):
            reply = self.get(f"/products?limit={self.params['products']}", name="products")
            self.count("calls", int(reply.header("x-lab-encoder-calls") or 0))
            self.count("bytes", len(reply.body))


class Reader(LabUser):
    @task
    def read(self) -> None:
        self.get(f"/products?limit={self.params.get('products', 20)}", name="products")


def counted(label: str, products: int, *, control: bool = False) -> Condition:
    """Ten requests, with the calls counted.  Starlette alone has no such encoder."""
    return Condition(
        label,
        Journey(1),
        user="Counter",
        params={"products": products},
        observers=("encoder_calls",),
        variants=("naive", "correct", "tempting"),
        control=control,
        quick_pairs=1,
    )


def side_by_side(label: str, products: int) -> Condition:
    """Two users of each variant, in the same seconds."""
    return Condition(label, ClosedLoad(2), duration_s=4.0, user="Reader", params={"products": products}, duet=True)


SOURCE = "FastAPI's source, encoders.py: it calls itself for each key and each value"

SCENARIO = Scenario(
    title="Slow JSON responses: without a response model FastAPI encodes every value in Python",
    claim=(
        "A route without a response model calls jsonable_encoder 2,801 times for 200 products; with a return type it is called 0 times, "
        "and the request takes less than half of the CPU"
    ),
    parts=(15,),
    catalogue_ids=("fi-response-model-fastpath", "fi-orjson-backfires", "fi-starlette-overhead", "tcp-raw-asgi-floor"),
    before_after=BeforeAfter(
        each.observed("calls"),
        "calls of jsonable_encoder for 10 requests",
        COUNTED,
        "A route answers with 200 products of five fields each.",
    ),
    labels={
        "naive": "response_model=None",
        "correct": "a return type",
        "tempting": "a JSONResponse of one's own",
        "starlette": "Starlette alone",
    },
    symptoms=(
        "jsonable_encoder slow",
        "FastAPI slow JSON response",
        "serialize_response slow",
        "ORJSONResponse is deprecated",
        "FastAPIDeprecationWarning: ORJSONResponse is deprecated",
        "UJSONResponse",
        "default_response_class",
        "response_model=None",
        "response_model performance",
        "FastAPI vs Starlette overhead",
    ),
    conditions=(
        counted(COUNTED, MANY),
        side_by_side(LARGE, MANY),
        side_by_side(SMALL, 1),
        counted(NONE, 1, control=True),
    ),
    probes=(
        Probe(
            "/products?limit=1",
            body=[{"id": 1, "name": "Product 1", "price_cents": 100, "in_stock": True, "tags": ["garden", "tools"]}],
        ),
        Probe("/products?limit=0", status=422),
    ),
    contract_differs="naive's document does not say what is answered, and Starlette has none",
    claims=(
        Claim(
            "calls",
            "harm",
            "without a response model every value is encoded in Python",
            naive.observed("calls"),
            predict=under(COUNTED, value=REQUESTS * (1.0 + MANY * CALLS_EACH)),
            tolerance=0.0,
            null=0.0,
            formula="10 (1 + n (2 + 2 f + t)): n = 200 products, f = 5 fields, t = 2 tags",
            source=SOURCE,
        ),
        Claim(
            "one",
            "mechanism",
            "with one product they are few",
            naive.observed("calls"),
            predict=in_control(REQUESTS * (1.0 + CALLS_EACH)),
            tolerance=0.0,
            formula="10 (1 + 2 + 2 f + t)",
            source=SOURCE,
        ),
        Claim(
            "no_calls",
            "fix",
            "with a return type none is",
            correct.observed("calls"),
            predict=under(COUNTED, NONE, value=0.0),
            tolerance=0.0,
            null=REQUESTS * (1.0 + MANY * CALLS_EACH),
            formula="0: Pydantic writes the bytes",
            source="FastAPI's source, routing.py: use_dump_json",
            headline=COUNTED,
        ),
        Claim(
            "cpu",
            "fix",
            "a request takes less than half of the CPU",
            correct.cpu_s_per_request / naive.cpu_s_per_request,
            relation="at_most",
            predict=under(LARGE, value=0.5),
            tolerance=0.1,
            null=1.0,
            formula="at most 1 / 2",
            source="FastAPI 0.130.0, release notes: twice as fast or more",
        ),
        Claim(
            "own_response",
            "harm",
            "a JSONResponse of one's own takes more than a return type",
            tempting.cpu_s_per_request / correct.cpu_s_per_request,
            relation="at_least",
            predict=under(LARGE, value=1.3),
            tolerance=0.1,
            null=1.0,
            formula="at least 1.3: the data is built once as Python objects and once as text",
            source="fastapi/fastapi, pull request 14962: three to four times for the encoding alone",
        ),
        Claim(
            "over_starlette",
            "tax",
            "FastAPI takes more CPU than Starlette alone for a small answer",
            correct.cpu_s_per_request / starlette.cpu_s_per_request,
            predict=under(SMALL, value=1.4),
            tolerance=0.2,
            null=1.0,
            formula="(100 + 40) / 100: 20 to 60 us for solving dependencies and validating, on a request of 100 us",
            source="catalogue row fi-starlette-overhead; TechEmpower's rounds show the same order",
        ),
        Claim(
            "same_bytes",
            "tax",
            "the answer is the same, byte by byte",
            correct.observed("bytes") / naive.observed("bytes"),
            predict=under(COUNTED, NONE, value=1.0),
            tolerance=0.0,
            formula="1",
            source="both write compact JSON; only datetimes end in Z instead of +00:00",
            headline=COUNTED,
        ),
    ),
    charts=(
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "200 products: with a return type a request takes {cpu:.0%} of the CPU",
            conditions=(LARGE, SMALL),
        ),
        Chart(
            "counts",
            each.observed("calls"),
            "Ten requests for 200 products: {calls:,.0f} calls of jsonable_encoder without a response model, {no_calls:.0f} with one",
            y_label="calls of jsonable_encoder for 10 requests",
            conditions=(COUNTED, NONE),
            theory=("calls", "one", "no_calls"),
        ),
    ),
    answer=(
        "Without a response model ten requests for 200 products call jsonable_encoder {calls:,.0f} times (predicted {calls.predicted:,.0f}); with a "
        "return type {no_calls:.0f} times, for {cpu:.0%} of the CPU. For a small answer FastAPI takes {over_starlette:.2f} times Starlette's."
    ),
    disagrees_with_source=(
        '"Validation matters above 100,000 requests per second": no Python worker reaches that rate; per worker FastAPI takes a visible share '
        "of each small request"
    ),
    survival=Survival(user="Reader", answer_within_s=2.5, recover_within_s=3.0),
)
