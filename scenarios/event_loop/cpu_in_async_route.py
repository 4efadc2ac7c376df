"""A computation of t on the event loop: 1 / t answers a second for any number of users, and whoever comes meanwhile waits for what is queued.

The victim is a health check at fixed instants beside C users who log in: with C logins in the queue it waits for up to C t.  t is not known
in advance (it is this machine's PBKDF2), so what is claimed are ratios of paired trials or of phases of one, and what the loop's own clock says.
"""

import os
import time

import gevent
from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Server

ITERATIONS = 100_000  # ITERATIONS in all targets
LEAST_S = 0.010  # of them on any machine of these years; half a twentieth is usual
HEALTH_EVERY_S = 0.02
RIGHT = {"password": "correct horse"}
CORES = os.cpu_count() or 1
PHASE_S = 0.6
GAP_S = 0.25  # who was in the queue is done by then
ROUNDS = 3
ALONE, TOGETHER = 1, 4  # users who log in at once; the two take turns


class Crowd(LabUser):
    """User 0 checks the health and rests, the others log in as fast as they are served."""

    @task
    def act(self) -> None:
        if self.number == 0:
            self.get("/health", name="health")
            gevent.sleep(HEALTH_EVERY_S)
        else:
            self.post("/sessions", name="login", json=RIGHT)


class Turns(LabUser):
    """One logs in as fast as the answers come, then four do, over and over for as long: what is answered within a turn counts."""

    def journey(self) -> None:
        begin = time.monotonic()
        for turn, users in enumerate((ALONE, TOGETHER) * ROUNDS):
            gevent.sleep(max(0.0, begin + turn * (PHASE_S + GAP_S) - time.monotonic()))
            end = time.monotonic() + PHASE_S
            while self.number < users and time.monotonic() < end:
                self.post("/sessions", name="login", json=RIGHT)
                self.count(f"answered_to_{users}", time.monotonic() < end)


def crowd(
    label: str,
    users: int,
    *,
    workers: int = 1,
    control: bool = False,
    quick: bool = True,
    variants: tuple[str, ...] = ("naive", "correct", "tempting"),
    quick_pairs: int | None = None,
) -> Condition:
    """So many users who log in, and one who checks the health; the connections are spread evenly over several workers."""
    return Condition(
        label, ClosedLoad(users + 1, spread=workers > 1), duration_s=2.0 if users else 1.2, warmup_s=0.4, server=Server(workers=workers),
        user="Crowd", params={"users": users, "workers": workers}, control=control, quick=quick, variants=variants, quick_pairs=quick_pairs,
        duet=not users,
    )  # fmt: skip


def busy(condition: Condition, value: float) -> float | None:
    """``value`` where four log in at one worker."""
    return value if condition.user == "Crowd" and condition.number("users") == 4 and condition.workers == 1 else None


def by_turns(condition: Condition, value: float) -> float | None:
    """``value`` where one and four log in by turns."""
    return value if condition.user == "Turns" else None


SCENARIO = Scenario(
    title="CPU work in an async route",
    claim="A password check in an async route holds the event loop: logins do not get faster with users, and the health check waits for all of them",
    parts=(7, 13),
    catalogue_ids=("asx-cpu-no-gain", "asx-pbkdf2-block", "as-heartbeat-lies"),
    constants={"ITERATIONS": ITERATIONS},
    conditions=(
        crowd("4 users log in", 4),
        crowd("nobody logs in", 0, control=True, variants=("naive", "correct")),
        Condition(
            "1 and 4 by turns", Journey(TOGETHER), user="Turns", params={"users": 0, "workers": 1}, variants=("naive", "correct", "processes"),
            cores=2,
        ),
        crowd("4 users log in, 2 workers", 4, workers=2, variants=("naive",), quick_pairs=1),
        crowd("8 users log in", 8, quick=False),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}), Probe("/sessions", method="POST", json=RIGHT, status=204),
        Probe("/sessions", method="POST", json={"password": "wrong"}, status=401),
    ),
    claims=(
        Claim(
            "victim", "harm", "a health check waits at least ten times as long",
            "naive.latency_p50_s[health] / correct.latency_p50_s[health]",
            relation="at_least", predict=lambda c: busy(c, 10.0), null=1.0,
            formula="up to C t against a turn of the loop", source="claims asx-pbkdf2-block, as-heartbeat-lies",
        ),
        Claim(
            "flat", "harm", "four users get no more logins a second than one", "naive.observed[answered_to_4] / naive.observed[answered_to_1]",
            predict=lambda c: by_turns(c, 1.0), tolerance=0.15, null=float(TOGETHER),
            formula="1: 1 / t for any C", source="a queue with one server; claims asx-cpu-no-gain",
        ),
        Claim(
            "workers", "harm", "two workers do not end it: each loop still stands for whole checks", "naive.loop_lag_max_s", relation="at_least",
            predict=lambda c: LEAST_S if c.workers > 1 else None, tolerance=0.0,
            formula="t, at least 10 ms", source="the same queue, twice", headline="4 users log in, 2 workers",
        ),
        Claim(
            "loop", "mechanism", "the loop stands still for a whole check", "naive.loop_lag_max_s", relation="at_least",
            predict=lambda c: busy(c, LEAST_S), tolerance=0.0,
            formula="t, at least 10 ms", source="no await in between", headline="4 users log in",
        ),
        Claim(
            "idle_loop", "mechanism", "with nobody logging in both answer the health check alike",
            "naive.latency_p50_s[health] / correct.latency_p50_s[health]", predict=lambda c: 1.0 if c.control else None, tolerance=0.5, null=None,
            formula="1", source="the same route",
        ),
        Claim(
            "yields", "harm", "giving way once does not help: the health check waits as before",
            "tempting.latency_p50_s[health] / correct.latency_p50_s[health]", relation="at_least", predict=lambda c: busy(c, 5.0), null=1.0,
            formula="the loop is held for t", source="asyncio.sleep(0) is one turn",
        ),
        Claim(
            "threads", "fix", "in a thread the loop is never held for a whole check", "correct.loop_lag_max_s / naive.loop_lag_max_s",
            relation="at_most", predict=lambda c: busy(c, 0.5), null=1.0,
            formula="less than half", source="PBKDF2 releases the GIL; claims gil-release",
        ),
        Claim(
            "cores", "fix", "four users get as many logins as there are cores for",
            "correct.observed[answered_to_4] / correct.observed[answered_to_1]",
            predict=lambda c: by_turns(c, float(min(CORES, TOGETHER))), tolerance=0.3, null=1.0,
            formula="min(cores, C)", source="PBKDF2 releases the GIL; claims asx-cpu-no-gain",
        ),
        Claim(
            "cores_of_processes", "fix", "in processes too", "processes.observed[answered_to_4] / processes.observed[answered_to_1]",
            predict=lambda c: by_turns(c, float(min(CORES, TOGETHER))), tolerance=0.3, null=1.0,
            formula="min(cores, C)", source="another process has another GIL",
        ),
        Claim(
            "no_slower", "fix", "and logins get no slower", "correct.throughput_rps[login] / naive.throughput_rps[login]", relation="at_least",
            predict=lambda c: busy(c, 1.0), tolerance=0.2, null=None,
            formula="1, up to the cores that are free", source="claims asx-cpu-no-gain",
        ),
        Claim(
            "processes", "fix", "processes free the loop as well", "processes.loop_lag_max_s / naive.loop_lag_max_s", relation="at_most",
            predict=lambda c: by_turns(c, 0.5), null=1.0, formula="less than half", source="another process has another GIL",
        ),
        Claim(
            "cpu", "tax", "a thread costs hardly more CPU a login", "correct.cpu_server_s_per_request / naive.cpu_server_s_per_request",
            relation="at_most", predict=lambda c: by_turns(c, 1.1), null=1.0,
            formula="1 + 0.1 ms / t, below 1.1", source="ours: a hand-over takes 0.05 to 0.1 ms, a check tens of milliseconds",
        ),
    ),
    charts=(
        Chart(
            "ecdf", "latency", "Behind password checks the health check waits {victim:.0f} times as long", log_x=True,
            conditions=("4 users log in",),
        ),
        Chart(
            "counts", "observed[answered_to_4]",
            "Four at once: {flat:.1f} times the logins of one on the loop, {cores:.1f} times in threads, {cores_of_processes:.1f} in processes",
            y_label=f"logins of four users in {ROUNDS} turns of {PHASE_S} s", conditions=("1 and 4 by turns",),
        ),
        Chart(
            "timeline", "loop_lag_max_s", "The loop stands for {loop:.2f} s; with threads it goes on", conditions=("4 users log in",),
            y_label="longest stop of the loop, s",
        ),
        Chart(
            "counts", "throughput_rps[login]", "Computing is not faster for being async", y_label="logins a second",
            conditions=("4 users log in", "4 users log in, 2 workers"),
        ),
    ),
    answer="While four users log in a health check of the same worker waits {victim:.0f} times as long as with the check "
    "in a thread; the loop stands still for {loop:.2f} s at a time. Four users get {flat:.1f} times the logins of one on the loop, "
    "{cores:.1f} times in threads.",
)  # fmt: skip
