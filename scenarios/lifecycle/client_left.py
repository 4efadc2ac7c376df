"""A handler runs to its end after its client has given up, so time-outs with retries multiply the work: 1 + r handlers for one answer.

An async handler that waits for something else does not see http.disconnect: it is a message that somebody has to ask receive() for.  Each call here
takes 1 s; a client that waits 0.3, 0.6 and then 1.6 s has its answer after three tries, and three reports are made; one that waits 0.3 s four times
has none, and four are made.  A second task that waits for the disconnect and cancels the first leaves one and none.
"""

from contextlib import suppress

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    OPEN_TRANSACTIONS,
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Scenario,
    Server,
    Survival,
    Upstream,
)
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, in_duet, under

CLIENTS = 10
FIGURES_S = 1.0
GROWING, SHORT, PATIENT = (0.3, 0.6, 1.6), (0.3, 0.3, 0.3, 0.3), (3.0,)
GROWS, GIVES_UP, GIVES_UP_4, WAITS, BUSY = (
    "waits 0.3, 0.6, then 1.6 s",
    "waits 0.3 s, 4 times",
    "waits 0.3 s, 4 times, 4 workers",
    "waits 3 s",
    "4 users, quick figures",
)
TIMEOUTS = {GROWS: GROWING, GIVES_UP: SHORT, GIVES_UP_4: SHORT, WAITS: PATIENT}


class Caller(LabUser):
    """Asks until it has an answer or no more patience; each try is a new connection."""

    def journey(self) -> None:
        self.count("answered", 0)
        for timeout_s in TIMEOUTS[self.condition.label]:
            with suppress(gevent.Timeout), gevent.Timeout(timeout_s):
                if self.post(f"/reports/sales-{self.number}", name="report").status == 201:
                    self.count("answered")
                    break
            self.reconnect()
        gevent.sleep(FIGURES_S + 0.3)  # what still runs has ended when the reports are counted


class Steady(LabUser):
    @task
    def report(self) -> None:
        self.post(f"/reports/steady-{self.number}", name="report")


def called(label: str, *, workers: int = 1, control: bool = False) -> Condition:
    """Ten clients with that patience."""
    return Condition(
        label,
        Journey(CLIENTS),
        user="Caller",
        server=Server(workers=workers),
        upstream=Upstream(FIGURES_S),
        params={"tries": len(TIMEOUTS[label])},
        control=control,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="The handler keeps running after the client has disconnected: timeouts with retries multiply the work",
    claim=(
        "A call of 1 s with time-outs of 0.3, 0.6 and 1.6 s makes three reports for one answer, because a handler does not notice "
        "that its client has gone; with a task that waits for the disconnect, one"
    ),
    parts=(1,),
    catalogue_ids=("lc-disconnect-keeps-working",),
    before_after=BeforeAfter(
        each.final("reports"),
        "reports made for 10 answers",
        GROWS,
        "Ten clients ask for a report that takes 1 s, and ask again after 0.3 and 0.6 s.",
    ),
    labels={"naive": "no look at the client", "correct": "cancelled by http.disconnect"},
    symptoms=(
        "client disconnected but handler still running",
        "request not cancelled",
        "is_disconnected",
        "http.disconnect",
        "499",
        "retry storm",
        "retry amplification",
        "timeouts multiply load",
        "httpx.ReadTimeout",
        "wasted work after timeout",
        "cancel request FastAPI",
    ),
    services=("postgres", "upstream"),
    conditions=(
        called(GROWS),
        called(GIVES_UP),
        called(GIVES_UP_4, workers=4),
        called(WAITS, control=True),
        Condition(BUSY, ClosedLoad(4), duration_s=2.0, user="Steady", upstream=Upstream(), duet=True),
    ),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/reports/NO", method="POST", status=422)),
    final_reads=(
        FinalRead("reports", sql="SELECT count(*) FROM reports"),
        FinalRead("leaked", sql=OPEN_TRANSACTIONS),
    ),
    claims=(
        Claim(
            "made",
            "harm",
            "every try makes a report, whether or not somebody waits for it",
            naive.final("reports"),
            predict=under(GROWS, GIVES_UP, GIVES_UP_4, value=lambda c: CLIENTS * c.number("tries")),
            tolerance=0.0,
            null=CLIENTS,
            formula="N (1 + r): 30 with two retries, 40 with three",
            source="ASGI specification, HTTP: a disconnect is a message, which the application has to ask for",
            headline=GROWS,
        ),
        Claim(
            "none_answered",
            "mechanism",
            "where the time-out is shorter than the handler no answer ever arrives",
            naive.observed("answered"),
            predict=under(GIVES_UP, GIVES_UP_4, value=0.0),
            tolerance=0.0,
            null=CLIENTS,
            formula="0, as 0.3 s < 1 s",
            source="each try begins anew",
            headline=GIVES_UP,
        ),
        Claim(
            "patient",
            "mechanism",
            "who waits long enough causes one report",
            naive.final("reports"),
            predict=in_control(float(CLIENTS)),
            tolerance=0.0,
            formula="N = 10",
            source="no try is given up",
        ),
        Claim(
            "one_each",
            "fix",
            "cancelled when the client goes, one report is made for each answer",
            correct.final("reports"),
            predict=under(GROWS, WAITS, value=float(CLIENTS)),
            tolerance=0.0,
            null=3.0 * CLIENTS,
            formula="N = 10",
            source="Python documentation, Task.cancel: the await in which the handler waits raises CancelledError",
            headline=GROWS,
        ),
        Claim(
            "no_waste",
            "fix",
            "and none where nobody waited for one",
            correct.final("reports"),
            predict=under(GIVES_UP, GIVES_UP_4, value=0.0),
            tolerance=0.0,
            null=4.0 * CLIENTS,
            formula="0",
            source="Python documentation, Task.cancel",
            headline=GIVES_UP,
        ),
        Claim(
            "answered",
            "fix",
            "nobody who waits is left without an answer",
            correct.observed("answered"),
            predict=under(GROWS, WAITS, value=float(CLIENTS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source="only the tries that were given up are cancelled",
            headline=GROWS,
        ),
        Claim(
            "cpu",
            "tax",
            "two more tasks for each request cost at most three tenths of its CPU",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            relation="at_most",
            predict=in_duet(1.3),
            tolerance=0.0,
            null=1.0,
            formula="1 + two tasks / a request with an HTTP call and an INSERT",
            source="tens of microseconds against several hundred",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("reports"),
            "Ten answers after three tries each: {made:.0f} reports are made; cancelled with the client, {one_each:.0f}",
            y_label="reports made",
            conditions=(GROWS, GIVES_UP, GIVES_UP_4, WAITS),
            theory=("made", "one_each", "no_waste"),
        ),
    ),
    answer=(
        "Ten clients with time-outs of 0.3, 0.6 and 1.6 s cause {made:.0f} reports of 1 s for ten answers (predicted "
        "{made.predicted:.0f}), and {one_each:.0f} when the handler is cancelled with its client."
    ),
    survival=Survival(
        limits={
            "correct: upstream stalls": "A stall that is shorter than its time-out is waited for: answers are late, and nothing is logged."
        },
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        upstream=Upstream(0.05),
        ledger={"leaked": each.final("leaked")},
    ),
)
