"""What a buffer in the process owes: the writes that were acknowledged since its last flush, lambda x T, are lost when the process is killed.

A process that is asked to end (SIGTERM) can flush; one that is killed (SIGKILL, out of memory, a lost node) cannot.  Counted in Redis the writes
outlive the process, and a batch whose name is written in the same transaction is added once, however often it is tried.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

direct = Arm("direct")

WRITES = 100
FLUSH_S = 30  # longer than the trial: nothing is flushed before the process ends
ENDS_S, BACK_S = 1.5, 2.5
SETTLED_S = 3.0
KILLED, ASKED = "the server is killed", "the server is asked to end"
PATH = "/pages/home/views"


class Visitor(LabUser):
    """Counts a hundred views, waits for the server's end and return, and reads how many are left of those that were acknowledged."""

    def journey(self) -> None:
        began = time.monotonic()
        for _ in range(WRITES):
            self.count("acknowledged", self.post(PATH, name="view").status == 204)
        gevent.sleep(max(0.0, BACK_S + 0.2 - (time.monotonic() - began)))
        for _ in range(100):
            if self.get("/health", name="health").status == 200:
                break
            gevent.sleep(0.1)
        deadline, seen = time.monotonic() + SETTLED_S, 0
        while seen < WRITES and time.monotonic() < deadline:
            reply = self.get(PATH, name="read")
            seen = reply.json()["views"] if reply.status == 200 else seen
            gevent.sleep(0.1)
        self.count("lost", WRITES - seen)


class Steady(LabUser):
    @task
    def view(self) -> None:
        self.post(f"/pages/page-{self.number}/views", name="view")


def ended(label: str, action: str, *, control: bool = False) -> Condition:
    """A hundred writes, then the end of the server, then its return."""
    return Condition(
        label,
        Journey(1),
        user="Visitor",
        env={"FLUSH_S": str(FLUSH_S)},
        events=(
            Event(ENDS_S, action, "server", label=label),  # type: ignore[arg-type]
            Event(BACK_S, "start", "server", label="the server starts again"),
        ),
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Write-behind buffer: acknowledged writes are lost when the process is killed",
    claim=(
        "Of 100 page views that were acknowledged and wait in the process for the next flush, a SIGKILL loses 100; counted in Redis, 0"
    ),
    parts=(11,),
    catalogue_ids=("ca-write-behind-loss", "ca-write-behind-coalesce"),
    before_after=BeforeAfter(
        each.observed("lost"),
        "of 100 acknowledged writes lost",
        KILLED,
        "A hundred page views are acknowledged, and the server is killed before it has saved them.",
    ),
    labels={
        "naive": "buffer in the process",
        "correct": "buffer in Redis, named batches",
        "direct": "one UPDATE for each",
    },
    symptoms=(
        "lost writes",
        "write-behind",
        "write-back cache",
        "counter lower after deploy",
        "OOMKilled",
        "SIGKILL",
        "exit code 137",
        "batch insert lost",
        "buffered metrics lost",
        "view counter",
    ),
    services=("postgres", "redis"),
    queries={"add": "INSERT INTO pages%"},
    conditions=(ended(KILLED, "kill"), ended(ASKED, "term", control=True)),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/pages/probe/views", body={"page": "probe", "views": 0})),
    claims=(
        Claim(
            "all_lost",
            "harm",
            "a killed process takes all writes since its last flush with it",
            naive.observed("lost"),
            predict=under(KILLED, value=float(WRITES)),
            tolerance=0.0,
            null=0.0,
            formula="lambda T: all 100 since the last flush",
            source="they are in its memory alone",
        ),
        Claim(
            "acknowledged",
            "mechanism",
            "all of which were acknowledged",
            naive.observed("acknowledged"),
            predict=under(KILLED, value=float(WRITES)),
            tolerance=0.0,
            formula="100",
            source="204 is sent when the view is counted in memory",
        ),
        Claim(
            "asked_to_end",
            "mechanism",
            "a process that is asked to end flushes",
            naive.observed("lost"),
            predict=in_control(0.0),
            tolerance=0.0,
            null=float(WRITES),
            formula="0",
            source="the lifespan's end runs after SIGTERM",
        ),
        Claim(
            "coalesced",
            "mechanism",
            "and writes a hundred views as one statement",
            naive.sql_calls("add"),
            predict=in_control(1.0),
            tolerance=0.0,
            null=float(WRITES),
            formula="1 / (lambda T) for each write",
            source="one row for each page and flush",
        ),
        Claim(
            "none_lost",
            "fix",
            "counted in Redis none is lost",
            correct.observed("lost"),
            predict=under(KILLED, ASKED, value=0.0),
            tolerance=0.0,
            null=float(WRITES),
            formula="0",
            source="the batch is there for the next process",
            headline=KILLED,
        ),
        Claim(
            "still_coalesced",
            "fix",
            "and a hundred views are still one statement",
            correct.sql_calls("add"),
            predict=under(KILLED, value=1.0),
            tolerance=0.0,
            null=float(WRITES),
            formula="1",
            source="one batch",
        ),
        Claim(
            "direct",
            "tax",
            "written directly each of them is a statement",
            direct.sql_calls("add"),
            predict=under(KILLED, value=float(WRITES)),
            tolerance=0.0,
            null=1.0,
            formula="N = 100",
            source="an UPDATE for each view",
        ),
        Claim(
            "redis",
            "tax",
            "and in Redis a command",
            correct.redis_calls("hincrby"),
            predict=under(KILLED, value=float(WRITES)),
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="HINCRBY for each view",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("lost"),
            "A hundred acknowledged writes, then SIGKILL: {all_lost:.0f} are lost with the process, {none_lost:.0f} from Redis",
            y_label="acknowledged writes lost",
            conditions=(KILLED, ASKED),
            theory=("all_lost", "none_lost", "asked_to_end"),
        ),
        Chart(
            "counts",
            each.sql_calls("add"),
            "A hundred views: {coalesced:.0f} statement from a buffer, {direct:.0f} without one",
            y_label="statements",
            conditions=(KILLED, ASKED),
            theory=("coalesced", "still_coalesced", "direct"),
        ),
    ),
    answer=(
        "Of 100 acknowledged page views {all_lost:.0f} are lost when the process that buffers them is killed (predicted "
        "{all_lost.predicted:.0f}), and {none_lost:.0f} with the buffer in Redis. Written directly they are {direct:.0f} statements instead of one."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=3.5,
        recover_within_s=3.0,
        variants=("correct", "direct"),
        env={"FLUSH_S": "0.5"},
        without=tuple(f"direct: Redis {what}" for what in ("refuses", "stalls", "cuts", "swallows connects")),
    ),
)
