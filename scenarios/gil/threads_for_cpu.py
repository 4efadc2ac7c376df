"""k threads with the same pure Python work each take k times the time of one; k processes, or k threads in C code that lets go of the lock, take one.

Ratios are taken within a trial: two parts over one part of the same variant.  The event loop needs the lock at each wake-up and gets it after
a switch interval of 5 ms while a thread computes (Beazley 2010); the lab's timer in the loop sees that.  A shorter interval makes the loop less
late and the work no faster.  Subinterpreters (3.13) have a lock each, the free-threaded build (3.14t) has none.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Upstream

SWITCH_S = 0.005  # sys.getswitchinterval()
SHORT_SWITCH_S = 0.0005  # SWITCH_INTERVAL_S in tempting.py
MOST_PARTS = 4  # MOST_PARTS in all targets
SIZE = 12_000
SUPPLIER_S = 0.05


class Reader(LabUser):
    """One user who asks for one part and for two in turn."""

    asked = 0

    @task
    def read(self) -> None:
        self.asked += 1
        parts = 1 + self.asked % 2 if self.params["parts"] == 2 else 1
        path = f"/primes?parts={parts}&size={SIZE}" if self.params["parts"] else "/health"
        self.get(path, name=f"{parts} part{'s' if parts > 1 else ''}" if self.params["parts"] else "health")


def parts(label: str, *variants: str, python: str = "", pairs: int = 3) -> Condition:
    """One part, then two, over and over."""
    return Condition(
        label, ClosedLoad(1), duration_s=2.0, warmup_s=1.0, upstream=Upstream(SUPPLIER_S) if "waiting" in variants else None,
        params={"parts": 2}, variants=variants, python=python, quick_pairs=pairs, cores=2,
    )  # fmt: skip


def where(condition: Condition, variant: str, value: float) -> float | None:
    """``value`` where this variant has work to do."""
    return (
        value if condition.params["parts"] and variant in condition.variants and condition.python != "3.14t" else None
    )


SCENARIO = Scenario(
    title="Threads for CPU work",
    claim="Two threads that compute take twice as long as one; two processes, or two threads in C code that releases the GIL, take as long as one",
    parts=(13, 7),
    catalogue_ids=("gil-threads-cpu", "gil-io", "gil-release", "gil-convoy", "gil-subinterp", "gil-3.13-claim"),
    services=("upstream",),
    constants={"MOST_PARTS": MOST_PARTS, "SWITCH_INTERVAL_S": SHORT_SWITCH_S},
    conditions=(
        parts("one part, then two", "naive", "correct", "released", "tempting", pairs=4),
        parts("waiting for a supplier", "waiting"),
        parts("Python 3.13", "naive", "subinterpreters", python="3.13"),
        parts("free-threaded Python 3.14", "naive", python="3.14t"),
        Condition(
            "nobody computes", ClosedLoad(1), duration_s=0.8, params={"parts": 0}, variants=("naive", "correct"), control=True, quick_pairs=1,
        ),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/primes?parts=1&size=100", ignore=("found",), body={"parts": 1})),
    claims=(
        Claim(
            "threads", "harm", "two threads take twice the time of one", "naive.latency_p50_s[2 parts] / naive.latency_p50_s[1 part]",
            predict=lambda c: where(c, "naive", 2.0), tolerance=0.15, null=1.0,
            formula="k", source="one lock; claims gil-threads-cpu", headline="one part, then two",
        ),
        Claim(
            "convoy", "mechanism", "meanwhile the loop wakes up a switch interval late", "naive.loop_lag_p50_s", relation="at_least",
            predict=lambda c: where(c, "naive", 0.8 * SWITCH_S), tolerance=0.0,
            formula="5 ms, or most of it", source="claims gil-convoy", headline="one part, then two",
        ),
        Claim(
            "quiet", "mechanism", "where nobody computes it does not", "naive.loop_lag_p50_s", relation="at_most",
            predict=lambda c: SWITCH_S if c.control else None, tolerance=0.0, formula="less than 5 ms", source="nobody holds the lock",
        ),
        Claim(
            "punctual", "mechanism", "with a tenth of the switch interval it is less than half as late",
            "tempting.loop_lag_p50_s / naive.loop_lag_p50_s", relation="at_most",
            predict=lambda c: where(c, "tempting", 0.5), null=1.0,
            formula="0.5 ms / 5 ms, and what a turn of the loop takes", source="sys.setswitchinterval; claims gil-convoy",
        ),
        Claim(
            "no_faster", "harm", "and two threads take twice the time of one as before",
            "tempting.latency_p50_s[2 parts] / tempting.latency_p50_s[1 part]",
            predict=lambda c: where(c, "tempting", 2.0), tolerance=0.15, null=1.0, formula="k", source="it is still one lock",
        ),
        Claim(
            "released", "mechanism", "two threads in C code that releases the lock take the time of one",
            "released.latency_p50_s[2 parts] / released.latency_p50_s[1 part]",
            predict=lambda c: where(c, "released", 1.0), tolerance=0.35, null=2.0, formula="1 with two cores", source="claims gil-release",
        ),
        Claim(
            "waiting", "mechanism", "and so do two threads that wait: I/O is hardly affected",
            "waiting.latency_p50_s[2 parts] / waiting.latency_p50_s[1 part]",
            predict=lambda c: where(c, "waiting", 1.0), tolerance=0.15, null=2.0,
            formula="1", source="part 13; a blocking call releases the lock; claims gil-io",
        ),
        Claim(
            "processes", "fix", "two processes take the time of one", "correct.latency_p50_s[2 parts] / correct.latency_p50_s[1 part]",
            predict=lambda c: where(c, "correct", 1.0), tolerance=0.35, null=2.0,
            formula="1 with two cores", source="a lock each; claims gil-threads-cpu",
        ),
        Claim(
            "interpreters", "fix", "so do two subinterpreters of one process, where what they run can be imported",
            "subinterpreters.latency_p50_s[2 parts] / subinterpreters.latency_p50_s[1 part]",
            predict=lambda c: where(c, "subinterpreters", 1.0), tolerance=0.35, null=2.0,
            formula="1 with two cores", source="PEP 684, a lock each; claims gil-subinterp",
        ),
        Claim(
            "free", "fix", "and two threads without the lock", "naive.latency_p50_s[2 parts] / naive.latency_p50_s[1 part]",
            predict=lambda c: 1.0 if c.python == "3.14t" else None, tolerance=0.35, null=2.0,
            formula="1 with two cores", source="PEP 703 and 779; claims gil-3.13-claim",
        ),
        Claim(
            "memory", "tax", "each process is another interpreter", "correct.rss_peak_bytes / naive.rss_peak_bytes", relation="at_least",
            predict=lambda c: where(c, "correct", 2.0), tolerance=0.25, null=1.0,
            formula="1 + 4 interpreters, at least 2", source="ours: a spawned process imports the application",
        ),
        Claim(
            "memory_of_interpreters", "tax", "a subinterpreter that imports nothing is a small one",
            "subinterpreters.rss_peak_bytes / naive.rss_peak_bytes", relation="at_most",
            predict=lambda c: where(c, "subinterpreters", 1.5), tolerance=0.1, null=1.0,
            formula="1 + 4 interpreters of a few MB", source="ours: without FastAPI an interpreter holds its builtins",
        ),
    ),
    charts=(
        Chart(
            "counts", "latency_p50_s[2 parts]", "Twice the work in two threads takes {threads:.1f} times the time, in two processes {processes:.1f}",
            y_label="median time of two parts, s", conditions=("one part, then two",),
        ),
        Chart(
            "timeline", "loop_lag_max_s", "While a thread computes the loop is {convoy:.3f} s late at each turn", conditions=("one part, then two",),
            y_label="longest lateness of the loop, s",
        ),
        Chart(
            "counts", "latency_p50_s[2 parts]", "Subinterpreters (3.13) have a lock each: two parts take {interpreters:.1f} times the time of one",
            y_label="median time of two parts, s", conditions=("Python 3.13",),
        ),
        Chart(
            "counts", "loop_lag_p50_s", "A tenth of the switch interval leaves {punctual:.2f} of the loop's lateness, and the work is no faster",
            y_label="median lateness of the loop, by time, s", conditions=("one part, then two",),
        ),
    ),
    answer="Two threads that compute take {threads:.2f} times as long as one, two processes {processes:.2f} times, two threads in C code that "
    "releases the lock {released:.2f}, two subinterpreters {interpreters:.2f}; the event loop beside a computing thread is {convoy:.3f} s late.",
    disagrees_with_source="Part 13 says that Python 3.13 makes the GIL optional. It does so in a build of its own, which is experimental in 3.13 and "
    "supported from 3.14 on (PEP 779). And I/O is barely affected by other I/O, but each of its wake-ups is late by a switch interval beside one "
    "thread that computes.",
)  # fmt: skip
