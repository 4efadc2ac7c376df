"""n tabs that renew with one refresh token at once: n live successors where it is read first, a logged-out user where the losers count as thieves.

Forced: every message to the database takes 10 ms, so all n have read the token before the first of them commits.  With one UPDATE that asks for
"not replaced yet" one wins; the n - 1 others get the same successor for ten seconds (RFC 9700 leaves open what a retry gets).  After that a token
that comes back is a copy, and ends the session: the clock is turned by SQL, not waited for.
"""

from typing import ClassVar

import gevent
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Burst,
    Chart,
    Claim,
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
from lab.words.modes import delay
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

TABS = 6
GRACE_S = 10  # GRACE_S in correct.py
ACCESS_LIFE_S = 60  # ACCESS_LIFE_S in all targets
AGED_S = 1.5
LOGIN = {"name": "ada", "password": "correct horse"}
SECRET = {"JWT_SECRET": "a secret of the lab, 32 bytes or more"}
FORCED, FORCED_4, STOLEN, TURNS = (
    "6 tabs at once, forced",
    "6 tabs at once, forced, 4 workers",
    "a copy comes back later",
    "6 times, one after the other",
)


class Tab(LabUser):
    """Renews with the token that all tabs share; half a second later with the token that it was given then."""

    shared: ClassVar[str] = ""
    token = ""
    renewed = 0

    def before_burst(self, k: int) -> None:
        if k == 0:
            Tab.shared = self.log_in()

    def log_in(self) -> str:
        """A new session's refresh token."""
        reply = self.post("/login", name="login", json=LOGIN)
        return str(reply.json()["refresh_token"]) if reply.status == 200 else ""

    def renew(self, token: str, name: str) -> tuple[int, str]:
        """The status, and the token to go on with: the old one where there is no new one."""
        reply = self.post("/refresh", name=name, json={"refresh_token": token}, expect=(200, 401))
        return reply.status, str(reply.json()["refresh_token"]) if reply.status == 200 else token

    @task
    def refresh(self) -> None:
        first = self.renewed == 0
        status, self.token = self.renew(self.token or Tab.shared, "renew" if first else "renew again")
        self.renewed += 1
        self.count("logged_out", not first and status == 401)


class InTurns(Tab):
    """Renews six times, each time with the newest token."""

    def journey(self) -> None:
        self.count("logged_out", 0)
        token = self.log_in()
        for _ in range(TABS):
            status, token = self.renew(token, "renew")
            self.count("logged_out", status == 401)


class Stolen(Tab):
    """A token is copied and used after its owner has renewed twice; then the owner comes again."""

    def journey(self) -> None:
        copied = self.log_in()
        _, second = self.renew(copied, "renew")
        _, third = self.renew(second, "renew")
        gevent.sleep(AGED_S + 0.5)
        self.count("thief_let_in", self.renew(copied, "thief")[0] == 200)
        self.count("session_ended", self.renew(third, "owner")[0] == 401)


class Steady(Tab):
    """Renews again and again; a renewal without an answer is sent again with the same token."""

    @task
    def refresh(self) -> None:
        if not self.token:
            self.token = self.log_in()
            return
        status, self.token = self.renew(self.token, "renew")
        self.count("logged_out", status == 401)
        if status == 401:
            self.token = ""


def tabs(label: str, workers: int = 1) -> Condition:
    """Six tabs renew at one instant, and once more."""
    return Condition(
        label,
        Burst(TABS, repeats=2, every_s=1.0, spread=workers > 1),
        user="Tab",
        server=Server(workers=workers),
        env=SECRET,
        proxy=Proxy("postgres", delay(10)),
        params={"tabs": TABS},
        forced=True,
        quick_pairs=1,
    )


SCENARIO = Scenario(
    title="Refresh token rotation race: two tabs refresh at once and the user is logged out",
    claim=(
        "Six tabs that renew with one token get six live tokens where it is read first, are all logged out where reuse ends the "
        "session, and share one with a UPDATE that decides and a grace of ten seconds"
    ),
    parts=(12,),
    catalogue_ids=("au-refresh-rotation-race",),
    before_after=BeforeAfter(
        each.final("live"),
        "live refresh tokens of one session",
        FORCED,
        "Six tabs of one user renew with the same refresh token at the same instant.",
    ),
    labels={
        "naive": "SELECT, UPDATE, INSERT",
        "correct": "one UPDATE, 10 s grace",
        "tempting": "one UPDATE, reuse ends the session",
    },
    symptoms=(
        "refresh token rotation",
        "logged out randomly",
        "users are logged out",
        "multiple tabs refresh",
        "refresh token reuse detected",
        "invalid_grant",
        "401 after refresh",
        "race condition refresh token",
        "token family revoked",
        "two refresh tokens valid",
    ),
    services=("postgres",),
    constants={"GRACE_S": GRACE_S, "ACCESS_LIFE_S": ACCESS_LIFE_S},
    conditions=(
        tabs(FORCED),
        tabs(FORCED_4, workers=4),
        Condition(
            STOLEN,
            Journey(1),
            user="Stolen",
            env=SECRET,
            events=(
                Event(
                    AGED_S,
                    "sql",
                    statement="UPDATE refresh_tokens SET replaced_at = replaced_at - interval '1 minute'",
                    label="a minute passes",
                ),
            ),
            quick_pairs=1,
        ),
        Condition(TURNS, Journey(1), user="InTurns", env=SECRET, control=True, quick_pairs=1),
    ),
    probes=(Probe("/refresh", method="POST", status=401, json={"refresh_token": "nobody's"}),),
    final_reads=(
        FinalRead(
            "live",
            sql="SELECT count(*) FROM refresh_tokens JOIN sessions ON id = session_id WHERE replaced_at IS NULL AND ended_at IS NULL",
        ),
        FinalRead(
            "doubled",
            sql="SELECT count(*) FROM (SELECT FROM refresh_tokens JOIN sessions ON id = session_id "
            "WHERE replaced_at IS NULL AND ended_at IS NULL GROUP BY session_id HAVING count(*) > 1) AS more",
        ),
    ),
    claims=(
        Claim(
            "live",
            "harm",
            "every tab gets another successor, and all stay valid",
            naive.final("live"),
            predict=under(FORCED, FORCED_4, value=float(TABS)),
            tolerance=0.0,
            null=1.0,
            formula="n = 6",
            source="PostgreSQL documentation, Read Committed: all read the token before the first one commits",
            headline=FORCED,
        ),
        Claim(
            "logged_out",
            "harm",
            "where the losers count as thieves all six tabs are logged out",
            tempting.observed("logged_out"),
            predict=under(FORCED, FORCED_4, value=float(TABS)),
            tolerance=0.0,
            null=0.0,
            formula="n = 6",
            source="RFC 9700, 4.14.2: reuse of a replaced token ends the session, and its new token too",
            headline=FORCED,
        ),
        Claim(
            "none_live",
            "mechanism",
            "because the winner's token ends with the session",
            tempting.final("live"),
            predict=under(FORCED, FORCED_4, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source="the session has ended",
            headline=FORCED,
        ),
        Claim(
            "in_turns",
            "mechanism",
            "one renewal after the other leaves one token",
            naive.final("live"),
            predict=in_control(1.0),
            tolerance=0.0,
            formula="1",
            source="nothing comes between reading and writing",
        ),
        Claim(
            "one_live",
            "fix",
            "with one UPDATE that decides there is one successor",
            correct.final("live"),
            predict=under(FORCED, FORCED_4, TURNS, value=1.0),
            tolerance=0.0,
            null=TABS,
            formula="1",
            source="PostgreSQL documentation, Read Committed: UPDATE waits for the row and evaluates its WHERE again",
            headline=FORCED,
        ),
        Claim(
            "stays_in",
            "fix",
            "and all tabs get it, so none is logged out",
            correct.observed("logged_out"),
            predict=under(FORCED, FORCED_4, TURNS, value=0.0),
            tolerance=0.0,
            null=TABS,
            formula="0",
            source="within ten seconds the same token gets the same successor",
            headline=FORCED,
        ),
        Claim(
            "thief",
            "fix",
            "a copy that comes later gets nothing",
            correct.observed("thief_let_in"),
            predict=under(STOLEN, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source="RFC 9700, 4.14.2",
        ),
        Claim(
            "ended",
            "fix",
            "and ends the session",
            correct.observed("session_ended"),
            predict=under(STOLEN, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1",
            source="RFC 9700, 4.14.2",
        ),
        Claim(
            "statements",
            "tax",
            "renewing takes fewer statements than reading first",
            correct.sql_calls / naive.sql_calls,
            relation="at_most",
            predict=in_control(1.0),
            tolerance=0.0,
            null=1.0,
            formula="(BEGIN, UPDATE, INSERT, COMMIT) / (BEGIN, SELECT, UPDATE, INSERT, COMMIT) < 1",
            source="the code",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("live"),
            "Six tabs renew at once: {live:.0f} live tokens where it is read first, {one_live:.0f} with one UPDATE",
            y_label="live refresh tokens",
            conditions=(FORCED, FORCED_4, TURNS),
            theory=("live", "one_live", "none_live"),
        ),
        Chart(
            "counts",
            each.observed("logged_out"),
            "Where reuse ends the session {logged_out:.0f} of 6 tabs are logged out; with a grace of 10 s {stays_in:.0f}",
            y_label="tabs that are logged out",
            conditions=(FORCED, FORCED_4),
            theory=("logged_out", "stays_in"),
        ),
    ),
    answer=(
        "Six tabs that renew with one token at once get {live:.0f} live tokens where it is read first (predicted "
        "{live.predicted:.0f}); {logged_out:.0f} of them are logged out where reuse ends the session, and {stays_in:.0f} where a retry "
        "within ten seconds gets the same successor."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=4.5,
        recover_within_s=3.0,
        env=SECRET,
        ledger={"logged_out": each.observed("logged_out"), "doubled": each.final("doubled")},
    ),
)
