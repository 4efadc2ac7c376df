"""n independent calls of T: n T one after the other, T at once, and ceil(C n / K) T for C requests that share K places.

Without a limit C requests have C n calls in flight, each on its own connection: 400 for 40 requests of ten calls.  One after the other it is C,
one for each request.  What a limit of K costs shows in the same burst: its last request has its answer after ceil(C n / K) T.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Probe,
    Scenario,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import having, in_control, under

tempting = Arm("tempting")

CALL_S = 0.1
MOST_CALLS = 40  # MOST_CALLS in correct.py
CLIENTS = 40
ROUNDS = 8
ONE_USER, ONE_CALL, MANY = "1 user, 10 calls", "1 user, 1 call", "40 users at once, 10 calls"


class Buyer(LabUser):
    @task
    def basket(self) -> None:
        calls = int(self.params["calls"])
        self.get("/basket?" + "&".join(f"sku=s{number}" for number in range(calls)), name="basket")


class Steady(LabUser):
    @task
    def basket(self) -> None:
        self.get("/basket?sku=a&sku=b&sku=c", name="basket")


def alone(label: str, calls: int, *, control: bool = False) -> Condition:
    """One user, so many calls for each of its requests."""
    return Condition(
        label,
        ClosedLoad(1, requests=ROUNDS),
        user="Buyer",
        upstream=Upstream(CALL_S),
        params={"calls": calls, "alone": True},
        control=control,
    )


SCENARIO = Scenario(
    title="await in a loop: ten calls take ten times as long (and gather without a limit opens 400 connections)",
    claim=(
        "Ten calls of 0.1 s take 1 s in a loop and 0.1 s at once; without a limit 40 such requests open 400 connections, with a "
        "semaphore 40"
    ),
    parts=(7, 2),
    catalogue_ids=("asx-gather-10x100ms", "as-sequential-await"),
    before_after=BeforeAfter(
        each.latency_p50_s,
        "for a request of ten calls",
        ONE_USER,
        "A basket of ten items asks a supplier ten times; each answer takes 0.1 s.",
    ),
    labels={
        "naive": "await in a loop",
        "correct": "TaskGroup, semaphore of 40",
        "tempting": "gather, no limit",
    },
    symptoms=(
        "async endpoint slow",
        "await in a for loop",
        "sequential awaits",
        "asyncio.gather",
        "TaskGroup",
        "concurrent requests httpx",
        "too many open files",
        "httpx.PoolTimeout",
        "ConnectionRefusedError upstream",
        "N+1 HTTP calls",
        "429 from upstream",
        "asyncio.Semaphore",
    ),
    services=("upstream",),
    constants={"MOST_CALLS": MOST_CALLS},
    conditions=(
        alone(ONE_USER, 10),
        Condition(
            MANY,
            Burst(CLIENTS),
            user="Buyer",
            upstream=Upstream(CALL_S),
            params={"calls": 10, "clients": CLIENTS},
        ),
        alone(ONE_CALL, 1, control=True),
    ),
    probes=(
        Probe("/basket?sku=apple", body={"items": [{"item": "apple", "price": 4200}], "total": 4200}),
        Probe("/basket", status=422),
    ),
    final_reads=(FinalRead("connections", path="/supplier", pointer="/connections"),),
    claims=(
        Claim(
            "sum",
            "harm",
            "in a loop ten calls take the sum of their times",
            naive.latency_p50_s,
            predict=under(ONE_USER, value=10 * CALL_S),
            tolerance=0.12,
            null=CALL_S,
            formula="n T = 10 x 0.1 s",
            source="each call begins when the one before has ended",
        ),
        Claim(
            "opened",
            "harm",
            "without a limit every call of every request opens its own connection",
            tempting.final("connections"),
            relation="at_least",
            predict=having("clients", value=CLIENTS * 10.0),
            tolerance=0.03,
            null=CLIENTS,
            formula="C n = 400",
            source="Little's law: all begin within the first T",
        ),
        Claim(
            "one_each",
            "mechanism",
            "in a loop it is at most one for each request",
            naive.final("connections"),
            relation="at_most",
            predict=having("clients", value=CLIENTS + 1.0),
            tolerance=0.0,
            formula="C = 40, and one of the probe",
            source="a request has one call in flight",
        ),
        Claim(
            "one_call",
            "mechanism",
            "a single call takes the same in each way",
            correct.latency_p50_s / naive.latency_p50_s,
            predict=in_control(1.0),
            tolerance=0.10,
            null=1.0,
            formula="1",
            source="n = 1",
        ),
        Claim(
            "longest",
            "fix",
            "at once they take as long as the longest",
            correct.latency_p50_s,
            predict=under(ONE_USER, value=CALL_S),
            tolerance=0.30,
            null=10 * CALL_S,
            formula="T = 0.1 s, and the CPU of ten calls",
            source="Python documentation, asyncio.TaskGroup",
        ),
        Claim(
            "bounded",
            "fix",
            "and the process never has more than 40 calls in flight",
            correct.final("connections"),
            relation="at_most",
            predict=having("clients", value=MOST_CALLS + 1.0),
            tolerance=0.0,
            null=CLIENTS * 10.0,
            formula="K = 40, and one of the probe",
            source="Python documentation, asyncio.Semaphore",
        ),
        Claim(
            "queued",
            "tax",
            "40 such requests at once wait for each other: the last has its answer after ten rounds",
            correct.makespan_s,
            predict=having("clients", value=CLIENTS * 10 / MOST_CALLS * CALL_S),
            tolerance=0.30,
            null=CALL_S,
            formula="ceil(C n / K) T = 10 x 0.1 s, and the CPU of 400 calls",
            source="K servers with deterministic service",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.latency_p50_s,
            "Ten calls of 0.1 s: {sum:.2f} s in a loop, {longest:.2f} s at once",
            y_label="seconds for a request",
            conditions=(ONE_USER, ONE_CALL),
            theory=("sum", "longest"),
        ),
        Chart(
            "counts",
            each.final("connections"),
            "40 users at once: gather opens {opened:.0f} connections to the supplier, a semaphore {bounded:.0f}",
            y_label="connections to the supplier",
            conditions=(MANY,),
            theory=("opened", "bounded"),
        ),
    ),
    answer=(
        "Ten calls of 0.1 s take {sum:.2f} s in a loop (predicted {sum.predicted:.1f} s) and {longest:.2f} s at once. 40 such requests open "
        "{opened:.0f} connections without a limit and {bounded:.0f} with a semaphore, and the last of them has its answer after "
        "{queued:.1f} s."
    ),
    survival=Survival(
        limits={
            "correct: upstream stalls": "A stall that is shorter than its time-out is waited for: answers are late, and nothing is logged."
        },
        user="Steady",
        answer_within_s=6.0,
        recover_within_s=3.0,
        upstream=Upstream(0.05),
    ),
)
