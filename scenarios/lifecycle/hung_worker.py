"""Who sees that a worker hangs?  uvicorn's supervisor asks each worker's process by a pipe, and a thread beside the event loop answers.

So it sees a process that is dead, or whose every thread stands still (a C call that keeps the GIL), and never an event loop that waits: two requests
that hang end the service of two workers for as long as they hang.  gunicorn's worker touches a file from its event loop each second, and the arbiter,
which looks once a second, kills who was silent for the time-out T: between T - 1 and T + 2 s after the loop stood still.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, Journey, Probe, Scenario, Server, Survival, Upstream
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, under

TIMEOUT_S = 3  # --timeout in correct.py
HEALTH_CHECK_S = 5  # uvicorn's --timeout-worker-healthcheck
START_S = 2.0  # of a new worker, which imports the application
BEGIN_S = 0.5  # between the two requests that hang
LOOK_S = 12.0
SUPPLIER_S = 25.0  # longer than anybody looks
EVIL = "a" * 40 + "!"
SOCKET, GIL, KILLED = "a call without a time-out", "a pattern that never ends", "a worker killed"
SERVERS = {"correct": Server(kind="gunicorn", workers=2, options=("--timeout", str(TIMEOUT_S)))}


class Visitor(LabUser):
    """The first two ask for what hangs, each on another worker; the third asks over and over whether the service is there."""

    timeout_s = 1.0

    def journey(self) -> None:
        began = time.monotonic()
        if self.number < 2:
            gevent.sleep(BEGIN_S * self.number)
            self.reconnect()  # a worker that hangs accepts nobody: the second comes to the other one
            if path := str(self.params["hangs"]):
                self.get(path, name="hangs")
            return
        gevent.sleep(2 * BEGIN_S)
        answered = 0
        self.count("answered", 0)
        while time.monotonic() - began < LOOK_S:
            asked = time.monotonic()
            self.reconnect()
            if self.get("/health", name="health").status == 200:
                if not answered:
                    self.count("first_answer_s", time.monotonic() - began)
                answered += 1
                self.count("answered")
            gevent.sleep(max(0.0, asked + 0.5 - time.monotonic()))


class Steady(LabUser):
    @task
    def ask(self) -> None:
        self.get("/health", name="health")


def hangs(label: str, path: str, *, control: bool = False, events: tuple[Event, ...] = ()) -> Condition:
    """Two requests for ``path``, and somebody who looks for twelve seconds."""
    return Condition(
        label,
        Journey(3),
        user="Visitor",
        upstream=Upstream(SUPPLIER_S),
        server=Server(workers=2),
        servers=SERVERS,
        params={"hangs": path},
        events=events,
        forced=True,
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="A worker that hangs: uvicorn --workers keeps it, gunicorn replaces it after its time-out",
    claim=(
        "Two requests that wait for ever in an async route end the service of two uvicorn workers: of all that is asked in the next twelve "
        "seconds nothing is answered; gunicorn replaces the workers within 8 s"
    ),
    parts=(6,),
    catalogue_ids=("tcp-supervisor-blind",),
    before_after=BeforeAfter(
        each.observed("answered"),
        "health checks answered in twelve seconds",
        SOCKET,
        "Two workers, two requests that wait for a supplier without a time-out, and somebody who asks for the health of the service.",
    ),
    labels={"naive": "uvicorn, 2 workers", "correct": "gunicorn, 2 workers, time-out 3 s"},
    symptoms=(
        "uvicorn worker hangs",
        "uvicorn workers stop responding",
        "uvicorn freezes",
        "uvicorn --workers not restarted",
        "timeout_worker_healthcheck",
        "WORKER TIMEOUT",
        "gunicorn worker timeout",
        "Child process died",
        "liveness probe failed",
        "catastrophic backtracking",
        "ReDoS",
        "upstream timed out",
    ),
    services=("upstream",),
    conditions=(
        hangs(SOCKET, "/stock/lamp"),
        hangs(GIL, f"/coupons/{EVIL}"),
        hangs(KILLED, "", control=True, events=(Event(1.0, "kill", "worker", label="a worker killed"),)),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}, after=False),
        Probe("/coupons/summer26", body={"valid": True}, after=False),
    ),
    claims=(
        Claim(
            "nothing",
            "harm",
            "two requests that hang end the service of two workers",
            naive.observed("answered"),
            predict=under(SOCKET, value=0.0),
            tolerance=0.0,
            formula="0 for as long as they hang",
            source="uvicorn/supervisors/multiprocess.py: always_pong() runs in a thread, and a loop that waits for a socket lets it run",
        ),
        Claim(
            "gil",
            "mechanism",
            "its health check sees a worker whose threads all stand still",
            naive.observed("first_answer_s"),
            relation="at_most",
            predict=under(GIL, value=HEALTH_CHECK_S + START_S + 2.0),
            tolerance=0.0,
            formula="5 s + 0.5 s between two checks + 2 s for the start + 1 s of the client",
            source="uvicorn: --timeout-worker-healthcheck, 5 s; a pattern is matched in C with the GIL held",
        ),
        Claim(
            "dies",
            "mechanism",
            "and both servers go on when a worker dies",
            naive.observed("answered") / correct.observed("answered"),
            predict=in_control(1.0),
            tolerance=0.15,
            formula="1",
            source="the other worker serves, and another is started",
        ),
        Claim(
            "replaced",
            "fix",
            "gunicorn has others in their place in time",
            correct.observed("first_answer_s"),
            relation="at_most",
            predict=under(SOCKET, GIL, value=TIMEOUT_S + 2.0 + START_S + 1.0),
            tolerance=0.0,
            null=LOOK_S,
            formula="T + 2 s for its looks and SIGABRT before SIGKILL + 2 s for the start + 1 s of the client",
            source="gunicorn/arbiter.py: murder_workers() once a second; gasgi.py: notify() once a second, from the loop",
        ),
        Claim(
            "not_at_once",
            "tax",
            "until then nobody is served either",
            correct.observed("first_answer_s"),
            relation="at_least",
            predict=under(SOCKET, value=TIMEOUT_S - 1.0),
            tolerance=0.0,
            formula="T - 1 s: the last sign may be a second old",
            source="the time-out has to pass",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("answered"),
            "Two requests hang: {nothing:.0f} answers from uvicorn's two workers in twelve seconds, gunicorn is back after {replaced:.1f} s",
            y_label="health checks answered in 12 s",
            conditions=(SOCKET, GIL, KILLED),
            theory=("nothing",),
        ),
    ),
    answer=(
        "Two requests that hang end the service of two uvicorn workers: {nothing:.0f} answers in twelve seconds (predicted "
        "{nothing.predicted:.0f}). Under gunicorn the first answer comes after {replaced:.1f} s."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        upstream=Upstream(SUPPLIER_S),
        servers=SERVERS,
        without=("upstream stalls", "upstream errs"),  # nobody asks it: what hangs is the experiment itself
    ),
)
