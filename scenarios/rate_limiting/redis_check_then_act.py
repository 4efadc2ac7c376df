"""C requests at once that read the counter before the first of them writes all pass, whatever the limit: C admitted instead of L.

Forced: every message to Redis takes 25 ms, so all reads are answered before the first write arrives.  Natural: nothing is slowed.  INCR first and
compare afterwards admits L, but sets the expiry with a second command: a process that dies between the two leaves a counter that never expires,
and its client is refused after L requests until somebody deletes the key.  A script does all of it at once.
"""

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    Event,
    FinalRead,
    Journey,
    Probe,
    Proxy,
    Scenario,
    Server,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import PASS, delay
from lab.words.predictions import in_control, under, where

tempting = Arm("tempting")
bucket = Arm("bucket")

LIMIT = 10  # LIMIT in all targets
WINDOW_S = 3  # WINDOW_S in all targets
CLIENTS = 50
SLOW_MS = 200.0  # each way to Redis, while one process is killed
KILL_S = 0.3  # the INCR has arrived (0.2 s), its reply has not (0.4 s)
ACME = {"X-API-Key": "key-of-acme"}
PROBE = {"X-API-Key": "key-of-probe"}
FORCED, NATURAL, FORCED_4, KILLED, ALONE = (
    "50 at once, forced",
    "50 at once, natural",
    "50 at once, forced, 4 workers",
    "killed after INCR",
    "20 one after the other",
)


class Client(LabUser):
    @task
    def read_quote(self) -> None:
        self.get("/quotes/ACME", name="quote", headers=ACME, expect=(200, 429))


class Victim(LabUser):
    """Its first request meets a process that dies; it uses up a limit, waits until the window must be over, and asks once more."""

    def journey(self) -> None:
        self.count("refused_for_good", 0)
        self.get("/quotes/ACME", name="killed", headers=ACME)
        for _ in range(100):
            if self.get("/health", name="health").status == 200:
                break
            gevent.sleep(0.1)
        for _ in range(2 * LIMIT):
            self.get("/quotes/ACME", name="quote", headers=ACME, expect=(200, 429))
        gevent.sleep(WINDOW_S + 0.3)
        last = self.get("/quotes/ACME", name="last", headers=ACME, expect=(200, 429))
        self.count("refused_for_good", last.status == 429)


class Steady(LabUser):
    """Comes so seldom that it must never be refused, but for a counter that does not expire."""

    @task
    def read_quote(self) -> None:
        gevent.sleep(0.8)
        reply = self.get("/quotes/ACME", name="quote", headers=ACME)
        self.count("refused", reply.status == 429)


def at_once(label: str, *, forced: bool, workers: int = 1, variants: tuple[str, ...] = ()) -> Condition:
    """Fifty requests of one client at one instant."""
    return Condition(
        label,
        Burst(CLIENTS, spread=workers > 1),
        user="Client",
        server=Server(workers=workers),
        proxy=Proxy("redis", delay(25)) if forced else None,
        forced=forced,
        params={"clients": CLIENTS},
        variants=variants,
        quick_pairs=1 if forced else 3,
    )


def together(condition: Condition) -> bool:
    """Whether fifty requests come at once."""
    return "clients" in condition.params


SCENARIO = Scenario(
    title="Rate limiter race in Redis: GET, compare, INCR lets everybody through",
    claim=(
        "50 requests at once all pass a limit of 10 that reads, compares and counts in three commands; one script lets 10 pass"
    ),
    parts=(4, 10),
    catalogue_ids=("rl-check-then-act", "rl-getset-bucket-race", "rl-incr-expire-split"),
    before_after=BeforeAfter(
        each.status_count("200"),
        "requests let through (limit 10)",
        FORCED,
        "One client sends fifty requests at the same instant; the limit is ten.",
    ),
    labels={
        "naive": "GET, compare, INCR",
        "correct": "one Lua script",
        "tempting": "INCR, then EXPIRE",
        "bucket": "token bucket: GET, SET",
    },
    symptoms=(
        "rate limit exceeded by concurrent requests",
        "race condition in rate limiter",
        "rate limiter lets too many through",
        "user blocked forever",
        "429 forever",
        "key without TTL",
        "TTL -1",
        "INCR EXPIRE not atomic",
        "token bucket redis race",
        "check-then-act",
        "429 Too Many Requests",
    ),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S},
    conditions=(
        at_once(FORCED, forced=True),
        at_once(NATURAL, forced=False),
        at_once(FORCED_4, forced=True, workers=4),
        Condition(
            KILLED,
            Journey(1),
            user="Victim",
            proxy=Proxy("redis", delay(SLOW_MS)),
            events=(
                Event(KILL_S, "kill", "server", label="the server is killed between INCR and EXPIRE"),
                Event(KILL_S + 0.1, "fault", statement=PASS, label="Redis is near again"),
                Event(KILL_S + 0.2, "start", "server", label="server starts again"),
            ),
            forced=True,
            quick_pairs=1,
            variants=("tempting", "correct"),
        ),
        Condition(
            ALONE,
            ClosedLoad(1, requests=2 * LIMIT),
            user="Client",
            control=True,
            quick_pairs=1,
            variants=("naive", "tempting", "correct"),
        ),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/quotes/ACME", headers=PROBE, body={"symbol": "ACME", "price_cents": 1999}),
        Probe("/quotes/ACME", status=401, headers={"X-API-Key": "nobody's"}),
    ),
    final_reads=(FinalRead("ttl_s", redis=("TTL", "limit:acme")),),
    claims=(
        Claim(
            "all_pass",
            "harm",
            "all who ask at once pass",
            naive.status_count("200"),
            predict=where(lambda c: together(c) and c.forced, float(CLIENTS)),
            tolerance=0.0,
            null=LIMIT,
            formula="C = 50",
            source="all reads are answered before the first write arrives",
            headline=FORCED,
        ),
        Claim(
            "too_many",
            "harm",
            "with nothing slowed more than the limit pass",
            naive.status_count("200"),
            relation="at_least",
            predict=under(NATURAL, value=LIMIT + 1.0),
            tolerance=0.0,
            formula="more than 10",
            source="the commands of requests in flight overlap",
        ),
        Claim(
            "bucket_passes",
            "harm",
            "a token bucket that is read, changed and written back lets as many pass",
            bucket.status_count("200"),
            predict=where(lambda c: together(c) and c.forced, float(CLIENTS)),
            tolerance=0.0,
            null=LIMIT,
            formula="C = 50",
            source="each takes the same token",
            headline=FORCED,
        ),
        Claim(
            "for_good",
            "harm",
            "after a crash between INCR and EXPIRE the client is refused from then on",
            tempting.observed("refused_for_good"),
            predict=under(KILLED, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1: no expiry, and 1 + 20 requests counted",
            source="Redis documentation, INCR, Pattern: Rate limiter 2: a client that fails in between leaves the key",
        ),
        Claim(
            "no_expiry",
            "mechanism",
            "its counter has no expiry",
            tempting.final("ttl_s"),
            predict=under(KILLED, value=-1.0),
            tolerance=0.0,
            formula="TTL = -1",
            source="Redis documentation, TTL: -1 is a key without an expiry",
        ),
        Claim(
            "alone",
            "mechanism",
            "one request after the other is limited by all of them",
            naive.status_count("200"),
            predict=in_control(float(LIMIT)),
            tolerance=0.0,
            formula="L = 10",
            source="nothing comes between reading and writing",
        ),
        Claim(
            "incr_first",
            "mechanism",
            "INCR first and compare afterwards lets the limit pass",
            tempting.status_count("200"),
            predict=where(together, float(LIMIT)),
            tolerance=0.0,
            null=CLIENTS,
            formula="L = 10",
            source="Redis documentation, INCR: each caller gets another number",
            headline=FORCED,
        ),
        Claim(
            "limit_holds",
            "fix",
            "one script lets the limit pass, whoever comes at once",
            correct.status_count("200"),
            predict=where(together, float(LIMIT)),
            tolerance=0.0,
            null=CLIENTS,
            formula="L = 10",
            source="Redis documentation, Scripting with Lua: a script runs whole",
            headline=FORCED_4,
        ),
        Claim(
            "not_for_good",
            "fix",
            "and after a crash the counter still expires",
            correct.observed("refused_for_good"),
            predict=under(KILLED, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source="the expiry is set in the same step",
        ),
        Claim(
            "round_trips",
            "tax",
            "it is one command for each request",
            correct.redis_calls("evalsha"),
            predict=in_control(2.0 * LIMIT),
            tolerance=0.0,
            formula="20 of 20",
            source="redis-py, register_script: EVALSHA, and SCRIPT LOAD once",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("200"),
            "Fifty at once, limit 10: GET, compare, INCR lets {all_pass:.0f} pass, one script {limit_holds:.0f}",
            y_label="requests let through",
            conditions=(FORCED, NATURAL, FORCED_4),
            theory=("all_pass", "limit_holds"),
        ),
        Chart(
            "counts",
            each.observed("refused_for_good"),
            "Killed between INCR and EXPIRE: the client is refused from then on; with a script it is not",
            y_label="clients refused after the window",
            conditions=(KILLED,),
            theory=("for_good", "not_for_good"),
        ),
    ),
    answer=(
        "Of 50 requests at once {all_pass:.0f} pass a limit of 10 that reads, compares and counts (predicted "
        "{all_pass.predicted:.0f}), {too_many:.0f} when nothing is slowed, and {limit_holds:.0f} with one script. INCR first is "
        "right until a process dies before its EXPIRE: then the client is refused until somebody deletes the key."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        users=2,
        ledger={"refused": each.observed("refused")},
    ),
)
