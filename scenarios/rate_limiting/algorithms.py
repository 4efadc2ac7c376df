"""Most admitted in any trailing window W with the limit L: fixed window 2 L, sliding counter and token bucket 2 L - 1, GCRA L + B - 1, log L.

One adversary is the worst for all: L requests just before a window of the clock ends, then one every 10 ms for a whole window.  Within W of its
first request the fixed window starts a new count, the sliding counter lets the last window's weight fade (the L-th would need all of it to be
gone), the bucket refills L - 1 whole tokens, GCRA gives a burst and a slot for each T = W / L.
"""

import os
import time

import gevent
import redis

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, Condition, Journey, Probe, Scenario

LIMIT = 20  # LIMIT in all targets
WINDOW_S = 3  # WINDOW_S in all targets
BURST = 5  # BURST in gcra.py
LEAD_S = 0.12  # of the burst before the window's end; the sliding counter's last request comes at W (1 - 1 / L) = 2.85 s after it
POLL_S = 0.01
JITTER_S = 0.005  # between the client's clock readings and Redis's
KEY = "adversary"
LOG_ENTRY_BYTES = 42  # of a sorted set in Redis 7 and newer, at least; claims rl-gcra


class Adversary(LabUser):
    """Sends at the worst moments and counts what is admitted."""

    def journey(self) -> None:
        admitted: list[float] = []
        now = time.time()
        gevent.sleep((-now - LEAD_S) % WINDOW_S)
        begin = time.monotonic()
        for _ in range(LIMIT):
            self.ask(admitted)
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:  # now, while the log holds the whole burst
            self.count("key_bytes", store.memory_usage(f"limit:{KEY}") or 0)
        while time.monotonic() < begin + WINDOW_S + LEAD_S:
            self.ask(admitted)
            gevent.sleep(POLL_S)
        span = WINDOW_S - JITTER_S
        self.count("most_in_window", max(sum(end - span < at <= end for at in admitted) for end in admitted))

    def ask(self, admitted: list[float]) -> None:
        """One request; its time is kept if it is let through."""
        at = time.monotonic()
        if self.get("/quotes/ACME", name="quote", headers={"X-API-Key": KEY}).status == 200:
            admitted.append(at)


class Benign(LabUser):
    """Stays a little below the limit, evenly."""

    def journey(self) -> None:
        begin = time.monotonic()
        for number in range(LIMIT + BURST):
            gevent.sleep(max(0.0, begin + number * WINDOW_S / (LIMIT - 1) - time.monotonic()))
            self.count("refused", self.get("/quotes/ACME", name="quote", headers={"X-API-Key": "benign"}).status == 429)


def attacked(condition: Condition, value: float) -> float | None:
    """``value`` under the adversary."""
    return None if condition.control else value


def bound(claim_id: str, kind: str, statement: str, variant: str, most: int, formula: str, source: str) -> Claim:
    """The most that an algorithm admits in any window."""
    return Claim(
        claim_id, "fix" if kind == "fix" else "harm", statement, f"{variant}.observed[most_in_window]",
        predict=lambda c: attacked(c, float(most)), tolerance=0.0, formula=formula, source=source,
    )  # fmt: skip


SCENARIO = Scenario(
    title="Five ways to count to twenty",
    claim="Of five limiters of L requests a window only the log admits L: fixed window 2 L, sliding counter and token bucket 2 L - 1",
    parts=(4, 10),
    catalogue_ids=("rl-fixed-window-2x", "rl-sliding-counter-worst", "rl-token-bucket-burst", "rl-sliding-log-exact", "rl-gcra"),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S, "BURST": BURST},
    conditions=(
        Condition("adversary", Journey(1), user="Adversary", params={"limit": LIMIT}, quick_pairs=1, drain_s=20.0),
        Condition("benign client", Journey(1), user="Benign", params={"limit": LIMIT}, quick_pairs=1, control=True, variants=("naive", "correct")),
    ),
    probes=(Probe("/quotes/ACME", headers={"X-API-Key": "a-probe"}, body={"symbol": "ACME", "price_cents": 1999}), Probe("/quotes/ACME", status=422)),
    claims=(
        bound("fixed", "harm", "the fixed window admits twice the limit across its edge", "naive", 2 * LIMIT, "2 L", "claims rl-fixed-window-2x"),
        bound("counter", "harm", "the sliding counter nearly twice", "sliding_counter", 2 * LIMIT - 1, "2 L - 1", "claims rl-sliding-counter-worst"),
        bound("bucket", "harm", "the token bucket nearly twice", "token_bucket", 2 * LIMIT - 1, "L + floor(r W-) = 2 L - 1",
              "full at first, and it refills; claims rl-token-bucket-burst"),
        bound("log", "fix", "the log admits the limit", "correct", LIMIT, "L", "it keeps the times; claims rl-sliding-log-exact"),
        bound("gcra", "fix", "GCRA admits the limit and its burst", "gcra", LIMIT + BURST - 1, "L + B - 1 in W-", "claims rl-gcra"),
        Claim(
            "edge", "mechanism", "a client below the limit is never refused by either", "naive.observed[refused]",
            predict=lambda c: 0.0 if c.control else None, tolerance=0.0, formula="0", source="the difference is what an adversary finds",
        ),
        Claim(
            "log_benign", "fix", "nor by the log", "correct.observed[refused]",
            predict=lambda c: 0.0 if c.control else None, tolerance=0.0, formula="0", source="19 in any window",
        ),
        Claim(
            "log_bytes", "tax", "the log's key is as large as the limit", "correct.observed[key_bytes]", relation="at_least",
            predict=lambda c: attacked(c, float(LIMIT * LOG_ENTRY_BYTES)), tolerance=0.0,
            formula="L x 42 bytes or more", source="claims rl-sliding-log-exact, rl-gcra",
        ),
        Claim(
            "gcra_bytes", "tax", "GCRA's is one timestamp", "gcra.observed[key_bytes]", relation="at_most",
            predict=lambda c: attacked(c, 150.0), tolerance=0.0, formula="one key with a number", source="MEMORY USAGE; claims rl-gcra",
        ),
        Claim(
            "one_script", "tax", "each costs one script a request, like the fixed window", "correct.redis_calls_per_request[evalsha]",
            predict=lambda c: 1.0, tolerance=0.05, formula="1", source="EVALSHA",
        ),
    ),
    charts=(
        Chart(
            "counts", "observed[most_in_window]",
            "All promise 20 in 3 s; an adversary gets {fixed:.0f}, {counter:.0f}, {bucket:.0f}, {gcra:.0f} and {log:.0f}",
            y_label="most admitted in any 3 s", conditions=("adversary",), theory=("fixed", "counter", "bucket", "log", "gcra"),
        ),
        Chart(
            "counts", "observed[key_bytes]", "Being exact costs memory: {log_bytes:.0f} bytes a client, GCRA {gcra_bytes:.0f}",
            y_label="bytes in Redis for one client", conditions=("adversary",),
        ),
        Chart("cpu", "cpu_s_per_request", "Each is {one_script:.0f} script a request: where its CPU goes", conditions=("adversary",)),
    ),
    answer="Of five limiters that promise 20 requests in 3 s an adversary gets {fixed:.0f} from the fixed window, {counter:.0f} from the "
    "sliding counter, {bucket:.0f} from the token bucket, {gcra:.0f} from GCRA with a burst of 5, and {log:.0f} from the log.",
    disagrees_with_source="Part 4 gives the doubled quota to fixed windows alone. The sliding counter that is often recommended instead and the "
    "token bucket of part 4 let an adversary have 2 L - 1: a bucket that was full refills while it is emptied.",
)  # fmt: skip
