"""A computation of t on the event loop: 1 / t answers a second for any number of users, and whoever comes meanwhile waits for what is queued.

The victim is a health check at fixed instants beside C users who log in: with C logins in the queue it waits for up to C t.  t is not known in
advance (it is this machine's PBKDF2), so what is claimed are ratios of paired trials and what the loop's own clock says.
"""

import gevent
from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Server

ITERATIONS = 100_000  # ITERATIONS in all targets
LEAST_S = 0.010  # of them on any machine of these years; half a twentieth is usual
HEALTH_EVERY_S = 0.05
RIGHT = {"password": "correct horse"}


class Crowd(LabUser):
    """User 0 checks the health and rests, the others log in as fast as they are served."""

    @task
    def act(self) -> None:
        if self.number == 0:
            self.get("/health", name="health")
            gevent.sleep(HEALTH_EVERY_S)
        else:
            self.post("/sessions", name="login", json=RIGHT)


def crowd(
    label: str,
    users: int,
    *,
    workers: int = 1,
    control: bool = False,
    quick: bool = True,
    variants: tuple[str, ...] = (),
) -> Condition:
    """So many users who log in, and one who checks the health."""
    return Condition(
        label, ClosedLoad(users + 1), duration_s=3.5 if users else 2.0, warmup_s=0.4, server=Server(workers=workers),
        params={"users": users, "workers": workers}, control=control, quick=quick, variants=variants,
    )  # fmt: skip


def busy(condition: Condition, value: float) -> float | None:
    """``value`` where four log in at one worker."""
    return value if condition.number("users") == 4 and condition.workers == 1 else None


SCENARIO = Scenario(
    title="CPU work in an async route",
    claim="A password check in an async route holds the event loop: logins do not get faster with users, and the health check waits for all of them",
    parts=(7, 13),
    catalogue_ids=("asx-cpu-no-gain", "asx-pbkdf2-block", "as-heartbeat-lies"),
    constants={"ITERATIONS": ITERATIONS},
    conditions=(
        crowd("4 users log in", 4),
        crowd("nobody logs in", 0, control=True, variants=("naive", "correct")),
        crowd("1 user logs in", 1, quick=False),
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
            "threads", "fix", "in a thread the loop is never held for a whole check", "correct.loop_lag_p50_s / naive.loop_lag_p50_s",
            relation="at_most",
            predict=lambda c: busy(c, 0.5), null=1.0,
            formula="less than half", source="PBKDF2 releases the GIL; claims gil-release",
        ),
        Claim(
            "no_slower", "fix", "and logins get no slower", "correct.throughput_rps[login] / naive.throughput_rps[login]", relation="at_least",
            predict=lambda c: busy(c, 1.0), tolerance=0.2, null=None,
            formula="1, up to the cores that are free", source="claims asx-cpu-no-gain",
        ),
        Claim(
            "processes", "fix", "processes free the loop as well", "processes.loop_lag_p50_s / naive.loop_lag_p50_s", relation="at_most",
            predict=lambda c: busy(c, 0.5), null=1.0, formula="less than half", source="another process has another GIL",
        ),
        Claim(
            "cpu", "tax", "a thread costs hardly more CPU a request", "correct.cpu_server_s_per_request / naive.cpu_server_s_per_request",
            relation="at_most", predict=lambda c: 1.5 if c.control else None, null=1.0,
            formula="1.5", source="ours: with nobody logging in it is the same route",
        ),
    ),
    charts=(
        Chart(
            "ecdf", "latency", "Behind password checks the health check waits {victim:.0f} times as long", log_x=True,
            conditions=("4 users log in",),
        ),
        Chart(
            "timeline", "loop_lag_max_s", "The loop stands for {loop:.2f} s; with threads it goes on", conditions=("4 users log in",),
            y_label="longest stop of the loop, s",
        ),
        Chart(
            "counts", "throughput_rps[login]", "Computing is not faster for being async", y_label="logins a second", conditions=("4 users log in",),
        ),
    ),
    answer="While four users log in a health check of the same worker waits {victim:.0f} times as long as with the check "
    "in a thread; the loop stands still for {loop:.2f} s at a time.",
)  # fmt: skip
