"""The background tasks of a response run one after the other; when task i of n raises, the n - i after it never run, and the client has its 201.

Read in Starlette's BackgroundTasks.__call__: a loop of awaits without a try.  N sign-ups whose first task raises open 0 workspaces and send 0
invoices, N whose second raises send 0 and open 0; where each step is caught only the one that raised is missing.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    ClosedLoad,
    Condition,
    FinalRead,
    Journey,
    Probe,
    Scenario,
    Survival,
    Upstream,
)
from lab.words.metrics import correct, each, naive
from lab.words.predictions import in_control, in_duet, under

SIGNUPS = 10
FIRST, SECOND, NONE, BUSY = "the first of three fails", "the second of three fails", "none fails", "2 users, none fails"
PEOPLE = {FIRST: ("Cher", "team"), SECOND: ("Ada Lovelace", "trial"), NONE: ("Ada Lovelace", "team")}


class Visitor(LabUser):
    """Signs up ten times, always in the same way."""

    def journey(self) -> None:
        name, plan = PEOPLE[self.condition.label]
        for _ in range(SIGNUPS):
            self.reconnect()  # a server closes the connection on which something was raised after the answer
            self.post("/signups", name="sign up", json={"name": name, "plan": plan})


class Steady(LabUser):
    """Signs up; every other visitor has one name."""

    @task
    def sign_up(self) -> None:
        name = "Cher" if self.rng.random() < 0.5 else "Ada Lovelace"
        self.post("/signups", name="sign up", json={"name": name, "plan": "team"})


class Plain(LabUser):
    """Signs up with nothing unusual."""

    @task
    def sign_up(self) -> None:
        self.post("/signups", name="sign up", json={"name": "Ada Lovelace", "plan": "team"})


def signed_up(label: str, *, control: bool = False) -> Condition:
    """Ten sign-ups of that kind."""
    return Condition(label, Journey(1), user="Visitor", upstream=Upstream(), control=control, quick_pairs=1)


SOURCE = "Starlette's source, BackgroundTasks.__call__: for task in self.tasks: await task()"

SCENARIO = Scenario(
    title="Background tasks: the first one that fails drops all that follow",
    claim=(
        "Ten sign-ups whose first background task raises open 0 of 10 workspaces and are all answered 201; with each step caught, 10"
    ),
    parts=(8,),
    catalogue_ids=("bg-sequential-drop",),
    before_after=BeforeAfter(
        each.final("workspaces"),
        "workspaces for 10 sign-ups",
        FIRST,
        "Each sign-up has three background tasks; the first one, a mail, raises.",
    ),
    labels={"naive": "three tasks", "correct": "one task, each step caught"},
    symptoms=(
        "background task not running",
        "BackgroundTasks exception",
        "second background task not executed",
        "add_task only first runs",
        "tasks silently dropped",
        "Exception in ASGI application",
        "background task error after response",
        "missing invoices",
    ),
    services=("postgres", "upstream"),
    conditions=(
        signed_up(FIRST),
        signed_up(SECOND),
        signed_up(NONE, control=True),
        Condition(BUSY, ClosedLoad(2), duration_s=2.0, user="Plain", upstream=Upstream(), duet=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/signups", method="POST", status=422, json={"name": "", "plan": "team"}),
    ),
    final_reads=(
        FinalRead("signups", sql="SELECT count(*) FROM signups"),
        FinalRead("invoices", sql="SELECT count(*) FROM invoices"),
        FinalRead("workspaces", sql="SELECT count(*) FROM workspaces"),
    ),
    claims=(
        Claim(
            "workspaces",
            "harm",
            "no task after the one that raised has run",
            naive.final("workspaces"),
            predict=under(FIRST, SECOND, value=0.0),
            tolerance=0.0,
            null=SIGNUPS,
            formula="0 of 10",
            source=SOURCE,
            headline=FIRST,
        ),
        Claim(
            "invoices",
            "harm",
            "nor the one in the middle, when the first has raised",
            naive.final("invoices"),
            predict=under(FIRST, value=0.0),
            tolerance=0.0,
            null=SIGNUPS,
            formula="0 of 10",
            source=SOURCE,
        ),
        Claim(
            "confirmed",
            "harm",
            "every client has its 201",
            naive.status_count("201"),
            predict=under(FIRST, SECOND, value=float(SIGNUPS)),
            tolerance=0.0,
            formula="N = 10",
            source="Starlette's source, Response.__call__: the tasks run after the body has been sent",
            headline=FIRST,
        ),
        Claim(
            "all_run",
            "mechanism",
            "where none raises all of them run",
            naive.final("workspaces"),
            predict=in_control(float(SIGNUPS)),
            tolerance=0.0,
            formula="N = 10",
            source=SOURCE,
        ),
        Claim(
            "opened",
            "fix",
            "with each step caught every workspace is opened",
            correct.final("workspaces"),
            predict=under(FIRST, SECOND, NONE, value=float(SIGNUPS)),
            tolerance=0.0,
            null=0.0,
            formula="N = 10",
            source="the step that raises is logged, and the next one runs",
            headline=FIRST,
        ),
        Claim(
            "billed",
            "fix",
            "and every invoice sent, but for those whose own step raised",
            correct.final("invoices"),
            predict=lambda c: {FIRST: 10.0, SECOND: 0.0, NONE: 10.0}.get(c.label),
            tolerance=0.0,
            formula="N, or 0 where billing itself raises",
            source="the step that raises is logged, and is not done",
            headline=FIRST,
        ),
        Claim(
            "cpu",
            "tax",
            "catching costs at most a twentieth of the CPU of a sign-up",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            relation="at_most",
            predict=in_duet(1.05),
            tolerance=0.0,
            null=1.0,
            formula="1 + three try blocks / three statements and a mail",
            source="Python documentation, What's New in 3.11: a try block costs nothing where nothing is raised",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("workspaces"),
            "Ten sign-ups, the first of three tasks raises: {workspaces:.0f} workspaces; with each step caught {opened:.0f}",
            y_label="workspaces opened",
            conditions=(FIRST, SECOND, NONE),
            theory=("workspaces", "opened", "all_run"),
        ),
        Chart(
            "counts",
            each.final("invoices"),
            "The task in the middle: {invoices:.0f} invoices when the first raises, {billed:.0f} with each step caught",
            y_label="invoices sent",
            conditions=(FIRST, SECOND, NONE),
            theory=("invoices", "billed"),
        ),
    ),
    answer=(
        "Ten sign-ups whose first background task raises open {workspaces:.0f} workspaces (predicted {workspaces.predicted:.0f}), "
        "and {confirmed:.0f} of 10 clients are told 201. With each step caught {opened:.0f} are opened."
    ),
    survival=Survival(user="Steady", answer_within_s=3.5, recover_within_s=3.0, upstream=Upstream()),
)
