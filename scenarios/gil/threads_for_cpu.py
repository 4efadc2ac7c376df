"""k threads with the same pure Python work each take k times the time of one; k processes, or k threads in C code that lets go of the lock, take one.

Ratios are taken within a trial: two parts over one part of the same variant.  The event loop needs the lock at each wake-up and gets it after a
switch interval of 5 ms while a thread computes (Beazley 2010); the lab's timer in the loop sees that.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario

SWITCH_S = 0.005  # sys.getswitchinterval()
MOST_PARTS = 4  # MOST_PARTS in all targets
SIZE = 20_000


class Reader(LabUser):
    """One user who asks for one part and for two in turn."""

    asked = 0

    @task
    def read(self) -> None:
        self.asked += 1
        parts = 1 + self.asked % 2 if self.params["parts"] == 2 else 1
        path = f"/primes?parts={parts}&size={SIZE}" if self.params["parts"] else "/health"
        self.get(path, name=f"{parts} part{'s' if parts > 1 else ''}" if self.params["parts"] else "health")


def computing(condition: Condition, value: float) -> float | None:
    """``value`` where something is computed."""
    return value if condition.params["parts"] else None


SCENARIO = Scenario(
    title="Threads for CPU work",
    claim="Two threads that compute take twice as long as one; two processes, or two threads in C code that releases the GIL, take as long as one",
    parts=(13, 7),
    catalogue_ids=("gil-threads-cpu", "gil-io", "gil-release", "gil-convoy"),
    constants={"MOST_PARTS": MOST_PARTS},
    contract_differs="",
    conditions=(
        Condition("one part, then two", ClosedLoad(1), duration_s=2.0, warmup_s=0.5, params={"parts": 2}, quick_pairs=5),
        Condition("nobody computes", ClosedLoad(1), duration_s=1.0, params={"parts": 0}, variants=("naive", "correct"), control=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/primes?parts=1&size=100", ignore=("found",), body={"parts": 1})),
    claims=(
        Claim(
            "threads", "harm", "two threads take twice the time of one", "naive.latency_p50_s[2 parts] / naive.latency_p50_s[1 part]",
            predict=lambda c: computing(c, 2.0), tolerance=0.15, null=1.0,
            formula="k", source="one lock; claims gil-threads-cpu",
        ),
        Claim(
            "convoy", "mechanism", "meanwhile the loop wakes up a switch interval late", "naive.loop_lag_p50_s", relation="at_least",
            predict=lambda c: computing(c, 0.8 * SWITCH_S), tolerance=0.0,
            formula="5 ms, or most of it", source="claims gil-convoy", headline="one part, then two",
        ),
        Claim(
            "quiet", "mechanism", "where nobody computes it does not", "naive.loop_lag_p50_s", relation="at_most",
            predict=lambda c: SWITCH_S if c.control else None, tolerance=0.0, formula="less than 5 ms", source="nobody holds the lock",
        ),
        Claim(
            "released", "mechanism", "two threads in C code that releases the lock take the time of one",
            "released.latency_p50_s[2 parts] / released.latency_p50_s[1 part]",
            predict=lambda c: computing(c, 1.0), tolerance=0.35, null=2.0, formula="1 with two cores", source="claims gil-release",
        ),
        Claim(
            "processes", "fix", "two processes take the time of one", "correct.latency_p50_s[2 parts] / correct.latency_p50_s[1 part]",
            predict=lambda c: computing(c, 1.0), tolerance=0.35, null=2.0,
            formula="1 with two cores", source="a lock each; claims gil-threads-cpu",
        ),
        Claim(
            "memory", "tax", "each process is another interpreter", "correct.rss_peak_bytes / naive.rss_peak_bytes", relation="at_least",
            predict=lambda c: computing(c, 2.0), tolerance=0.25, null=1.0,
            formula="1 + 4 interpreters, at least 2", source="ours: a spawned process imports the application",
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
    ),
    answer="Two threads that compute take {threads:.2f} times as long as one, two processes {processes:.2f} times, two threads in C code that "
    "releases the lock {released:.2f} times; the event loop beside a computing thread is {convoy:.3f} s late.",
)  # fmt: skip
