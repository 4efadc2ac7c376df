"""An evaluator that asks every policy takes time in proportion to their number, and a request that is denied asks all of them.

With n policies a denial reads n; with an index over what policies compare for equality it reads those of one place, here four, for any n.  One
comparison in a Python loop takes 20 ns at the very least, so a million policies block the event loop for 20 ms or more at each denial.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import having, in_control, under, where

REQUESTS = 20
COUNTS = (100, 1_000, 10_000, 100_000, 1_000_000)
MILLION = "1,000,000 policies"
FEWEST_S = 20e-9  # of one turn of a loop with a comparison in CPython; measured loops take two to four times this
PLACE = 4  # roles in all targets: policies of one tenant and action
ALLOWED = "the first policy allows, 1,000,000 policies"
BESIDE = "1,000,000 policies, side by side"


class Asker(LabUser):
    """Asks what nobody allows: a sensitivity above all."""

    def ask(self, **question: object) -> None:
        reply = self.post("/decisions", name="decision", json=question)
        if reply.status == 200:
            answer = reply.json()
            self.count("read", answer["policies_read"])
            self.count("allowed", answer["allowed"])

    def journey(self) -> None:
        for _ in range(REQUESTS):
            if self.params.get("allowed"):
                self.ask(tenant=0, action="read", role="guest", sensitivity=0)
            else:
                self.ask(tenant=0, action="read", role="guest", sensitivity=9)


class Steady(Asker):
    @task
    def decide(self) -> None:
        self.ask(tenant=self.rng.randrange(50), action="delete", role="guest", sensitivity=9)


def denied(policies: int) -> Condition:
    """Twenty requests of one user that nothing allows."""
    return Condition(
        f"{policies:,} policies",
        Journey(1),
        user="Asker",
        env={"POLICIES": str(policies)},
        params={"policies": policies},
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Authorization policies (ABAC, Casbin): a denial reads all of them unless they are indexed",
    claim=(
        "With 1,000,000 policies a denial reads 1,000,000 of them and blocks the event loop for more than 20 ms; with an index by tenant "
        "and action it reads 4"
    ),
    parts=(12,),
    catalogue_ids=("au-policy-linear",),
    before_after=BeforeAfter(
        each.latency_p50_s("decision"),
        "for a decision that denies",
        MILLION,
        "One user asks for what no policy allows, twenty times.",
    ),
    labels={"naive": "ask every policy", "correct": "an index by tenant and action"},
    symptoms=(
        "casbin slow",
        "pycasbin performance",
        "enforcer.enforce slow",
        "FastEnforcer",
        "ABAC scale",
        "authorization latency",
        "permission check slow",
        "denied requests are slower than allowed ones",
        "policy engine",
        "oso",
        "Cerbos",
    ),
    conditions=(
        *(denied(n) for n in COUNTS),
        Condition(
            ALLOWED,
            Journey(1),
            user="Asker",
            env={"POLICIES": str(COUNTS[-1])},
            params={"allowed": True},
            control=True,
            quick_pairs=1,
        ),
        Condition(
            BESIDE,
            ClosedLoad(1),
            duration_s=3.0,
            user="Steady",
            env={"POLICIES": str(COUNTS[-1])},
            duet=True,
        ),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe(
            "/decisions",
            method="POST",
            json={"tenant": 0, "action": "read", "role": "guest"},
            body={"allowed": True, "policies_read": 1},
        ),
        Probe("/decisions", method="POST", json={"tenant": -1, "action": "read", "role": "guest"}, status=422),
    ),
    claims=(
        Claim(
            "reads_all",
            "harm",
            "a denial reads every policy",
            naive.observed("read"),
            predict=having("policies", value=lambda c: REQUESTS * c.number("policies")),
            tolerance=0.0,
            null=float(REQUESTS * PLACE),
            formula="20 n",
            source="a loop that ends at the first policy that allows",
            headline=MILLION,
        ),
        Claim(
            "time",
            "harm",
            "and takes time in proportion",
            naive.latency_p50_s("decision"),
            relation="at_least",
            predict=where(
                lambda c: c.params.get("policies", 0) >= COUNTS[-2],  # type: ignore[operator]
                lambda c: FEWEST_S * c.number("policies"),
            ),
            tolerance=0.0,
            null=0.0,
            formula="n x 20 ns at least",
            source="one turn of a loop in CPython",
            headline=MILLION,
        ),
        Claim(
            "loop",
            "mechanism",
            "in which the event loop is blocked",
            naive.loop_lag_max_s,
            relation="at_least",
            predict=under(MILLION, value=FEWEST_S * COUNTS[-1]),
            tolerance=0.0,
            null=0.0,
            formula="n x 20 ns at least",
            source="the decision is a call, and nothing else runs meanwhile",
        ),
        Claim(
            "first",
            "mechanism",
            "a request that the first policy allows reads one",
            naive.observed("read"),
            predict=in_control(float(REQUESTS)),
            tolerance=0.0,
            formula="20 x 1",
            source="the loop ends there",
        ),
        Claim(
            "reads_four",
            "fix",
            "with an index a denial reads those of its place, however many there are",
            correct.observed("read"),
            predict=having("policies", value=float(REQUESTS * PLACE)),
            tolerance=0.0,
            null=float(REQUESTS * COUNTS[-1]),
            formula="20 x 4 roles",
            source="a dictionary by tenant and action",
            headline=MILLION,
        ),
        Claim(
            "cpu",
            "fix",
            "for less than a twentieth of the CPU",
            correct.cpu_s_per_request / naive.cpu_s_per_request,
            relation="at_most",
            predict=under(BESIDE, value=0.05),
            tolerance=0.0,
            null=1.0,
            formula="at most 1 ms / (n x 20 ns) = 0.05: a request takes less than 1 ms",
            source="the rest of the request against n turns of the loop",
        ),
        Claim(
            "memory",
            "tax",
            "the index takes less memory than the policies",
            correct.rss_peak_bytes / naive.rss_peak_bytes,
            relation="at_most",
            predict=under(MILLION, value=2.0),
            tolerance=0.0,
            null=1.0,
            formula="at most 2: a key and a list for each four policies",
            source="sys.getsizeof: a policy takes 72 bytes and more, its share of a list and a key less",
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.latency_p50_s("decision"),
            "A denial with 1,000,000 policies takes {time:.3f} s; with an index as long as with 100",
            x="policies",
            x_label="policies",
            y_label="median time of a denial",
            conditions=tuple(f"{n:,} policies" for n in COUNTS),
            log_x=True,
            log_y=True,
            theory=("time",),
        ),
        Chart(
            "sweep",
            each.observed("read"),
            "Twenty denials read {reads_all:,.0f} policies of 1,000,000; with an index {reads_four:.0f}",
            x="policies",
            x_label="policies",
            y_label="policies read by 20 denials",
            conditions=tuple(f"{n:,} policies" for n in COUNTS),
            log_x=True,
            log_y=True,
            theory=("reads_all", "reads_four"),
        ),
        Chart("cpu", each.cpu_s_per_request, "With an index a denial takes {cpu:.1%} of the CPU", conditions=(BESIDE,)),
    ),
    answer=(
        "With 1,000,000 policies 20 denials read {reads_all:,.0f} (predicted {reads_all.predicted:,.0f}) and take {time:.3f} s each, in which "
        "nothing else runs; with an index they read {reads_four:.0f}."
    ),
    disagrees_with_source='"ABAC to millions of policies": only if an index finds the few that concern a request',
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0),
)
