"""A commit that fails after the answer has been sent is an error that no client sees: n bookings of one seat, n answers of 201, one row.

The constraint is deferred, so PostgreSQL checks it at the commit; a serialisation failure or a broken connection at the commit ends the same
way.  Whether a dependency ends before or after the answer is a matter of FastAPI's version: up to 0.105 after it, 0.106 to 0.117 before it,
from 0.118 after it again.  What is not there is looked for when all bookings are over: a commit that is merely late has been made by then.
"""

from typing import Any

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import delay
from lab.words.predictions import in_control, under, where

in_route = Arm("in_route")

BOOKINGS = 8
AFTER_ANSWER = ("0.105.0", "0.118.0")
BEFORE_ANSWER = ("0.117.1",)
OLDER = {"0.105.0": {"anyio": "3.7.1"}}  # it wants AnyIO below 4
NOW = "one seat booked 8 times"
DISTINCT = "8 seats booked once"
FAR = "1 user, database 20 ms away"


class Booker(LabUser):
    """Books, and in the end looks for everything that was confirmed."""

    def journey(self) -> None:
        confirmed = []
        for number in range(BOOKINGS):
            seat = 1 + number if self.params["distinct"] else 1
            self.reconnect()  # a server closes the connection on which something was raised after the answer
            booked = self.post("/bookings", name="book", json={"seat": seat}, expect=(201, 409))
            if booked.status == 201:
                confirmed.append(booked.json()["id"])
        self.count("confirmed", len(confirmed))
        self.count(
            "not_there",
            sum(self.get(f"/bookings/{one}", name="look", expect=(200, 404)).status == 404 for one in confirmed),
        )


class Seats(LabUser):
    """One seat after the other."""

    @task
    def book(self) -> None:
        self.post("/bookings", name="book", json={"seat": self.rng.randint(1, 2**31 - 1)})


class Steady(LabUser):
    """Books seats that nobody else books, and later looks for each that was confirmed until the database says whether it is there."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.confirmed = ""
        self.seat = 0

    @task
    def book(self) -> None:
        if self.confirmed:
            status = self.get(self.confirmed, name="look").status
            self.count("lost", status == 404)
            self.confirmed = "" if status in (200, 404) else self.confirmed
            return
        self.seat += 1
        booked = self.post("/bookings", name="book", json={"seat": 1_000_000 * (1 + self.number) + self.seat})
        self.confirmed = f"/bookings/{booked.json()['id']}" if booked.status == 201 else ""


def booked(label: str, version: str = "", *, distinct: bool = False, control: bool = False) -> Condition:
    """Eight bookings, under a version of FastAPI."""
    return Condition(
        label,
        Journey(1),
        user="Booker",
        packages={"fastapi": version, **OLDER.get(version, {})} if version else {},
        params={"version": version or "this one", "distinct": distinct},
        variants=("naive",) if version else (),
        control=control,
        quick_pairs=1,
    )


def one_seat(condition: Condition) -> bool:
    """Whether the bookings are of one seat."""
    return condition.params.get("distinct") is False


def late(condition: Condition) -> float:
    """How many of the confirmed bookings are not there under naive."""
    return 0.0 if condition.params["version"] in BEFORE_ANSWER else BOOKINGS - 1.0


SCENARIO = Scenario(
    title="201 and no row: a commit after yield fails when the response has been sent",
    claim=(
        "Of 8 bookings of one seat FastAPI 0.118 and newer confirm all with 201 and store one, when the dependency commits "
        'after its yield; with scope="function" 7 get 409'
    ),
    parts=(17,),
    catalogue_ids=("pool-get-db-commit-late",),
    before_after=BeforeAfter(
        each.observed("not_there"),
        "bookings confirmed with 201 that are not there",
        NOW,
        "One seat is booked eight times; the database refuses seven of them at the commit.",
    ),
    labels={
        "naive": "commit after yield",
        "correct": 'scope="function"',
        "in_route": "commit in the route",
    },
    symptoms=(
        "201 but row not in database",
        "commit fails silently",
        "data loss",
        "deferred constraint",
        "could not serialize access due to concurrent update",
        "RuntimeError: Caught handled exception, but response already started.",
        "duplicate key value violates unique constraint",
        "get_db commit after yield",
        "dependency with yield exception after response",
        "FastAPI 0.118 upgrade",
        "IntegrityError not returned to client",
    ),
    services=("postgres",),
    conditions=(
        *(booked(f"{NOW}, FastAPI {version}", version) for version in sorted((*AFTER_ANSWER, *BEFORE_ANSWER))),
        booked(NOW),
        booked(DISTINCT, distinct=True, control=True),
        Condition(
            FAR,
            ClosedLoad(1, requests=30),
            user="Seats",
            proxy=Proxy("postgres", delay(10)),
            params={"users": 1},
        ),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/bookings/999999", status=404)),
    final_reads=(
        FinalRead("rows", sql="SELECT count(*) FROM bookings"),
        FinalRead("leaked", sql=OPEN_TRANSACTIONS),
    ),
    claims=(
        Claim(
            "not_there",
            "harm",
            "seven of eight confirmed bookings are not there, in these versions",
            naive.observed("not_there"),
            predict=where(one_seat, late),
            tolerance=0.0,
            formula="n - 1 = 7, but 0 under 0.106 to 0.117",
            source="FastAPI release notes, 0.106.0 and 0.118.0: the code after yield runs before, or after, the answer",
            headline=NOW,
        ),
        Claim(
            "confirmed",
            "harm",
            "the client is told 201 each time",
            naive.observed("confirmed"),
            predict=where(one_seat, lambda c: late(c) + 1.0),
            tolerance=0.0,
            formula="n = 8, but 1 under 0.106 to 0.117",
            source="the status line has been sent before the commit",
            headline=NOW,
        ),
        Claim(
            "rows",
            "mechanism",
            "the database keeps one of them",
            naive.final("rows"),
            predict=where(one_seat, 1.0),
            tolerance=0.0,
            null=BOOKINGS,
            formula="1",
            source="PostgreSQL documentation, SET CONSTRAINTS: a deferred constraint is checked at the commit",
            headline=NOW,
        ),
        Claim(
            "distinct",
            "mechanism",
            "where every commit succeeds everything is there",
            naive.observed("not_there"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="no commit fails",
        ),
        Claim(
            "there",
            "fix",
            'with scope="function" what is confirmed is there',
            correct.observed("not_there"),
            predict=under(NOW, DISTINCT, value=0.0),
            tolerance=0.0,
            null=BOOKINGS - 1.0,
            formula="0",
            source="FastAPI documentation, Early exit and scope",
            headline=NOW,
        ),
        Claim(
            "told",
            "fix",
            "and the others are told so",
            correct.status_count(409),
            predict=under(NOW, value=BOOKINGS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="n - 1 = 7",
            source="the error is raised before the answer, and becomes it",
        ),
        Claim(
            "told_in_route",
            "fix",
            "so they are when the route commits",
            in_route.status_count(409),
            predict=under(NOW, value=BOOKINGS - 1.0),
            tolerance=0.0,
            null=0.0,
            formula="n - 1 = 7",
            source="the route has not returned yet",
        ),
        Claim(
            "waits",
            "tax",
            "the answer waits for the commit: three round trips to the database instead of two",
            correct.latency_p50_s / naive.latency_p50_s,
            predict=under(FAR, value=1.5),
            tolerance=0.12,
            null=1.0,
            formula="(BEGIN, INSERT, COMMIT) / (BEGIN, INSERT) = 3 / 2",
            source="SQLAlchemy documentation, asyncpg: BEGIN at the first statement",
            headline=FAR,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("not_there"),
            "One seat booked 8 times: {not_there:.0f} answers of 201 without a row; with scope=function {there:.0f}",
            y_label="confirmed bookings that are not there",
            conditions=(
                *(f"{NOW}, FastAPI {version}" for version in sorted((*AFTER_ANSWER, *BEFORE_ANSWER))),
                NOW,
                DISTINCT,
            ),
            theory=("not_there", "there"),
        ),
        Chart(
            "counts",
            each.observed("confirmed"),
            "{confirmed:.0f} of 8 are told 201; the database keeps {rows:.0f}",
            y_label="answers of 201",
            conditions=(NOW,),
            theory=("confirmed",),
        ),
    ),
    answer=(
        "Of 8 bookings of one seat {confirmed:.0f} are answered 201 and {not_there:.0f} of these are not there (predicted "
        '{not_there.predicted:.0f}), when the dependency commits after its yield. With scope="function" {told:.0f} get 409 and '
        "what is confirmed is there."
    ),
    disagrees_with_source=(
        "The get_db of part 17 commits after its yield. Under FastAPI 0.106 to 0.117 that came before the answer; since "
        "0.118 a commit that fails is reported to nobody."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        variants=("correct", "in_route"),
        ledger={"lost": each.observed("lost"), "leaked": each.final("leaked")},
    ),
)
