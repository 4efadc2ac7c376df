"""Builds of one report for each expiry, under lambda requests per second and with builds of D seconds.

Nothing done: the first to miss and all who come while it builds, 1 + lambda D; C when C come at one instant.  A lock: 1 while it outlives
the build, ceil(D / TTL) where it does not, and C D / poll looks at Redis by those who wait.  XFetch: a request t before the expiry builds with
probability e^(-t / (beta D)).  Counted from the start of a life, the first builder comes when the expected number of builders (lambda beta D
e^(-t / (beta D)) by then) has grown to an exponential variable of mean 1; in the D that the build needs it grows by the factor e^(1/beta), so
e^(1/beta) build, whatever lambda is - and all C where nobody came before the expiry.  The old one while a new one is built: 1, and nobody waits.
K reports stored together are due together, K builds at once; with lives spread over T (1 +- j) about K w / (2 j T) within w.

How sure: one refresh under XFetch is 1 + a Poisson number of mean E (e - 1), E exponential with mean 1: variance (e - 1) + (e - 1)^2 = 4.7.  Six
trials of 12 refreshes have a standard error of sqrt(4.7 / 72) = 0.26, so an interval of +- 0.66 (24 % of e): a tolerance of 40 % can hold it, and
tells e from 1 and from 1 + lambda D = 11.  Without protection it is sqrt(10 / 72) = 0.37, +- 0.96 (9 % of 11): a tolerance of 20 %.
"""

import math
import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    Condition,
    FinalRead,
    Journey,
    OpenLoad,
    Probe,
    Scenario,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive

locked = Arm("locked")
xfetch = Arm("xfetch")

BUILD_S = 0.1  # build_s in dataset.sql, with max_age_s 0.8
BURST_AGE_S = 0.4
LOCK_TTL_S = 0.25  # in locked.py
POLL_S = 0.02  # in locked.py
BETA = 1.0  # in xfetch.py
JITTER = 0.25  # in correct.py
READERS = 20  # of a burst: as many as POOL_SIZE, so that no build waits for a connection
POOL_SIZE = 20
TOGETHER = 20  # reports that are stored together
READS_EACH = 26  # of each of them, by class Each
KEYS = 3  # reports that are read steadily
RATE = 300.0  # a second, over KEYS reports: lambda D = 10 for each
MOST_SPREAD = 12  # see the claim "spread"

SLOW_BUILD = "UPDATE reports SET build_s = {}, max_age_s = {}"
LIVES_A_SECOND = "UPDATE reports SET build_s = 0.05, max_age_s = 1"


class Steady(LabUser):
    """Reads one of a few reports."""

    @task
    def read(self) -> None:
        self.get(f"/reports/region-{2 + self.rng.randrange(KEYS)}", name="report")


class AtOnce(LabUser):
    """Reads the report that the probe has left in the cache, when it has expired."""

    @task
    def read(self) -> None:
        reply = self.get("/reports/region-1", name="report")
        build_s = self.condition.number("build_s")
        self.count("waited", reply.latency_s > 0.8 * build_s)
        gevent.sleep(build_s + 0.2)  # an answer may come before the build that it has caused: that is counted, too

    def before_burst(self, k: int) -> None:
        """Let the report grow too old: what is tested is a real expiry, so its time must pass."""
        time.sleep(BURST_AGE_S * (1 + JITTER) + 0.2)


class Each(LabUser):
    """One report for each user, first read by all at one instant, and read on until it was built a second time."""

    def journey(self) -> None:
        begin = time.monotonic()
        self.read()
        for look in range(READS_EACH - 1):
            gevent.sleep(max(0.0, begin + 0.5 + look * 0.05 - time.monotonic()))
            self.read()

    def read(self) -> None:
        """Ask for this user's own report."""
        self.get(f"/reports/region-{2 + self.number}", name="report")


def burst(
    label: str,
    readers: int,
    build_s: float,
    *,
    quick: bool = True,
    control: bool = False,
    variants: tuple[str, ...] = (),
) -> Condition:
    """``readers`` at one instant for a report that has just expired."""
    return Condition(
        label,
        Burst(readers),
        user="AtOnce",
        params={"readers": readers, "build_s": build_s},
        setup_sql=SLOW_BUILD.format(build_s, BURST_AGE_S),
        quick=quick,
        quick_pairs=1,
        control=control,
        variants=variants,
    )


def in_burst(condition: Condition, value: float) -> float | None:
    """``value`` where all come at one instant."""
    return value if "readers" in condition.params else None


def lock_is_short(condition: Condition) -> bool:
    """Whether a build outlives the lock."""
    return float(condition.params.get("build_s", 0)) > LOCK_TTL_S


def steadily(condition: Condition, value: float) -> float | None:
    """``value`` under steady traffic."""
    return value if condition.user == "Steady" else None


def together(condition: Condition, value: float) -> float | None:
    """``value`` where the reports were stored together."""
    return value if condition.user == "Each" else None


SCENARIO = Scenario(
    title="Cache expiry: lock, XFetch or stale-while-revalidate",
    claim=(
        "20 requests at the expiry build one report 20 times, 3 times with a lock that is shorter than the build, "
        "and once if the old report is served meanwhile; XFetch (beta = 1) builds e = 2.7 times on average."
    ),
    before_after=BeforeAfter(
        each.sql_calls_per_burst("build"),
        "builds of one report",
        "20 at once",
        "Twenty requests ask for a report that has just expired.",
    ),
    labels={
        "naive": "no protection",
        "locked": "lock of 0.25 s",
        "xfetch": "XFetch, beta = 1",
        "correct": "stale-while-revalidate",
    },
    symptoms=(
        "cache stampede",
        "some requests are slow every few minutes",
        "p99 spike when the cache expires",
        "stale-while-revalidate",
        "probabilistic early expiration",
        "XFetch",
        "lock expires before the work is done",
        "TTL jitter",
        "cache avalanche",
        "database load on the hour",
        "requests wait for a lock in Redis",
        "redis.exceptions.LockNotOwnedError: Cannot release a lock that's no longer owned",
        "redis.exceptions.LockError: Unable to acquire lock within the time specified",
        "Task was destroyed but it is pending!",
    ),
    parts=(5, 11),
    catalogue_ids=("ca-xfetch", "ca-lock-herd", "ca-lock-ttl", "ca-ttl-avalanche", "ca-swr"),
    services=("postgres", "redis"),
    constants={"LOCK_TTL_S": LOCK_TTL_S, "POLL_S": POLL_S, "BETA": BETA, "JITTER": JITTER, "POOL_SIZE": POOL_SIZE},
    queries={"build": "SELECT%FROM build_report%"},
    final_reads=(
        # Builds of one refresh follow each other within a build; the next refresh begins a good part of a life later.  The first filled an empty
        # cache and the last may be cut by the end.
        FinalRead(
            "builds_per_refresh",
            sql="""
            WITH gaps AS (
                SELECT name, started_at, COALESCE(started_at - lag(started_at) OVER mine > interval '150 ms', true)::int AS first
                FROM report_builds WHERE name <> 'region-1' WINDOW mine AS (PARTITION BY name ORDER BY started_at)
            ), numbered AS (
                SELECT name, sum(first) OVER (PARTITION BY name ORDER BY started_at) AS refresh FROM gaps
            ), counted AS (
                SELECT name, refresh, count(*) AS builds, max(refresh) OVER (PARTITION BY name) AS last FROM numbered GROUP BY name, refresh
            )
            SELECT COALESCE(avg(builds), 0)::float FROM counted WHERE refresh > 1 AND refresh < last
            """,
        ),
        FinalRead(
            "peak",
            sql="""
            WITH again AS (
                SELECT started_at FROM report_builds
                WHERE name <> 'region-1'
                AND started_at > (SELECT min(started_at) + interval '400 ms' FROM report_builds WHERE name <> 'region-1')
            ), near AS (
                SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN CURRENT ROW AND interval '100 ms' FOLLOWING) AS builds FROM again
            )
            SELECT COALESCE(max(builds), 0) FROM near
            """,
        ),
        FinalRead(  # builds with two others of the same report under way (a build takes 100 ms): more than one for each of two workers
            "overbuilt",
            sql="""
            SELECT count(*) FROM (
                SELECT started_at - lag(started_at, 2) OVER (PARTITION BY name ORDER BY started_at) AS gap
                FROM report_builds WHERE name <> 'region-1'
            ) AS gaps WHERE gap < interval '90 ms'
            """,
        ),
    ),
    conditions=(
        burst("20 at once", READERS, 0.1),
        burst("20 at once, slow build", READERS, 0.6, variants=("naive", "locked", "correct")),
        burst("20 at once, slower build", READERS, 0.9, quick=False, variants=("locked", "correct")),
        burst("1 reader", 1, 0.1, control=True),
        Condition(
            "steady",
            OpenLoad(RATE, connections=64),
            duration_s=3.5,
            user="Steady",
            params={"lambda_d": RATE / KEYS * BUILD_S},
            variants=("naive", "xfetch"),
            quick_pairs=6,
        ),
        Condition(
            "steady, half the rate",
            OpenLoad(RATE / 2, connections=64),
            duration_s=10.0,
            user="Steady",
            params={"lambda_d": RATE / 2 / KEYS * BUILD_S},
            quick=False,
        ),
        Condition(
            "stored together",
            Journey(TOGETHER),
            user="Each",
            params={"reports": TOGETHER},
            setup_sql=LIVES_A_SECOND,
            variants=("naive", "correct"),
            quick_pairs=1,
        ),
    ),
    probes=(
        Probe("/reports/region-1", body={"name": "region-1"}, ignore=("body",)),
        Probe("/reports/nowhere", status=404),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"overbuilt": each.final("overbuilt")},
        variants=("correct",),
    ),
    claims=(
        Claim(
            "naive_burst",
            "harm",
            "C requests for an expired report make C builds",
            naive.sql_calls_per_burst("build"),
            predict=lambda c: in_burst(c, c.number("readers")) if "readers" in c.params else None,
            tolerance=0.0,
            formula="C",
            source="all look before the first has stored; Nishtala et al., NSDI 2013, section 3.2.1",
            headline="20 at once",
        ),
        Claim(
            "naive_steady",
            "harm",
            "under steady traffic each expiry makes 1 + lambda D builds",
            naive.final("builds_per_refresh"),
            predict=lambda c: steadily(c, 1 + c.number("lambda_d")) if "lambda_d" in c.params else None,
            tolerance=0.20,
            null=1.0,
            formula="1 + lambda D",
            source="the first, and all who come while it builds; tolerance: see above",
            headline="steady",
        ),
        Claim(
            "xfetch_steady",
            "mechanism",
            "XFetch makes e^(1/beta) builds on average, not one",
            xfetch.final("builds_per_refresh"),
            predict=lambda c: steadily(c, math.exp(1 / BETA)),
            tolerance=0.40,
            null=1.0,
            formula="e^(1/beta)",
            source="derived above from the rule of Vattani et al., VLDB 2015, for lambda D >> 1; tolerance: see above",
            headline="steady",
        ),
        Claim(
            "xfetch_burst",
            "harm",
            "XFetch does not help if nobody came before the expiry",
            xfetch.sql_calls_per_burst("build"),
            predict=lambda c: c.number("readers") if "readers" in c.params and not lock_is_short(c) else None,
            tolerance=0.0,
            formula="C",
            source="it refreshes in requests that come before the expiry; here there are none",
            headline="20 at once",
        ),
        Claim(
            "locked_burst",
            "mechanism",
            "with a lock one request builds, if the lock outlives the build",
            locked.sql_calls_per_burst("build"),
            predict=lambda c: None if lock_is_short(c) else in_burst(c, 1.0),
            tolerance=0.0,
            formula="1",
            source="Redis documentation, SET: with NX one caller wins",
            headline="20 at once",
        ),
        Claim(
            "locked_short",
            "harm",
            "a lock that is shorter than the build lets in one builder after another",
            locked.sql_calls_per_burst("build"),
            predict=lambda c: float(math.ceil(c.number("build_s") / LOCK_TTL_S)) if lock_is_short(c) else None,
            tolerance=0.0,
            null=1.0,
            formula="ceil(D / TTL)",
            source="Kleppmann, How to do distributed locking (2016)",
            headline="20 at once, slow build",
        ),
        Claim(
            "locked_waits",
            "harm",
            "with a lock all requests wait for the build",
            locked.observed("waited"),
            predict=lambda c: c.number("readers") if lock_is_short(c) else None,
            tolerance=0.0,
            formula="C",
            source="there is nothing else to serve",
            headline="20 at once, slow build",
        ),
        Claim(
            "locked_polls",
            "harm",
            "and look into Redis again and again",
            locked.redis_calls_per_burst("get"),
            null=0.0,
            predict=lambda c: c.number("readers") * c.number("build_s") / POLL_S if lock_is_short(c) else None,
            tolerance=0.25,
            formula="C D / poll",
            source=(
                "each sleeps 20 ms between two looks; the looks (two commands for each of 20 requests on one loop) "
                "take some milliseconds of each round, so there are up to a quarter fewer"
            ),
            headline="20 at once, slow build",
        ),
        Claim(
            "correct_burst",
            "fix",
            "one task of all workers builds",
            correct.sql_calls_per_burst("build"),
            predict=lambda c: in_burst(c, 1.0),
            tolerance=0.0,
            formula="1",
            source="the lock (3 s) outlives the time-outs of a build (0.5 + 1.2 + 0.5 s)",
            headline="20 at once",
        ),
        Claim(
            "correct_waits",
            "fix",
            "and nobody waits for it",
            correct.observed("waited"),
            predict=lambda c: 0.0 if lock_is_short(c) else None,
            tolerance=0.0,
            formula="0",
            source="RFC 5861: the old report is served",
            headline="20 at once, slow build",
        ),
        Claim(
            "avalanche",
            "harm",
            "reports that were stored together are built again together",
            naive.final("peak"),
            predict=lambda c: together(c, TOGETHER),
            tolerance=0.0,
            formula="K",
            source="one TTL for all",
        ),
        Claim(
            "spread",
            "fix",
            "with lives of T (1 +- 25 %) the builds are spread",
            correct.final("peak"),
            relation="at_most",
            predict=lambda c: together(c, MOST_SPREAD),
            tolerance=0.0,
            formula="K w / (2 j T) = 4 on average, its peak at most 12",
            source=(
                "simulated: of 20,000 draws of 20 reports with j = 0.25, T = 1 s, w = 0.1 s one in a thousand has a "
                "peak above 12"
            ),
        ),
        Claim(
            "correct_looks",
            "tax",
            "a hit reads two keys in one command; each build reads them once more",
            correct.redis_calls("mget") / correct.requests_ok("report"),
            predict=lambda c: together(c, 1 + 2 / READS_EACH),
            tolerance=0.05,
            formula="1 + builds / reads = 1 + 2 / 26",
            source="26 reads of each report, two builds of it: the first, and one after its expiry",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.sql_calls_per_burst("build"),
            (
                "20 requests built one report {naive_burst:.0f} times, with a short lock {locked_short:.0f}, serving "
                "the old one {correct_burst:.0f}"
            ),
            y_label="builds per expiry",
            conditions=("20 at once", "20 at once, slow build", "1 reader"),
            theory=("naive_burst", "xfetch_burst", "locked_burst", "locked_short", "correct_burst"),
        ),
        Chart(
            "counts",
            each.final("builds_per_refresh"),
            (
                "Steady traffic: {naive_steady:.1f} builds per expiry without protection, {xfetch_steady:.1f} with "
                "XFetch (theory: e = 2.7)"
            ),
            y_label="builds per expiry",
            conditions=("steady", "steady, half the rate"),
            theory=("naive_steady", "xfetch_steady"),
        ),
        Chart(
            "counts",
            each.observed("waited"),
            (
                "A build of 0.6 s: with the lock {locked_waits:.0f} of 20 requests wait, with the old report "
                "{correct_waits:.0f}"
            ),
            y_label="requests that waited for a build",
            conditions=("20 at once, slow build",),
            theory=("locked_waits", "correct_waits"),
        ),
        Chart(
            "counts",
            each.final("peak"),
            "20 reports stored together: {avalanche:.0f} builds within 100 ms; with a random TTL {spread:.0f}",
            y_label="most builds within 100 ms",
            conditions=("stored together",),
            theory=("avalanche", "spread"),
        ),
    ),
    answer=(
        "When a report expires, 20 requests build it {naive_burst:.0f} times, {locked_short:.0f} times with a lock "
        "shorter than the build, and {correct_burst:.0f} time if the old one is served meanwhile; XFetch takes "
        "{xfetch_steady:.1f} builds (theory: e = 2.7)."
    ),
    disagrees_with_source=(
        "Part 11 says that a distributed lock silences the herd. It leaves one build only while the lock outlives "
        "the build, and the herd does not go away: it waits, and asks Redis every 20 ms. XFetch is often said to "
        "leave exactly one build; it leaves e^(1/beta) on average, and does nothing if all requests come after the "
        "expiry."
    ),
)
