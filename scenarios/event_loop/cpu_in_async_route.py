"""A computation of t on the event loop: 1 / t answers a second for any number of users, and whoever comes meanwhile waits for what is queued.

The victim is a health check at fixed instants beside C users who log in: with C logins in the queue it waits for up to C t, as a login does.
t is not known in advance (it is this machine's PBKDF2), so what is claimed are ratios: of paired trials, of phases of one, or to the CPU time
of a login, which is t.  The trials hash with 100,000 iterations, so that they are short; all times grow in proportion to the iterations.
"""

import os
import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Server, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control

processes = Arm("processes")
tempting = Arm("tempting")

HEALTH_EVERY_S = 0.02
RIGHT = {"password": "correct horse"}
CORES = os.cpu_count() or 1
ENV = {"ITERATIONS": "100000", "CHECKS_AT_ONCE": str(CORES)}
PHASE_S = 0.6
GAP_S = 0.25  # what was in the queue is done by then
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
    """One logs in as fast as the answers come, then four do, again and again for as long: what is answered within a turn counts."""

    def journey(self) -> None:
        begin = time.monotonic()
        for turn, users in enumerate((ALONE, TOGETHER) * ROUNDS):
            gevent.sleep(max(0.0, begin + turn * (PHASE_S + GAP_S) - time.monotonic()))
            end = time.monotonic() + PHASE_S
            while self.number < users and time.monotonic() < end:
                self.post("/sessions", name="login", json=RIGHT)
                self.count(f"answered_to_{users}", time.monotonic() < end)


class Steady(LabUser):
    """Logs in again and again; the right password must never be refused."""

    @task
    def log_in(self) -> None:
        reply = self.post("/sessions", name="login", json=RIGHT)
        self.count("refused", reply.status == 401)


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
        label,
        ClosedLoad(users + 1, spread=workers > 1),
        duration_s=2.0 if users else 1.2,
        warmup_s=0.4,
        server=Server(workers=workers),
        user="Crowd",
        params={"users": users, "workers": workers},
        env=ENV,
        control=control,
        quick=quick,
        variants=variants,
        quick_pairs=quick_pairs,
        duet=not users,
    )


def busy(condition: Condition, value: float) -> float | None:
    """``value`` where four log in at one worker."""
    return value if condition.user == "Crowd" and condition.number("users") == 4 and condition.workers == 1 else None


def in_turns(condition: Condition, value: float) -> float | None:
    """``value`` where one user and four users take turns."""
    return value if condition.user == "Turns" else None


RELEASES = "Python documentation, hashlib: pbkdf2_hmac releases the GIL"

SCENARIO = Scenario(
    title="CPU-bound work in an async route blocks the event loop (password hashing)",
    claim=(
        "Password hashing in an `async def` route blocks the event loop: the health check waits hundreds of times as "
        "long, and four users get no more logins than one"
    ),
    parts=(7, 13),
    catalogue_ids=("asx-cpu-no-gain", "asx-pbkdf2-block", "as-heartbeat-lies"),
    before_after=BeforeAfter(
        each.latency_p50_s("health"),
        "for a health check",
        "4 users log in",
        "A health check is asked while four users log in.",
    ),
    labels={
        "naive": "on the event loop",
        "correct": "in a few threads",
        "processes": "in a process pool",
        "tempting": "asyncio.sleep(0) first",
    },
    symptoms=(
        "event loop blocked",
        "bcrypt slow async",
        "argon2",
        "pbkdf2",
        "password hashing",
        "health check timeout",
        "liveness probe failed",
        "Liveness probe failed: context deadline exceeded",
        "CPU bound task in async def",
        "login slow",
        "asyncio.sleep(0)",
        "Executing <Task pending> took 0.300 seconds",
        (
            "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly "
            "while the future was running or pending."
        ),
        "A child process terminated abruptly, the process pool is not usable anymore",
    ),
    conditions=(
        crowd("4 users log in", 4),
        crowd("nobody logs in", 0, control=True, variants=("naive", "correct")),
        Condition(
            "1 user, then 4, in turns",
            Journey(TOGETHER),
            user="Turns",
            params={"users": 0, "workers": 1},
            env=ENV,
            variants=("naive", "correct", "processes"),
            cores=2,
        ),
        crowd("4 users log in, 2 workers", 4, workers=2, variants=("naive",), quick_pairs=1),
        crowd("8 users log in", 8, quick=False),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/sessions", method="POST", json=RIGHT, status=204),
        Probe("/sessions", method="POST", json={"password": "wrong"}, status=401),
    ),
    claims=(
        Claim(
            "victim",
            "harm",
            "a health check waits at least ten times as long as with the hash in a thread",
            naive.latency_p50_s("health") / correct.latency_p50_s("health"),
            relation="at_least",
            predict=lambda c: busy(c, 10.0),
            null=1.0,
            formula="up to C t against one turn of the loop",
            source="a queue with one server; part 7: 200 ms without await delay every other request",
        ),
        Claim(
            "flat",
            "harm",
            "four users get no more logins per second than one",
            naive.observed("answered_to_4") / naive.observed("answered_to_1"),
            predict=lambda c: in_turns(c, 1.0),
            tolerance=0.15,
            null=float(TOGETHER),
            formula="1: 1 / t for any C",
            source="a queue with one server; part 7: async does not make code faster",
        ),
        Claim(
            "workers",
            "harm",
            "two workers do not end it: each loop is still blocked for a whole hash",
            naive.loop_lag_max_s / naive.cpu_server_s_per_request,
            relation="at_least",
            predict=lambda c: 0.9 if c.workers > 1 else None,
            tolerance=0.0,
            formula="t / t, less a tenth for the CPU besides the hash",
            source="the same queue, twice",
            headline="4 users log in, 2 workers",
        ),
        Claim(
            "loop",
            "mechanism",
            "the loop is blocked for at least one whole hash",
            naive.loop_lag_max_s / naive.cpu_server_s_per_request,
            relation="at_least",
            predict=lambda c: in_turns(c, 0.9),
            tolerance=0.0,
            formula="t / t, less a tenth for the CPU besides the hash",
            source="there is no await in between",
        ),
        Claim(
            "queue",
            "mechanism",
            "the health check waits in the queue of the logins, so about as long as one of them",
            naive.latency_p50_s("health") / naive.latency_p50_s("login"),
            relation="at_least",
            predict=lambda c: busy(c, 0.5),
            tolerance=0.0,
            formula="at least 1 / 2: it comes at any moment of a queue of C t",
            source="a queue with one server",
        ),
        Claim(
            "idle_loop",
            "mechanism",
            "with nobody logging in both answer the health check alike",
            naive.latency_p50_s("health") / correct.latency_p50_s("health"),
            predict=in_control(1.0),
            tolerance=0.5,
            null=None,
            formula="1",
            source="the same route",
        ),
        Claim(
            "yields",
            "harm",
            "an `asyncio.sleep(0)` before it does not help: the health check waits as before",
            tempting.latency_p50_s("health") / correct.latency_p50_s("health"),
            relation="at_least",
            predict=lambda c: busy(c, 5.0),
            null=1.0,
            formula="the loop is blocked for t",
            source="Python documentation: asyncio.sleep(0) lets other tasks run once",
        ),
        Claim(
            "threads",
            "fix",
            "in a thread the loop is never blocked for a whole hash",
            correct.loop_lag_max_s / naive.loop_lag_max_s,
            relation="at_most",
            predict=lambda c: busy(c, 0.25),
            null=1.0,
            formula="a quarter at most: what the kernel's scheduler gives away on one core",
            source=RELEASES,
        ),
        Claim(
            "cores",
            "fix",
            "four users get as many logins as there are cores for",
            correct.observed("answered_to_4") / correct.observed("answered_to_1"),
            predict=lambda c: in_turns(c, float(min(CORES, TOGETHER))),
            tolerance=0.3,
            null=1.0,
            formula="min(cores, C)",
            source=RELEASES,
        ),
        Claim(
            "cores_of_processes",
            "fix",
            "in processes too",
            processes.observed("answered_to_4") / processes.observed("answered_to_1"),
            predict=lambda c: in_turns(c, float(min(CORES, TOGETHER))),
            tolerance=0.3,
            null=1.0,
            formula="min(cores, C)",
            source="another process has another GIL",
        ),
        Claim(
            "no_slower",
            "fix",
            "logins get no slower",
            correct.throughput_rps("login") / naive.throughput_rps("login"),
            relation="at_least",
            predict=lambda c: busy(c, 1.0),
            tolerance=0.2,
            null=None,
            formula="1, up to the cores that are free",
            source="the same computation",
        ),
        Claim(
            "processes",
            "fix",
            "a process pool frees the loop as well",
            processes.loop_lag_max_s / naive.loop_lag_max_s,
            relation="at_most",
            predict=lambda c: in_turns(c, 0.25),
            null=1.0,
            formula="a quarter at most",
            source="another process has another GIL",
        ),
        Claim(
            "cpu",
            "tax",
            "a thread costs at most a tenth more CPU per login",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            relation="at_most",
            predict=lambda c: in_turns(c, 1.0),
            tolerance=0.1,
            null=1.0,
            formula="1 + 0.1 ms / t",
            source="measured here: to hand work to a thread takes 0.05 to 0.1 ms, a hash tens of milliseconds",
        ),
    ),
    charts=(
        Chart(
            "ecdf",
            "latency",
            "While four users log in, the health check waits {victim:.0f} times as long",
            log_x=True,
            conditions=("4 users log in",),
        ),
        Chart(
            "counts",
            each.observed("answered_to_4"),
            (
                "Four users at once: {flat:.1f} times the logins of one on the loop, {cores:.1f} times in threads, "
                "{cores_of_processes:.1f} in processes"
            ),
            y_label=f"logins of four users in {ROUNDS} turns of {PHASE_S} s",
            conditions=("1 user, then 4, in turns",),
        ),
        Chart(
            "timeline",
            each.loop_lag_max_s,
            "Each hash blocks the event loop; in threads the loop goes on",
            conditions=("4 users log in",),
            y_label="longest block of the loop, s",
        ),
        Chart(
            "counts",
            each.throughput_rps("login"),
            "Hashing is not faster in an async route",
            y_label="logins per second",
            conditions=("4 users log in", "4 users log in, 2 workers"),
        ),
    ),
    answer=(
        "While four users log in, a health check of the same worker waits {victim:.0f} times as long as with the "
        "hash in a thread; the loop is blocked for {loop:.1f} hashes at a time. Four users get {flat:.1f} times the "
        "logins of one on the loop, {cores:.1f} times in threads."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        ledger={"refused": each.observed("refused")},
        variants=("correct", "processes"),
        env={"ITERATIONS": "100000", "CHECKS_AT_ONCE": "1"},
        also=("pool",),
        without=("naive: pool process killed", "correct: pool process killed"),
    ),
)
