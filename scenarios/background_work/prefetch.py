"""A node reserves c m jobs (c pool processes, multiplier m) beyond those that run when a job is acknowledged as it starts, none when late and m = 1.

Two nodes of one process, one long job first, then many short ones: the node with the long job takes m of them and keeps them until it is done.
Stranded are the short jobs that start after the long one has ended, while the other node had long been idle: m, exactly.  All is done m short jobs
later, after L + m s instead of L; of the two nodes' time 2 (L + m s) only L + N s was work, the rest is idle.
"""

import os
import time

import gevent
import redis

from lab.loadgen.users import LabUser
from lab.model import CeleryWorker, Chart, Claim, Condition, FinalRead, Journey, Probe, Scenario

LONG_S = 2.5
SHORT_S = 0.1
SHORT_JOBS = (
    16  # N: more than the node with the long job reserves, few enough for the other to end before the long job does
)
MOST_WAIT_S = 30.0
MULTIPLIER = {"naive": 4, "correct": 0, "tempting": 1}  # jobs reserved beyond the running one, per process


class Client(LabUser):
    """Queues the jobs, looks what the nodes have reserved while the long ones run, and waits for the end."""

    def journey(self) -> None:
        long_jobs = int(self.params["long_jobs"])
        for _ in range(long_jobs):
            self.queue(LONG_S)
        gevent.sleep(0.3)  # the long ones run by now
        for _ in range(SHORT_JOBS):
            self.queue(SHORT_S)
        gevent.sleep(0.5)  # the nodes have reserved what they can
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
            self.count("unacked", broker.hlen("unacked"))
        deadline = time.monotonic() + MOST_WAIT_S
        while self.get("/renderings", name="progress").json()["finished"] < long_jobs + SHORT_JOBS:
            if time.monotonic() > deadline:
                self.count("unfinished")
                return
            gevent.sleep(0.1)

    def queue(self, seconds: float) -> None:
        """One job."""
        self.post("/renderings", name="queue", json={"seconds": seconds})


def stranded(condition: Condition, value: float) -> float | None:
    """``value`` where a long job runs on one of two nodes."""
    return value if condition.params["nodes"] == 2 and condition.params["long_jobs"] else None


SCENARIO = Scenario(
    title="Jobs reserved behind a long one",
    claim="A Celery worker strands four jobs for each of its processes behind a long one, while others idle",
    parts=(16, 8),
    catalogue_ids=("ce-prefetch-stranding", "ce-prefetch-per-process", "ce-seed-config"),
    services=("postgres", "redis", "celery"),
    conditions=(
        Condition(
            "2 nodes, a long job first", Journey(1), celery=CeleryWorker(concurrency=1, workers=2), quick_pairs=1,
            params={"nodes": 2, "long_jobs": 1, "processes": 1},
        ),
        Condition(
            "1 node of 2 processes, both busy", Journey(1), celery=CeleryWorker(concurrency=2, workers=1), quick_pairs=1,
            params={"nodes": 1, "long_jobs": 2, "processes": 2},
        ),
        Condition(
            "2 nodes, short jobs only", Journey(1), celery=CeleryWorker(concurrency=1, workers=2), quick_pairs=1,
            params={"nodes": 2, "long_jobs": 0, "processes": 1}, control=True, variants=("naive", "correct"),
        ),
    ),
    probes=(Probe("/renderings", body={"finished": 0}, after=False), Probe("/renderings", method="POST", json={"seconds": -1}, status=422)),
    final_reads=(
        FinalRead(
            "stranded",
            sql="SELECT count(*) FROM runs WHERE seconds < 1 AND started_at >= "
            "coalesce((SELECT min(finished_at) FROM runs WHERE seconds > 1), 'infinity')",
        ),
        FinalRead("runs", sql="SELECT count(*) FROM runs"),
        FinalRead("makespan_s", sql="SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM runs"),
        FinalRead(
            "idle_s",
            sql="SELECT 2 * extract(epoch FROM max(finished_at) - min(started_at)) - sum(extract(epoch FROM finished_at - started_at)) FROM runs",
        ),
    ),
    claims=(
        Claim(
            "stranded", "harm", "four jobs wait behind the long one while the other node is idle", "naive.final[stranded]",
            predict=lambda c: stranded(c, MULTIPLIER["naive"]), tolerance=0.0, null=0.0,
            formula="m = 4", source="reserved = c m beyond what runs; claims ce-prefetch-stranding",
        ),
        Claim(
            "reserved", "mechanism", "a node of two processes has reserved eight", "naive.observed[unacked]",
            predict=lambda c: c.number("processes") * MULTIPLIER["naive"] if c.params["nodes"] == 1 else None, tolerance=0.0,
            formula="c m = 2 x 4", source="the running ones are acknowledged already; claims ce-prefetch-per-process",
        ),
        Claim(
            "makespan", "harm", "all is done four short jobs later", "naive.final[makespan_s]",
            predict=lambda c: stranded(c, LONG_S + MULTIPLIER["naive"] * SHORT_S), tolerance=0.06, null=LONG_S,
            formula="L + m s", source="they run after the long one, one after the other; claims ce-prefetch-stranding",
        ),
        Claim(
            "idle", "mechanism", "meanwhile the other node has nothing to do", "naive.final[idle_s]",
            predict=lambda c: stranded(c, LONG_S + (2 * MULTIPLIER["naive"] - SHORT_JOBS) * SHORT_S), tolerance=0.2,
            null=LONG_S - SHORT_JOBS * SHORT_S,
            formula="2 (L + m s) - (L + N s) node-seconds", source="what is reserved cannot be taken by anybody else",
        ),
        Claim(
            "none_long", "mechanism", "without a long job nothing is stranded", "naive.final[stranded]",
            predict=lambda c: 0.0 if c.control else None, tolerance=0.0,
            formula="0", source="the stock is used up at once",
        ),
        Claim(
            "still_one", "harm", "a multiplier of 1 alone still strands one", "tempting.final[stranded]",
            predict=lambda c: stranded(c, MULTIPLIER["tempting"]), tolerance=0.0,
            formula="m = 1", source="acknowledged as it starts, the running job does not count",
        ),
        Claim(
            "fixed", "fix", "with late acknowledgement none is stranded", "correct.final[stranded]",
            predict=lambda c: stranded(c, 0.0), tolerance=0.0,
            formula="c m - c = 0", source="the running job is the one that counts",
        ),
        Claim(
            "only_running", "fix", "and what is unacknowledged is what runs", "correct.observed[unacked]",
            predict=lambda c: c.number("processes") if c.params["nodes"] == 1 else None, tolerance=0.0,
            formula="c", source="claims ce-prefetch-per-process",
        ),
        Claim(
            "makespan_fixed", "fix", "and all is done when the long one is", "correct.final[makespan_s]",
            predict=lambda c: stranded(c, LONG_S), tolerance=0.06,
            formula="L, as N s is less", source="the other node has done all the short ones by then",
        ),
        Claim(
            "once", "tax", "every job ran once: late acknowledgement alone repeats nothing", "correct.final[runs]",
            predict=lambda c: SHORT_JOBS + c.number("long_jobs"), tolerance=0.0,
            formula="N", source="a repetition needs a crash or a job beyond the visibility timeout", headline="2 nodes, a long job first",
        ),
    ),
    charts=(
        Chart(
            "counts", "final[stranded]", "Behind one long job {stranded:.0f} wait while a node idles; acknowledged late, {fixed:.0f}",
            y_label="jobs started after the long one ended", conditions=("2 nodes, a long job first", "2 nodes, short jobs only"),
            theory=("stranded", "still_one", "fixed", "none_long"),
        ),
        Chart(
            "counts", "final[makespan_s]", "One long job and sixteen short ones take {makespan:.2f} s, acknowledged late {makespan_fixed:.2f} s",
            y_label="from the first start to the last end, s", conditions=("2 nodes, a long job first",), theory=("makespan", "makespan_fixed"),
        ),
        Chart(
            "counts", "observed[unacked]", "It is four for each process: a node of two has {reserved:.0f} in stock",
            y_label="jobs taken and not acknowledged", conditions=("1 node of 2 processes, both busy",), theory=("reserved", "only_running"),
        ),
    ),
    answer="Behind one long job {stranded:.0f} short ones wait while the other node idles (predicted {stranded.predicted:.0f}); a multiplier of 1 "
    "leaves {still_one:.0f}, with late acknowledgement {fixed:.0f}. All is done after {makespan:.2f} s instead of {makespan_fixed:.2f} s.",
    disagrees_with_source="Part 16 says that each worker thread reserves four: it is each pool process, so a node of two reserves eight. And "
    "setting the multiplier to 1 is half of the advice: without late acknowledgement one job a process is still stranded.",
)  # fmt: skip
