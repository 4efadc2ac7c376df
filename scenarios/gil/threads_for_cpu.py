"""k threads with the same pure Python work each take k times the time of one; k processes, or k threads in C code that releases the lock, take one.

Ratios are taken within a trial: two parts over one part of the same variant.  Subinterpreters (3.13) have a lock each, the free-threaded
build (3.14t) has none.

The event loop needs the lock at each wake-up.  Beside one computing thread it is the only one that waits: after a switch interval (5 ms) it asks for
the lock and gets it, so it is late by exactly that.  Beside two it is not: the lock has no queue.  When the other thread's interval is over, after
half of one on average, the loop and that thread draw for the lock, and each draw lost costs a whole interval more.  A fair draw is lost once on
average: one and a half intervals, with a tail of many.  The lab's timer in the loop sees that; its median is weighted by time, so each condition
has one number of computing threads throughout.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Survival, Upstream
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control

released = Arm("released")
subinterpreters = Arm("subinterpreters")
tempting = Arm("tempting")
waiting = Arm("waiting")

SWITCH_S = 0.005  # sys.getswitchinterval()
SHORT_SWITCH_S = 0.0005  # SWITCH_INTERVAL_S in tempting.py
MOST_PARTS = 4  # MOST_PARTS in all targets
SIZE = 12_000
SUPPLIER_S = 0.05
SMALL, PRIMES_IN_SMALL = 1_000, 168  # the number of primes below 1,000


class Reader(LabUser):
    """One user who asks for one part and for two in turn, or always for the same number."""

    asked = 0

    @task
    def read(self) -> None:
        self.asked += 1
        parts = 1 + self.asked % 2 if self.params["in_turn"] else int(self.params["parts"])
        path = f"/primes?parts={parts}&size={SIZE}" if parts else "/health"
        self.get(path, name=f"{parts} part{'s' if parts > 1 else ''}" if parts else "health")


class Steady(LabUser):
    """Asks for two small parts again and again; each answer must be the right number."""

    @task
    def read(self) -> None:
        reply = self.get(f"/primes?parts=2&size={SMALL}", name="primes")
        self.count("wrong", reply.status == 200 and reply.json()["found"] != 2 * PRIMES_IN_SMALL)


def in_turn(label: str, *variants: str, python: str = "", pairs: int = 3) -> Condition:
    """One part, then two, again and again."""
    return Condition(
        label,
        ClosedLoad(1),
        duration_s=2.0,
        warmup_s=1.0,
        user="Reader",
        upstream=Upstream(SUPPLIER_S) if "waiting" in variants else None,
        params={"parts": 2, "in_turn": True},
        variants=variants,
        python=python,
        quick_pairs=pairs,
        cores=2,
    )


def always(label: str, parts: int, *variants: str, pairs: int = 3) -> Condition:
    """The same number of parts all the time; none are the control."""
    return Condition(
        label,
        ClosedLoad(1),
        duration_s=1.2,
        warmup_s=0.3 if parts else 0.0,
        user="Reader",
        params={"parts": parts, "in_turn": False},
        variants=variants,
        quick_pairs=pairs,
        cores=2 if parts else 1,
        control=not parts,
    )


def where(condition: Condition, variant: str, value: float) -> float | None:
    """``value`` where this variant has one part and two to do in turn."""
    does = condition.params.get("in_turn") and variant in condition.variants and condition.python != "3.14t"
    return value if does else None


def beside(condition: Condition, threads: int, value: float) -> float | None:
    """``value`` where so many parts are computed all the time."""
    return value if not condition.params.get("in_turn", True) and condition.params["parts"] == threads else None


CONVOY = "D. Beazley, Understanding the Python GIL (PyCon 2010); CPython issue 7946"

SCENARIO = Scenario(
    title="Threads for CPU-bound work: the GIL lets only one run (ThreadPoolExecutor, run_in_executor)",
    claim=(
        "Two threads with CPU-bound Python code take 2x the time of one, and each wake-up of the event loop beside "
        "one of them is 5 ms late; two processes take 1x"
    ),
    parts=(13, 7),
    catalogue_ids=("gil-threads-cpu", "gil-io", "gil-release", "gil-convoy", "gil-subinterp", "gil-3.13-claim"),
    services=("upstream",),
    constants={"MOST_PARTS": MOST_PARTS, "SWITCH_INTERVAL_S": SHORT_SWITCH_S},
    before_after=BeforeAfter(
        each.latency_p50_s("2 parts") / each.latency_p50_s("1 part"),
        "the time of one part, for two at once",
        "one part, then two",
        "A route computes one part or two at the same time.",
    ),
    labels={
        "naive": "threads",
        "correct": "processes",
        "tempting": "threads, 0.5 ms switch interval",
        "released": "threads in hashlib",
        "waiting": "threads that wait",
        "subinterpreters": "subinterpreters",
    },
    symptoms=(
        "GIL",
        "global interpreter lock",
        "threads not faster",
        "ThreadPoolExecutor slow",
        "run_in_executor not parallel",
        "asyncio.to_thread CPU bound",
        "one core busy",
        "event loop slow",
        "convoy effect",
        "sys.setswitchinterval",
        "free-threaded Python",
        "subinterpreters",
        "A child process terminated abruptly, the process pool is not usable anymore",
    ),
    conditions=(
        in_turn("one part, then two", "naive", "correct", "released", "tempting", pairs=4),
        always("one part all the time", 1, "naive", "correct", "tempting"),
        always("two parts all the time", 2, "naive", pairs=2),
        in_turn("waiting for a supplier", "waiting"),
        in_turn("Python 3.13", "naive", "subinterpreters", python="3.13"),
        in_turn("free-threaded Python 3.14", "naive", python="3.14t"),
        always("nobody computes", 0, "naive", "correct", pairs=1),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/primes?parts=1&size=100", ignore=("found",), body={"parts": 1}),
    ),
    claims=(
        Claim(
            "threads",
            "harm",
            "two threads take twice the time of one",
            naive.latency_p50_s("2 parts") / naive.latency_p50_s("1 part"),
            predict=lambda c: where(c, "naive", 2.0),
            tolerance=0.15,
            null=1.0,
            formula="k",
            source="one lock; part 13: two CPU threads take about 2x one thread's time",
            headline="one part, then two",
        ),
        Claim(
            "convoy",
            "mechanism",
            "beside one computing thread every wake-up of the event loop is a switch interval late",
            naive.loop_lag_p50_s,
            predict=lambda c: beside(c, 1, SWITCH_S),
            tolerance=0.2,
            formula="5 ms",
            source=f"Python documentation, sys.setswitchinterval; {CONVOY}",
            headline="one part all the time",
        ),
        Claim(
            "convoy_of_two",
            "mechanism",
            "beside two it is at least one and a half intervals late",
            naive.loop_lag_p50_s,
            relation="at_least",
            predict=lambda c: beside(c, 2, 1.5 * SWITCH_S),
            tolerance=0.0,
            formula="5 ms / 2 + 5 ms x draws lost (1 on average) = 7.5 ms, or more",
            source=f"CPython, ceval_gil: waiters have no order; {CONVOY}",
            headline="two parts all the time",
        ),
        Claim(
            "quiet",
            "mechanism",
            "where nobody computes the loop is on time",
            naive.loop_lag_p50_s,
            relation="at_most",
            predict=in_control(SWITCH_S / 5),
            tolerance=0.0,
            formula="less than 1 ms",
            source="nobody holds the lock",
        ),
        Claim(
            "punctual",
            "mechanism",
            "with a tenth of the switch interval the loop is less than a fifth as late",
            tempting.loop_lag_p50_s / naive.loop_lag_p50_s,
            relation="at_most",
            predict=lambda c: beside(c, 1, 0.2),
            tolerance=0.0,
            null=1.0,
            formula="0.5 ms / 5 ms, and what a turn of the loop takes",
            source="Python documentation, sys.setswitchinterval",
        ),
        Claim(
            "no_faster",
            "harm",
            "but two threads still take twice the time of one",
            tempting.latency_p50_s("2 parts") / tempting.latency_p50_s("1 part"),
            predict=lambda c: where(c, "tempting", 2.0),
            tolerance=0.15,
            null=1.0,
            formula="k",
            source="it is still one lock",
        ),
        Claim(
            "released",
            "mechanism",
            "two threads in C code that releases the lock take the time of one",
            released.latency_p50_s("2 parts") / released.latency_p50_s("1 part"),
            predict=lambda c: where(c, "released", 1.0),
            tolerance=0.35,
            null=2.0,
            formula="1 with two cores",
            source="Python documentation, hashlib: pbkdf2_hmac releases the GIL",
        ),
        Claim(
            "waiting",
            "mechanism",
            "and so do two threads that wait for the network",
            waiting.latency_p50_s("2 parts") / waiting.latency_p50_s("1 part"),
            predict=lambda c: where(c, "waiting", 1.0),
            tolerance=0.15,
            null=2.0,
            formula="1",
            source="part 13: I/O-bound code barely notices; a blocking call releases the lock",
        ),
        Claim(
            "processes",
            "fix",
            "two processes take the time of one",
            correct.latency_p50_s("2 parts") / correct.latency_p50_s("1 part"),
            predict=lambda c: where(c, "correct", 1.0),
            tolerance=0.35,
            null=2.0,
            formula="1 with two cores",
            source="a lock each",
        ),
        Claim(
            "undisturbed",
            "fix",
            "and the event loop beside them is on time",
            correct.loop_lag_p50_s / naive.loop_lag_p50_s,
            relation="at_most",
            predict=lambda c: beside(c, 1, 0.2),
            tolerance=0.0,
            null=1.0,
            formula="less than 1 ms / 5 ms",
            source="nobody else in this process needs the lock",
        ),
        Claim(
            "interpreters",
            "fix",
            "two subinterpreters of one process do too, where what they run can be imported",
            subinterpreters.latency_p50_s("2 parts") / subinterpreters.latency_p50_s("1 part"),
            predict=lambda c: where(c, "subinterpreters", 1.0),
            tolerance=0.35,
            null=2.0,
            formula="1 with two cores",
            source="PEP 684: a lock for each interpreter",
        ),
        Claim(
            "free",
            "fix",
            "two threads without the lock do too",
            naive.latency_p50_s("2 parts") / naive.latency_p50_s("1 part"),
            predict=lambda c: 1.0 if c.python == "3.14t" else None,
            tolerance=0.35,
            null=2.0,
            formula="1 with two cores",
            source="PEP 703 and PEP 779",
        ),
        Claim(
            "memory",
            "tax",
            "four processes and the worker need the memory of five workers",
            correct.rss_peak_bytes / naive.rss_peak_bytes,
            predict=lambda c: where(c, "correct", 1.0 + MOST_PARTS),
            tolerance=0.25,
            null=1.0,
            formula="1 + 4",
            source="a spawned process imports the application as the worker does",
        ),
        Claim(
            "memory_of_interpreters",
            "tax",
            "a subinterpreter that imports nothing is a small one",
            subinterpreters.rss_peak_bytes / naive.rss_peak_bytes,
            relation="at_most",
            predict=lambda c: where(c, "subinterpreters", 1.5),
            tolerance=0.1,
            null=1.0,
            formula="1 + 4 interpreters of a few MB",
            source="measured here: without FastAPI an interpreter holds its builtins",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.latency_p50_s("2 parts"),
            "Twice the work in two threads takes {threads:.1f} times the time, in two processes {processes:.1f}",
            y_label="median time of two parts, s",
            conditions=("one part, then two",),
        ),
        Chart(
            "timeline",
            each.loop_lag_max_s,
            "While a thread computes, the event loop is {convoy:.3f} s late at each wake-up",
            y_label="longest lateness of the loop, s",
            conditions=("one part all the time",),
        ),
        Chart(
            "counts",
            each.latency_p50_s("2 parts"),
            "Subinterpreters (3.13) have a lock each: two parts take {interpreters:.1f} times the time of one",
            y_label="median time of two parts, s",
            conditions=("Python 3.13",),
        ),
        Chart(
            "counts",
            each.loop_lag_p50_s,
            "A tenth of the switch interval leaves {punctual:.2f} of the loop's lateness; the work is no faster",
            y_label="median lateness of the loop, by time, s",
            conditions=("one part all the time",),
        ),
    ),
    answer=(
        "Two threads that compute take {threads:.2f} times as long as one, two processes {processes:.2f} times, two "
        "threads in C code that releases the lock {released:.2f}, two subinterpreters {interpreters:.2f}; beside one "
        "computing thread the event loop is {convoy:.4f} s late."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"wrong": each.observed("wrong")},
        also=("pool",),
        without=("upstream stalls", "upstream errs", "naive: pool process killed"),
    ),
    disagrees_with_source=(
        "Part 13 says that Python 3.13 makes the GIL optional. It does so in a separate build, which is experimental "
        "in 3.13 and supported from 3.14 on (PEP 779). And I/O is barely affected by other I/O, but each of its "
        "wake-ups is late by a switch interval beside one thread that computes."
    ),
)
