"""A client is made of the contract of its day.  What the contract of today has in addition does not hurt it; anything else that changes does.

The clients here are as code generators make them of the first release's document: a model for each answer, unknown fields ignored, a missing field,
another type and an unknown value of an enum refused.  A field that is added breaks none; one that is renamed, that changes its type, a value that is
added to an enum, and a field that becomes required in a request break every one.
"""

from typing import Literal

from locust import task
from pydantic import BaseModel, ValidationError

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, under

CLIENTS = 20
RENAMED, VALUE, REQUIRED, ADDED, NEW = (
    "a renamed field with another type",
    "a new value of an enum",
    "a field that requests must have",
    "a field that answers have in addition",
    "clients of the second release",
)


class FirstProduct(BaseModel):
    """As a client of the first release reads a product."""

    id: int
    name: str
    price_cents: int


class FirstOrder(BaseModel):
    """As a client of the first release reads an order."""

    id: int
    product_id: int
    state: Literal["paid", "sent"]


class OnlyId(BaseModel):
    """As a client reads who needs only the number: what is added is ignored."""

    id: int


class Money(BaseModel):
    """As a client of the second release reads a price."""

    amount: str
    currency: str


class Product(BaseModel):
    """As a client of the second release reads a product."""

    id: int
    title: str
    price: Money


class Clients(LabUser):
    """Twenty clients, one after the other."""

    def journey(self) -> None:
        self.count("failed", 0)
        for number in range(CLIENTS):
            self.count("failed", not self.works(number))
        document = self.get("/openapi.json", name="document").json()
        self.count("operations", sum(len(one) for path, one in document["paths"].items() if path != "/health"))

    def works(self, number: int) -> bool:
        """Whether this client can do what it is for."""
        label = self.condition.label
        try:
            if label == RENAMED:
                FirstProduct.model_validate(self.get("/products/7", name="product").json())
            elif label == VALUE:  # every third order is a backorder
                FirstOrder.model_validate(self.get(f"/orders/{3 * number + 2}", name="order").json())
            elif label == REQUIRED:
                reply = self.post("/orders", name="place", json={"product_id": 7}, expect=(201, 422))
                FirstOrder.model_validate(reply.json())
            elif label == ADDED:
                OnlyId.model_validate(self.get("/products/7", name="product").json())
            else:
                return self.works_anew()
        except ValidationError:
            return False
        return True

    def works_anew(self) -> bool:
        """A client of the second release: it asks for /v2 where there is one."""
        reply = self.get("/v2/products/7", name="product", expect=(200, 404))
        if reply.status == 404:
            reply = self.get("/products/7", name="product")
        Product.model_validate(reply.json())
        return True


class Steady(LabUser):
    @task
    def read(self) -> None:
        self.get("/products/7", name="product")


def of(label: str, *, control: bool = False) -> Condition:
    """Twenty clients."""
    return Condition(label, Journey(1), user="Clients", control=control, quick_pairs=1)


STRICT = "arithmetic: each client asks for what has changed; Pydantic refuses a missing field and an unknown literal"

SCENARIO = Scenario(
    title="Breaking API change: renamed fields, new enum values and required fields break every old client",
    claim=(
        "A renamed field, a new enum value and a newly required field break 20 of 20 clients that were generated from the release before; "
        "with the old contract kept beside /v2 they break 0"
    ),
    parts=(18,),
    catalogue_ids=("ver-breaking",),
    before_after=BeforeAfter(
        each.observed("failed"),
        "old clients of 20 that fail",
        RENAMED,
        "Clients that were generated from the first release ask the second one for a product.",
    ),
    labels={"naive": "changed in place", "correct": "the old contract beside /v2"},
    symptoms=(
        "pydantic_core._pydantic_core.ValidationError: 1 validation error",
        "Field required",
        "Input should be 'paid' or 'sent'",
        "422 Unprocessable Entity after deploy",
        "KeyError after API update",
        "mobile app broken after backend release",
        "API versioning FastAPI",
        "breaking change",
        "backward compatibility",
        "oasdiff",
        "Deprecation header",
        "Sunset header",
    ),
    conditions=(of(RENAMED), of(VALUE), of(REQUIRED), of(ADDED, control=True), of(NEW)),
    probes=(Probe("/health", body={"status": "ok"}),),
    contract_differs="the contract is the lesson",
    claims=(
        Claim(
            "renamed",
            "harm",
            "a renamed field breaks every client that reads it",
            naive.observed("failed"),
            predict=under(RENAMED, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="20 of 20",
            source=STRICT,
        ),
        Claim(
            "value",
            "harm",
            "so does a new value where a client knows all values",
            naive.observed("failed"),
            predict=under(VALUE, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="20 of 20",
            source=STRICT,
        ),
        Claim(
            "required",
            "harm",
            "and a field that requests must have",
            naive.observed("failed"),
            predict=under(REQUIRED, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="20 of 20",
            source="FastAPI answers 422 where a required field is missing",
        ),
        Claim(
            "added",
            "mechanism",
            "a field that is added breaks none",
            naive.observed("failed"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(CLIENTS),
            formula="0 of 20",
            source="generated clients ignore what they do not know",
        ),
        Claim(
            "kept",
            "fix",
            "with the old contract kept no client fails",
            correct.observed("failed"),
            predict=under(RENAMED, VALUE, REQUIRED, ADDED, value=0.0),
            tolerance=0.0,
            null=float(CLIENTS),
            formula="0 of 20",
            source="each address keeps what it promised",
            headline=RENAMED,
        ),
        Claim(
            "new_too",
            "fix",
            "and new clients have what is new",
            correct.observed("failed"),
            predict=under(NEW, value=0.0),
            tolerance=0.0,
            null=float(CLIENTS),
            formula="0 of 20",
            source="/v2",
        ),
        Claim(
            "operations",
            "tax",
            "every changed operation has to be kept twice",
            correct.observed("operations") / naive.observed("operations"),
            predict=under(RENAMED, VALUE, REQUIRED, ADDED, NEW, value=2.0),
            tolerance=0.0,
            null=1.0,
            formula="2: three operations of each release",
            source="V versions of U operations are V U",
            headline=RENAMED,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("failed"),
            "A release that changes its contract in place breaks {renamed:.0f} of 20 old clients; with the old one kept, {kept:.0f}",
            y_label="clients that fail, of 20",
            conditions=(RENAMED, VALUE, REQUIRED, ADDED, NEW),
            theory=("renamed", "value", "required", "added", "kept", "new_too"),
        ),
    ),
    answer=(
        "Of 20 clients of the release before {renamed:.0f} fail at a renamed field (predicted {renamed.predicted:.0f}), {value:.0f} at a new enum "
        "value and {required:.0f} at a newly required field; with the old contract kept {kept:.0f}, for {operations:.0f} times the operations."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0),
)
