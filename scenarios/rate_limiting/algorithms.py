"""Most admitted in any trailing window W with the limit L: fixed window 2 L, sliding counter and token bucket 2 L - 1, GCRA L + B - 1, log L.

One adversary is the worst for all: L requests just before a window of the clock ends, then one every 10 ms for a whole window.  Within W of its
first request the fixed window starts a new count, the sliding counter lets the last window's weight fade (the L-th would need all of it to be
gone), the bucket refills L - 1 whole tokens, GCRA gives a burst and a slot for each T = W / L.

The other side is a client that keeps to the limit exactly but comes in bursts: L calls at once, and each again a little more than W later.  The
log, the bucket and the fixed window let all of them through.  The sliding counter still weighs the last burst almost fully, L (1 - p) + 1 > L for a
phase p < 1 / L, and refuses the second burst; GCRA lets B of each burst through and refuses L - B.
"""

import os
import time
from collections import deque
from typing import ClassVar

import gevent
import redis
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Kind, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import having, in_control

gcra = Arm("gcra")

LIMIT = 20  # LIMIT in all targets
WINDOW_S = 3  # WINDOW_S in all targets
BURST = 5  # BURST in gcra.py
LEAD_S = 0.12  # of the burst before the window's end; the sliding counter's last request comes at W (1 - 1 / L) = 2.85 s after it
POLL_S = 0.01
JITTER_S = 0.005  # between the client's clock readings and Redis's
MARGIN_S = 0.02  # by which the bursty client waits longer than it must; its bursts stay within W / L = 0.15 s of a window's start
ROUNDS = 2  # bursts of the bursty client
CLIENT = "acme"
KEY = {"X-API-Key": f"key-of-{CLIENT}"}
LOG_ENTRY_BYTES = 42  # 32 hexadecimal digits and an integer of 8 bytes, with one byte of encoding each at least
PROMISED = {"gcra": LIMIT + BURST - 1}  # where it is not LIMIT


class Adversary(LabUser):
    """Sends at the worst moments and counts what is admitted."""

    def journey(self) -> None:
        admitted: list[float] = []
        now = time.time()
        gevent.sleep((-now - LEAD_S) % WINDOW_S)
        begin = time.monotonic()
        edge = begin + -time.time() % WINDOW_S
        for _ in range(LIMIT):
            self.ask(admitted)
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:  # now, while the log holds the whole burst
            self.count("key_bytes", store.memory_usage(f"limit:{CLIENT}") or 0)
        while time.monotonic() < begin + WINDOW_S + LEAD_S:
            self.ask(admitted)
            gevent.sleep(POLL_S)
        span = WINDOW_S - JITTER_S
        self.count("most_in_window", max(sum(end - span < at <= end for at in admitted) for end in admitted))
        self.count("within_1s_of_edge", sum(edge - 0.02 < at <= edge + 1 for at in admitted))

    def ask(self, admitted: list[float]) -> None:
        """One request; its time is kept if it is let through."""
        at = time.monotonic()
        if self.get("/quotes/ACME", name="quote", headers=KEY).status == 200:
            admitted.append(at)


class Benign(LabUser):
    """Stays a little below the limit, evenly."""

    def journey(self) -> None:
        begin = time.monotonic()
        for number in range(LIMIT + BURST):
            gevent.sleep(max(0.0, begin + number * WINDOW_S / (LIMIT - 1) - time.monotonic()))
            self.count("refused", self.get("/quotes/ACME", name="quote", headers=KEY).status == 429)


class Bursty(LabUser):
    """Keeps to the limit: no call before the one that was 20 calls earlier has been answered for more than a window."""

    def journey(self) -> None:
        gevent.sleep(-time.time() % WINDOW_S + 0.01)  # just after a window of the clock has begun
        answered: deque[float] = deque(maxlen=LIMIT)
        for _ in range(ROUNDS * LIMIT):
            if len(answered) == LIMIT:
                gevent.sleep(max(0.0, answered[0] + WINDOW_S + MARGIN_S - time.monotonic()))
            status = self.get("/quotes/ACME", name="quote", headers=KEY).status
            answered.append(time.monotonic())
            self.count("refused", status == 429)


class Steady(LabUser):
    """Sends more than twice the limit; what was certainly admitted within one window is held against what the variant promises."""

    admitted: ClassVar[list[float]] = []  # when they were sent

    @task
    def read_quote(self) -> None:
        gevent.sleep(0.25)
        sent = time.monotonic()
        admitted = self.get("/quotes/ACME", name="quote", headers=KEY, expect=(200, 429)).status == 200
        if admitted:
            Steady.admitted.append(sent)
        # What was sent within the window that ends with this answer was also counted within one.
        within = sum(one > time.monotonic() - WINDOW_S for one in Steady.admitted)
        self.count("oversold", admitted and within > PROMISED.get(self.variant, LIMIT))


def attacked(condition: Condition, value: float) -> float | None:
    """``value`` under the adversary."""
    return value if condition.label == "adversary" else None


def bursty(condition: Condition, value: float) -> float | None:
    """``value`` for the client that keeps to the limit in bursts."""
    return value if condition.label == "bursty client" else None


def bound(claim_id: str, kind: Kind, statement: str, variant: str, most: int, formula: str, source: str) -> Claim:
    """The most that an algorithm admits in any window."""
    return Claim(
        claim_id,
        kind,
        statement,
        Arm(variant).observed("most_in_window"),
        predict=lambda c: attacked(c, float(most)),
        tolerance=0.0,
        formula=formula,
        source=source,
        headline="adversary",
    )


def refuses(claim_id: str, kind: Kind, statement: str, variant: str, refused: int, formula: str, source: str) -> Claim:
    """What an algorithm refuses of a client that keeps to the limit; one more or less where a burst takes its time."""
    return Claim(
        claim_id,
        kind,
        statement,
        Arm(variant).observed("refused"),
        predict=lambda c: bursty(c, float(refused)),
        tolerance=0.05 if refused else 0.0,
        formula=formula,
        source=source,
        headline="bursty client",
    )


CLOUDFLARE = "Cloudflare, Counting things, a lot of different things: the last window is taken as spread evenly"
BRANDUR = "Brandur Leach, Rate Limiting, Cells, and GCRA: one time, and a burst that may run ahead of it"

SCENARIO = Scenario(
    title="Rate-limit algorithms: a fixed window lets 2x the limit through",
    claim=(
        "At a limit of 20 in 3 s an attacker gets 40 from a fixed window, 39 from a sliding counter or a token "
        "bucket, 24 from GCRA, 20 from a log"
    ),
    parts=(4, 10),
    catalogue_ids=(
        "rl-fixed-window-2x",
        "rl-sliding-counter-worst",
        "rl-token-bucket-burst",
        "rl-sliding-log-exact",
        "rl-gcra",
    ),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S, "BURST": BURST},
    before_after=BeforeAfter(
        each.observed("most_in_window"),
        "requests let through within 3 s (limit 20)",
        "adversary",
        "A client times its requests against a limit of 20 in three seconds.",
    ),
    labels={
        "naive": "fixed window",
        "correct": "sliding log",
        "sliding_counter": "sliding-window counter",
        "token_bucket": "token bucket",
        "gcra": "GCRA, burst of 5",
    },
    symptoms=(
        "fixed window burst",
        "rate limit allows double",
        "sliding window counter",
        "token bucket",
        "leaky bucket",
        "GCRA",
        "429 Too Many Requests",
        "rate limit exceeded although below the limit",
        "Retry-After",
    ),
    conditions=(
        Condition("adversary", Journey(1), user="Adversary", params={"limit": LIMIT}, quick_pairs=1, drain_s=20.0),
        Condition("bursty client", Journey(1), user="Bursty", params={"limit": LIMIT}, quick_pairs=1, drain_s=20.0),
        Condition(
            "even client",
            Journey(1),
            user="Benign",
            params={"limit": LIMIT},
            quick_pairs=1,
            control=True,
            variants=("naive", "correct"),
        ),
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"oversold": each.observed("oversold")},
        variants=("correct", "gcra"),
    ),
    probes=(
        Probe("/quotes/ACME", headers={"X-API-Key": "key-of-probe"}, body={"symbol": "ACME", "price_cents": 1999}),
        Probe("/quotes/ACME", status=401),
        Probe("/quotes/ACME", headers={"X-API-Key": "made-up"}, status=401),
    ),
    claims=(
        bound(
            "fixed",
            "harm",
            "the fixed window admits twice the limit across its edge",
            "naive",
            2 * LIMIT,
            "2 x 20",
            "FastAPI Mastery, part 10: 100 at 59 s and 100 at 61 s",
        ),
        Claim(
            "edge_opens",
            "mechanism",
            "the second 20 are admitted within a second of the clock's edge, where the counter starts again",
            naive.observed("within_1s_of_edge"),
            predict=lambda c: attacked(c, float(LIMIT)),
            tolerance=0.0,
            formula="20: one request every 10 ms finds the new counter empty",
            source="the script's index of the window",
            headline="adversary",
        ),
        bound(
            "counter",
            "harm",
            "the sliding counter admits nearly twice the limit",
            "sliding_counter",
            2 * LIMIT - 1,
            "2 x 20 - 1",
            CLOUDFLARE,
        ),
        bound(
            "bucket",
            "harm",
            "the token bucket admits nearly twice the limit",
            "token_bucket",
            2 * LIMIT - 1,
            "20 at once + 19 whole tokens refilled within the window",
            "FastAPI Mastery, part 4: a bucket that is refilled steadily",
        ),
        bound(
            "log",
            "fix",
            "the log admits the limit",
            "correct",
            LIMIT,
            "20",
            "it keeps the time of each admitted request",
        ),
        bound("gcra", "fix", "GCRA admits the limit and its burst", "gcra", LIMIT + BURST - 1, "20 + 5 - 1", BRANDUR),
        Claim(
            "edge",
            "mechanism",
            "a client that stays below the limit evenly is not refused by the fixed window",
            naive.observed("refused"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="19 in any 3 s",
        ),
        Claim(
            "log_benign",
            "fix",
            "nor by the log",
            correct.observed("refused"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="19 in any 3 s",
        ),
        refuses(
            "log_refuses",
            "fix",
            "the log refuses nothing of a client that keeps the limit in bursts",
            "correct",
            0,
            "0",
            "each call finds the one that was 20 calls earlier gone",
        ),
        refuses(
            "bucket_refuses",
            "mechanism",
            "nor does the token bucket: it is full again after 3 s",
            "token_bucket",
            0,
            "0",
            "20 tokens in 3 s",
        ),
        refuses(
            "counter_refuses",
            "tax",
            "the sliding counter refuses half of these calls",
            "sliding_counter",
            LIMIT,
            "the second burst of 20: the first still weighs 20 x (1 - p) > 19 for p < 1/20",
            CLOUDFLARE,
        ),
        refuses(
            "gcra_refuses",
            "tax",
            "GCRA refuses three quarters of them",
            "gcra",
            ROUNDS * (LIMIT - BURST),
            "2 x (20 - 5)",
            BRANDUR,
        ),
        Claim(
            "log_bytes",
            "tax",
            "the log's key grows with the limit",
            correct.observed("key_bytes"),
            relation="at_least",
            predict=lambda c: attacked(c, float(LIMIT * LOG_ENTRY_BYTES)),
            tolerance=0.0,
            formula="20 x 42 bytes or more",
            source="Redis, listpack.c: 32 digits and 8 bytes of time for each entry, and their lengths",
        ),
        Claim(
            "gcra_bytes",
            "tax",
            "GCRA's key is one timestamp",
            gcra.observed("key_bytes"),
            relation="at_most",
            predict=lambda c: attacked(c, 150.0),
            tolerance=0.0,
            formula="one key with one number",
            source="Redis documentation, MEMORY USAGE: key, value and their overhead",
        ),
        Claim(
            "one_script",
            "tax",
            "the log costs one script per request, like the fixed window",
            correct.redis_calls_per_request("evalsha"),
            predict=having("limit", value=1.0),
            tolerance=0.05,
            formula="1",
            source="counted from the code: one EVALSHA, and no retry",
            headline="adversary",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("most_in_window"),
            (
                "An attacker gets {fixed:.0f} from the fixed window, {counter:.0f} from the counter, {bucket:.0f} "
                "from the bucket, {gcra:.0f} from GCRA, {log:.0f} from the log"
            ),
            y_label="most admitted in any 3 s (limit 20)",
            conditions=("adversary",),
            theory=("fixed", "counter", "bucket", "log", "gcra"),
        ),
        Chart(
            "counts",
            each.observed("refused"),
            (
                "Of 40 calls of a client that keeps the limit in bursts, GCRA refuses {gcra_refuses:.0f}, the "
                "sliding counter {counter_refuses:.0f}"
            ),
            y_label="calls refused, of 40",
            conditions=("bursty client",),
            theory=("log_refuses", "bucket_refuses", "counter_refuses", "gcra_refuses"),
        ),
        Chart(
            "counts",
            each.observed("key_bytes"),
            "The log takes {log_bytes:.0f} bytes per client, GCRA {gcra_bytes:.0f}",
            y_label="bytes in Redis for one client",
            conditions=("adversary",),
        ),
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "Each algorithm is {one_script:.0f} script per request: where its CPU goes",
            conditions=("adversary",),
        ),
    ),
    answer=(
        "At a limit of 20 requests in 3 s an attacker gets {fixed:.0f} from the fixed window, {counter:.0f} from the "
        "sliding counter, {bucket:.0f} from the token bucket, {gcra:.0f} from GCRA with a burst of 5, and {log:.0f} "
        "from the log. A client that keeps the limit in bursts of 20 loses {counter_refuses:.0f} of 40 calls to the "
        "sliding counter, {gcra_refuses:.0f} to GCRA and {log_refuses:.0f} to the log."
    ),
    disagrees_with_source=(
        "Part 4 gives the doubled quota to fixed windows alone. The sliding counter that is often recommended "
        "instead and the token bucket of part 4 let an attacker have 39 of 20: a bucket that was full is refilled "
        "while it is emptied."
    ),
)
