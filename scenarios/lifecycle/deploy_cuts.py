"""What a deploy cuts off: requests and background tasks whose remaining time is longer than the graceful time-out G; the process stays that long.

uvicorn closes its socket at SIGTERM, waits for requests and what they have left to do, and cancels it after G.  Without G it waits for as long as
somebody stays.  Forced: ten requests of 2 s (and ten mails that take 2 s after their answer) are half a second old when SIGTERM comes.
"""

import time

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Event, FinalRead, Journey, Probe, Scenario, Server, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

CLIENTS = 10
TERM_S = 0.5
WORK_S = 2.0  # REPORT_S and MAIL_S in all targets
SHORT_S, GRACE_S = 1.0, 4.0  # timeout_graceful_shutdown in naive.py and correct.py
LONGEST_S = 7.0
REPORTS, MAILS, STREAM, QUIET = (
    "ten requests of 2 s",
    "ten mails, 2 s after their answer",
    "a client that stays",
    "no deploy",
)
SERVERS = {
    "naive": Server(options=("--timeout-graceful-shutdown", f"{SHORT_S:.0f}")),
    "correct": Server(options=("--timeout-graceful-shutdown", f"{GRACE_S:.0f}")),
}
DEPLOY = (Event(TERM_S, "term", "server", label="SIGTERM"),)


class Client(LabUser):
    """Asks for a report, or queues a mail and waits until it must be sent."""

    timeout_s = LONGEST_S

    def journey(self) -> None:
        if self.params["what"] == "reports":
            self.count("cut", self.get("/report", name="report").status != 200)
            return
        self.put(f"/mails/{1 + self.number}", name="mail")
        gevent.sleep(TERM_S + WORK_S + 1.0)


class Stayer(LabUser):
    """Reads events for as long as there are some, seven seconds at most."""

    timeout_s = LONGEST_S

    def journey(self) -> None:
        began = time.monotonic()
        self.get("/events", name="events")
        self.count("stayed_s", time.monotonic() - began)


class Steady(LabUser):
    """Queues mails."""

    sent = 0

    @task
    def mail(self) -> None:
        self.sent += 1
        self.put(f"/mails/{1 + self.number * 100_000 + self.sent}", name="mail")


def deploy(label: str, load: Journey, user: str, what: str = "", *, events: tuple[Event, ...] = DEPLOY) -> Condition:
    """SIGTERM half a second after the load has begun."""
    return Condition(
        label,
        load,
        user=user,
        servers=SERVERS,
        params={"what": what},
        events=events,
        forced=bool(events),
        control=not events,
        quick_pairs=3 if user == "Stayer" else 1,
    )


UVICORN = "uvicorn/server.py, shutdown(): waits for connections and tasks within the time-out, then cancels the tasks"

SCENARIO = Scenario(
    title="Requests cut off at a deploy: SIGTERM, the graceful time-out, and background tasks that are lost",
    claim=(
        "With a graceful time-out of 1 s a deploy cuts off 10 of 10 requests of 2 s and loses 10 of 10 mails that were accepted; with 4 s none; "
        "without a limit one client that stays keeps the old process for ever"
    ),
    parts=(6, 8),
    catalogue_ids=("tcp-sigterm-drain",),
    before_after=BeforeAfter(
        each.observed("cut"),
        "of 10 requests cut off by a deploy",
        REPORTS,
        "Ten requests of two seconds are half a second old when the server is asked to stop.",
    ),
    labels={"naive": "graceful time-out 1 s", "correct": "graceful time-out 4 s", "tempting": "no limit"},
    symptoms=(
        "502 during deploy",
        "connection reset during deployment",
        "timeout graceful shutdown exceeded",
        "Cancel running task(s)",
        "Waiting for connections to close",
        "Waiting for background tasks to complete",
        "SIGTERM uvicorn",
        "terminationGracePeriodSeconds",
        "rolling update errors",
        "background task lost on deploy",
    ),
    services=("redis",),
    conditions=(
        deploy(REPORTS, Journey(CLIENTS), "Client", "reports"),
        deploy(MAILS, Journey(CLIENTS), "Client", "mails"),
        deploy(STREAM, Journey(1), "Stayer"),
        deploy(QUIET, Journey(CLIENTS), "Client", "reports", events=()),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}, after=False),
        Probe("/mails/0", method="PUT", status=422, after=False),
    ),
    final_reads=(FinalRead("sent", redis=("SCARD", "mails:sent")),),
    claims=(
        Claim(
            "cut",
            "harm",
            "a deploy cuts off every request that needs longer than the limit",
            naive.observed("cut"),
            predict=under(REPORTS, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="those with more than G left: 1.5 s > 1 s, 10 of 10",
            source=UVICORN,
        ),
        Claim(
            "unsent",
            "harm",
            "and the mails that were accepted",
            naive.final("sent"),
            predict=under(MAILS, value=0.0),
            tolerance=0.0,
            null=float(CLIENTS),
            formula="1.5 s > 1 s: 0 of 10 are sent",
            source="Starlette runs a background task within its request's task",
        ),
        Claim(
            "for_ever",
            "harm",
            "without a limit one client keeps the process",
            tempting.observed("stayed_s"),
            relation="at_least",
            predict=under(STREAM, value=LONGEST_S - 0.1),
            tolerance=0.0,
            null=TERM_S + GRACE_S,
            formula="as long as the client stays, here 7 s",
            source=UVICORN,
        ),
        Claim(
            "limit",
            "mechanism",
            "the stream ends with the time-out",
            naive.observed("stayed_s"),
            predict=under(STREAM, value=TERM_S + SHORT_S),
            tolerance=0.2,
            null=LONGEST_S,
            formula="0.5 s + G = 1.5 s",
            source=UVICORN,
        ),
        Claim(
            "quiet",
            "mechanism",
            "without a deploy nothing is cut off",
            naive.observed("cut"),
            predict=in_control(0.0),
            tolerance=0.0,
            formula="0",
            source="nobody sends SIGTERM",
        ),
        Claim(
            "finished",
            "fix",
            "with a limit above the slowest request all are answered",
            correct.observed("cut"),
            predict=under(REPORTS, value=0.0),
            tolerance=0.0,
            null=float(CLIENTS),
            formula="1.5 s < 4 s",
            source=UVICORN,
        ),
        Claim(
            "sent",
            "fix",
            "and all mails are sent",
            correct.final("sent"),
            predict=under(MAILS, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="1.5 s < 4 s: 10 of 10",
            source="a request's task ends with its background tasks",
        ),
        Claim(
            "longer",
            "tax",
            "a client that stays prolongs the deploy up to the limit",
            correct.observed("stayed_s"),
            predict=under(STREAM, value=TERM_S + GRACE_S),
            tolerance=0.1,
            null=TERM_S + SHORT_S,
            formula="0.5 s + G = 4.5 s",
            source=UVICORN,
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("cut"),
            "A deploy cuts off {cut:.0f} of ten requests of 2 s with a limit of 1 s, {finished:.0f} with 4 s",
            y_label="requests cut off, of 10",
            conditions=(REPORTS, QUIET),
            theory=("cut", "finished", "quiet"),
        ),
        Chart(
            "counts",
            each.final("sent"),
            "Ten mails were accepted before the deploy: {unsent:.0f} are sent with a limit of 1 s, {sent:.0f} with 4 s",
            y_label="mails sent, of 10",
            conditions=(MAILS,),
            theory=("unsent", "sent"),
        ),
        Chart(
            "counts",
            each.observed("stayed_s"),
            "One client that stays keeps the old process: {limit:.1f} s, {longer:.1f} s, or for ever",
            y_label="time until the stream is cut, of 7 s that are asked for",
            conditions=(STREAM,),
            theory=("limit", "longer", "for_ever"),
        ),
    ),
    answer=(
        "With a graceful time-out of 1 s a deploy cuts off {cut:.0f} of 10 requests of 2 s (predicted {cut.predicted:.0f}) and sends {unsent:.0f} of "
        "10 accepted mails; with 4 s it cuts off {finished:.0f} and sends {sent:.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, servers=SERVERS),
)
