"""Retries multiply: with r retries in each of k layers a call at the top becomes (1 + r) ** k calls at the bottom when everything fails there.

The client, the checkout and the stock try four times each: 4 ** 3 = 64 requests to a supplier that is in trouble already.  With retries in the
client alone 4.  While one reply in ten is lost a click still costs 1 / (1 - f) = 1.1 requests in all of them: the first retry mends it.
"""

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    Condition,
    Event,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, drop_replies
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

TRIES = 4
CLICKS = 100
LOST = 0.1
DOWN, FLAKY, FINE = "the supplier's answers are lost", "one answer in ten is lost", "all is well"
ENDS_S = 2.0


class Shopper(LabUser):
    """Checks out, with four tries; then waits until the supplier answers again, so that it can be asked how often it was asked."""

    def journey(self) -> None:
        for _ in range(int(self.params["clicks"])):
            self.count("failed", not self.click())
        if self.params["down"]:
            gevent.sleep(ENDS_S + 0.3)

    def click(self) -> bool:
        """Whether it was checked out in the end."""
        for number in range(TRIES):
            if self.get("/checkout/SKU-1", name="checkout", expect=(200, 503)).status == 200:
                return True
            gevent.sleep(0.01 * 2**number * self.rng.random())
        return False


class Steady(LabUser):
    @task
    def check_out(self) -> None:
        self.get("/checkout/SKU-1", name="checkout")


def clicked(
    label: str, clicks: int, *, proxy: Proxy | None = None, down: bool = False, control: bool = False
) -> Condition:
    """So many clicks of one client."""
    return Condition(
        label,
        Journey(1),
        user="Shopper",
        upstream=Upstream(),
        proxy=proxy,
        events=(Event(ENDS_S, "fault", statement=PASS, label="the supplier answers again"),) if down else (),
        params={"clicks": clicks, "down": down},
        control=control,
        forced=down,
        quick_pairs=1,
    )


LAW = "arithmetic; Google, Site Reliability Engineering, chapter 22: 64 attempts for 3 layers of 4"

SCENARIO = Scenario(
    title="Retry amplification: retries in every layer multiply (4 x 4 x 4 = 64 requests for one click)",
    claim=(
        "When the supplier fails, one click becomes 64 requests to it if the client and both layers try four times each, and 4 if "
        "only the client does"
    ),
    parts=(18,),
    catalogue_ids=("retry-amplification",),
    before_after=BeforeAfter(
        each.final("requests"),
        "requests to the supplier for one click",
        DOWN,
        "A client checks out once; the supplier's answers are lost; whoever retries tries four times.",
    ),
    labels={
        "naive": "every layer retries",
        "correct": "the client alone retries",
        "tempting": "the client and the lowest layer",
    },
    symptoms=(
        "retry storm",
        "retry amplification",
        "thundering herd after an outage",
        "service does not recover after an outage",
        "cascading failure",
        "metastable failure",
        "tenacity",
        "max_retries",
        "urllib3 Retry",
        "stamina",
    ),
    services=("upstream",),
    conditions=(
        clicked(DOWN, 1, proxy=Proxy("upstream", drop_replies(1)), down=True),
        clicked(FLAKY, CLICKS, proxy=Proxy("upstream", drop_replies(LOST))),
        clicked(FINE, CLICKS, control=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/checkout/%00", status=422)),
    final_reads=(FinalRead("requests", path="/supplier", pointer="/requests"),),
    claims=(
        Claim(
            "all_layers",
            "harm",
            "three layers that try four times make 64 requests of one click",
            naive.final("requests"),
            predict=under(DOWN, value=float(TRIES**3)),
            tolerance=0.0,
            null=float(TRIES),
            formula="(1 + r) ** k = 4 ** 3",
            source=LAW,
        ),
        Claim(
            "two_layers",
            "harm",
            "two make 16",
            tempting.final("requests"),
            predict=under(DOWN, value=float(TRIES**2)),
            tolerance=0.0,
            null=float(TRIES),
            formula="(1 + r) ** k = 4 ** 2",
            source=LAW,
        ),
        Claim(
            "in_vain",
            "mechanism",
            "and the click fails all the same",
            naive.observed("failed"),
            predict=under(DOWN, value=1.0),
            tolerance=0.0,
            formula="1 of 1",
            source="all answers are lost",
        ),
        Claim(
            "fine",
            "mechanism",
            "while all is well nobody retries",
            naive.final("requests"),
            predict=in_control(float(CLICKS)),
            tolerance=0.0,
            formula="100 of 100",
            source="the first try succeeds",
        ),
        Claim(
            "one_layer",
            "fix",
            "with retries in one layer it is 4",
            correct.final("requests"),
            predict=under(DOWN, value=float(TRIES)),
            tolerance=0.0,
            null=float(TRIES**3),
            formula="1 + r = 4",
            source=LAW,
        ),
        Claim(
            "still_mended",
            "fix",
            "and they still mend what is lost now and then",
            correct.observed("failed"),
            predict=under(FLAKY, value=0.0),
            tolerance=0.0,
            formula="100 f ** 4 = 0.01 clicks",
            source="a click fails when four tries in a row do",
        ),
        Claim(
            "few_more",
            "mechanism",
            "for hardly more requests than clicks",
            correct.final("requests"),
            predict=under(FLAKY, value=CLICKS / (1 - LOST)),
            tolerance=0.12,
            formula="N / (1 - f) = 111",
            source="a geometric number of tries; the tolerance is three standard deviations of their sum",
        ),
        Claim(
            "way_back",
            "tax",
            "but a retry goes the whole way again",
            correct.requests_sent("checkout") / naive.requests_sent("checkout"),
            predict=under(FLAKY, value=1 / (1 - LOST)),
            tolerance=0.12,
            null=1.0,
            formula="1 / (1 - f): the client has to come back, where the lowest layer would have mended it",
            source="in naive a lost answer is mended where it was lost",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("requests"),
            "One click, the supplier fails: {all_layers:.0f} requests if every layer tries four times, {one_layer:.0f} if one does",
            y_label="requests to the supplier",
            conditions=(DOWN,),
            theory=("all_layers", "two_layers", "one_layer"),
        ),
    ),
    answer=(
        "One click makes {all_layers:.0f} requests to a supplier that fails when three layers try four times each (predicted "
        "{all_layers.predicted:.0f}), {two_layers:.0f} with two such layers and {one_layer:.0f} with one."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, upstream=Upstream()),
)
