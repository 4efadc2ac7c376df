"""A token that only its signature and its expiry speak for is accepted until exp: rate x (exp - logout) requests after the logout.

A short life with rotation makes that rate x what is left of the short life, at one Redis command for each life.  A denylist makes it none, at
one command for each request: the cost of a session on the server, which is why that runs here too.  A look-up can fail; then the answer is
either refused (nobody gets in) or taken for a no (everybody does, logged out or not).  Rotation can fail too: a reply that is lost makes the
client send its old token again, which must not look like theft, while a copy that is older must.
"""

import base64
import json
import math
import threading
import time
from typing import Any, ClassVar

from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    Condition,
    Event,
    Journey,
    OpenLoad,
    Probe,
    Proxy,
    Scenario,
    Stage,
    StagedLoad,
    Survival,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.modes import CUT, PASS
from lab.words.predictions import in_duet

server_session = Arm("server_session")
short_life = Arm("short_life")
tempting = Arm("tempting")

RATE = 20  # requests a second of whoever has a copy of the token
NAME = "ada.lovelace"  # with a dot, which a token that is cut at dots does not survive
ADA = {"name": NAME, "password": "correct horse"}
OUTAGE_BEGINS_S, OUTAGE_ENDS_S = 2.4, 5.0
ASKED = 20  # requests with each token before the outage and in it
LATE_S = 0.4  # of asking on when the token has expired
RENEWALS = 4  # of a client whose first refresh is answered twice: first, retry, next, and the one after a forged token


class Account(LabUser):
    """What every user here does: log in, ask for the account, log out."""

    abstract = True

    def log_in(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.post("/login", name="login", json=ADA).json()
        return answer

    def ask(self, token: str) -> int:
        return self.get("/account", name="account", headers={"Authorization": f"Bearer {token}"}).status

    def log_out(self, token: str) -> None:
        status = self.post("/logout", name="logout", headers={"Authorization": f"Bearer {token}"}).status
        self.count("logged_out", status == 204)


class LoggedOut(Account):
    """Asks at a steady rate, logs out and goes on asking; a token's times are whole seconds, so all begins with one."""

    def journey(self) -> None:
        begin = math.ceil(time.time()) + 0.005
        _wait_until(begin)
        tokens = self.log_in()
        begin = self.issued_at(tokens["access_token"], begin)
        out = False
        for name in ("accepted_after_logout", "refused_before", "refused_after_expiry", "refreshed_after_logout"):
            self.count(name, 0)
        expires = self.condition.number("logout_s") + self.condition.number("left_s")
        for number in range(int((expires + LATE_S) * RATE)):
            at = (number + 0.5) / RATE
            _wait_until(begin + at)
            if not out and at > self.condition.number("logout_s"):
                self.log_out(tokens["access_token"])
                out = True
            status = self.ask(tokens["access_token"])
            if out:
                self.count("accepted_after_logout", status == 200)
                self.count("refused_after_expiry", at > expires and status == 401)
            elif status == 401 and "refresh_token" in tokens:
                tokens = self.refresh(tokens)
                status = self.ask(tokens["access_token"])
            self.count("refused_before", not out and status != 200)
        if "refresh_token" in tokens:
            status = self.post("/refresh", name="refresh", json={"refresh_token": tokens["refresh_token"]}).status
            self.count("refreshed_after_logout", status == 200)

    def issued_at(self, token: str, otherwise: float) -> float:
        """When the life of a JWT began: where a password check takes longer than a second, not when the log-in was sent."""
        if token.count(".") != 2:
            return otherwise
        payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return float(payload["exp"] - self.condition.number("life_s")) + 0.005

    def refresh(self, tokens: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.post(
            "/refresh", name="refresh", json={"refresh_token": tokens["refresh_token"]}
        ).json()
        return answer


class InOutage(Account):
    """Holds a token that was logged out and one that was not, and asks with both before Redis goes away and while it is away."""

    def journey(self) -> None:
        begin = time.time()
        gone, valid = self.log_in()["access_token"], self.log_in()["access_token"]
        self.log_out(gone)
        for name in ("accepted_after_logout", "valid_refused"):
            self.count(name, 0)
        for start in (begin, begin + OUTAGE_BEGINS_S + 0.4):
            _wait_until(start)
            for _ in range(ASKED):
                self.count("accepted_after_logout", self.ask(gone) == 200)
                self.count("valid_refused", self.ask(valid) != 200)
        _wait_until(begin + OUTAGE_ENDS_S + 0.3)


class Renewing(Account):
    """Loses the answer to a refresh and retries, is attacked with a forged token, and at last meets a copy of its first one."""

    def journey(self) -> None:
        for name in ("renewed", "wrong_account", "renewed_by_copy"):
            self.count(name, 0)
        first = self.log_in()["refresh_token"]
        self.renew(first, "renewed")  # the answer to this one is lost
        second = self.renew(first, "renewed")
        third = self.renew(second, "renewed")
        head, _, signature = third.rpartition(".")
        self.renew(f"{head}.{signature[::-1]}", "renewed_by_copy")  # the right session, and no signature of ours
        last = self.renew(third, "renewed")
        self.renew(first, "renewed_by_copy")  # three renewals old: somebody has a copy
        self.renew(last, "renewed_by_copy")  # which ends the session for both

    def renew(self, token: str, counted: str) -> str:
        """The next refresh token, or the same one where it is refused."""
        reply = self.post("/refresh", name="refresh", json={"refresh_token": token}, expect=(200, 401))
        self.count(counted, reply.status == 200)
        if reply.status != 200:
            return token
        tokens: dict[str, str] = reply.json()
        account = self.get("/account", name="account", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        self.count("wrong_account", account.status != 200 or account.json()["name"] != NAME)
        return tokens["refresh_token"]


class Steady(Account):
    """Asks as planned, with one token for all users: a password check costs far more CPU than a request, so it is done before the start."""

    token = ""
    logging_in = threading.Lock()

    def on_start(self) -> None:
        with Steady.logging_in:  # one log-in in each generator process: user 0 is in only one of them
            if not Steady.token:
                Steady.token = self.log_in()["access_token"]

    @task
    def read_account(self) -> None:
        self.ask(self.token)


class Survivor(Account):
    """Uses a session that all users share, renews it where there is something to renew, and logs out another one while something fails.

    Two log-ins for all users: a password check takes long, and all of them must be over when the fault begins.
    """

    live: ClassVar[dict[str, Any]] = {}
    leaving: ClassVar[dict[str, Any]] = {}
    out: ClassVar[bool] = False
    logging_in, renewing = threading.Lock(), threading.Lock()
    turn = 0

    def on_start(self) -> None:
        for name in ("accepted_after_logout", "sessions_lost"):
            self.count(name, 0)
        with Survivor.logging_in:
            if not Survivor.live:
                Survivor.live, Survivor.leaving = self.log_in(), self.log_in()

    @task
    def use(self) -> None:
        time.sleep(0.05)
        self.turn += 1
        self.count("sessions_lost", self.ask(Survivor.live["access_token"]) == 401)
        if "refresh_token" in Survivor.live and self.turn % 10 == 0 and Survivor.renewing.acquire(blocking=False):
            try:  # one at a time, as a client does it
                self.renew()
            finally:
                Survivor.renewing.release()
        if Survivor.out:
            self.count("accepted_after_logout", self.show_what_is_logged_out() == 200)
        elif self.turn >= 20:
            # A log-out that got no answer is sent again; a 401 then says that the first one did arrive.
            headers = {"Authorization": f"Bearer {Survivor.leaving['access_token']}"}
            reply = self.post("/logout", name="logout", headers=headers, expect=(204, 401))
            Survivor.out = Survivor.out or reply.status in (204, 401)

    def renew(self) -> None:
        reply = self.post("/refresh", name="refresh", json={"refresh_token": Survivor.live["refresh_token"]})
        self.count("sessions_lost", reply.status == 401)
        if reply.status == 200:
            Survivor.live = reply.json()

    def show_what_is_logged_out(self) -> int:
        # An access token of the short life is valid until it expires: what must not happen is that it is renewed.
        if "refresh_token" in Survivor.leaving:
            body = {"refresh_token": Survivor.leaving["refresh_token"]}
            return self.post("/refresh", name="after logout", json=body, expect=(401,)).status
        headers = {"Authorization": f"Bearer {Survivor.leaving['access_token']}"}
        return self.get("/account", name="after logout", headers=headers, expect=(401,)).status


def _wait_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def env(life_s: int) -> dict[str, str]:
    """What the targets read."""
    return {"JWT_SECRET": "a-secret-of-more-than-thirty-two-bytes", "ACCESS_TOKEN_LIFE_S": str(life_s)}


def logout(
    label: str,
    *,
    life_s: int,
    logout_s: float,
    left_s: float,
    variants: tuple[str, ...] = ("naive", "correct"),
    quick: bool = True,
) -> Condition:
    """A session that ends after ``logout_s``, when its access token has ``left_s`` to live."""
    return Condition(
        label,
        Journey(),
        user="LoggedOut",
        env=env(life_s),
        variants=variants,
        quick_pairs=1,
        quick=quick,
        control=left_s == 0,
        params={"life_s": life_s, "logout_s": logout_s, "left_s": left_s},
    )


def left(condition: Condition, *variants: str) -> float | None:
    """Requests that a stateless check lets through after the logout, where these variants run."""
    if "left_s" not in condition.params or not set(variants) <= set(condition.variants):
        return None
    return RATE * condition.number("left_s")


def outage(condition: Condition, value: float) -> float | None:
    """``value`` in the outage."""
    return value if condition.label == "Redis away" else None


def steady(condition: Condition, value: float) -> float | None:
    """``value`` under the steady load."""
    return value if condition.label == "steady" else None


def renewing(condition: Condition, value: float) -> float | None:
    """``value`` where refreshes are repeated."""
    return value if condition.label == "refresh repeated" else None


WINDOW = "RFC 7519, section 4.1.4: a token must not be accepted on or after exp; nothing in it says that it was revoked"
ROTATION = "RFC 9700, section 4.14.2: a refresh token that was replaced and comes back ends the session"
COST = "counted from the code: the denylist sends EXISTS, the session GET, once for each request"

SCENARIO = Scenario(
    title="A JWT still works after logout",
    claim=(
        "A logged-out JWT with 2 s left was accepted 40 more times at 20 requests a second; with a denylist in Redis "
        "it was accepted 0 times"
    ),
    parts=(12,),
    catalogue_ids=("au-jwt-revocation-window", "au-denylist-cost"),
    services=("redis",),
    contract_differs="short_life has a second token and an endpoint to renew with it",
    before_after=BeforeAfter(
        each.observed("accepted_after_logout"),
        "requests accepted after the logout",
        "2 s left",
        "A user logs out while the token has two seconds left, and a copy of it goes on asking 20 times a second.",
    ),
    labels={
        "naive": "JWT valid until exp",
        "correct": "Redis denylist, fails closed",
        "tempting": "Redis denylist, fails open",
        "short_life": "short JWT, rotating refresh token",
        "server_session": "session in Redis",
    },
    symptoms=(
        "logout does not work",
        "token still valid after logout",
        "JWT revocation",
        "revoke JWT",
        "JWT blacklist",
        "blocklist",
        "denylist",
        "log out everywhere",
        "refresh token rotation",
        "users are logged out at random",
        "invalid_grant",
        "jwt.exceptions.ExpiredSignatureError",
    ),
    conditions=(
        logout("logout at expiry", life_s=1, logout_s=1.0, left_s=0.0),
        logout("1 s left", life_s=2, logout_s=1.0, left_s=1.0, quick=False),
        logout("2 s left", life_s=3, logout_s=1.0, left_s=2.0, variants=("naive", "correct", "server_session")),
        logout("4 s left", life_s=5, logout_s=1.0, left_s=4.0, quick=False),
        logout("renewed every second", life_s=1, logout_s=2.5, left_s=0.5, variants=("short_life",)),
        Condition("refresh repeated", Journey(), user="Renewing", env=env(60), variants=("short_life",), quick_pairs=1),
        Condition(
            "Redis away",
            Journey(),
            user="InOutage",
            env=env(60),
            proxy=Proxy("redis"),
            quick_pairs=1,
            events=(
                Event(OUTAGE_BEGINS_S, "fault", statement=CUT, label="Redis away"),
                Event(OUTAGE_ENDS_S, "fault", statement=PASS, label="Redis back"),
            ),
            variants=("naive", "correct", "tempting"),
            params={"asked": ASKED},
        ),
        Condition(
            "steady",
            OpenLoad(200.0, connections=8),
            duration_s=1.0,
            user="Steady",
            env=env(60),
            variants=("naive", "correct", "server_session"),
            params={"rate": 200},
            quick_pairs=1,
        ),
        Condition(
            "three rates",
            StagedLoad(tuple(Stage(rate, 1.0) for rate in (50.0, 300.0, 550.0)), connections=8),
            user="Steady",
            env=env(60),
            variants=("naive", "correct", "server_session"),
            params={"rate": 300},
            duet=True,
        ),
    ),
    survival=Survival(
        user="Survivor",
        answer_within_s=2.5,
        recover_within_s=3.0,
        env=env(60),
        variants=("correct", "server_session", "short_life"),
        ledger={"stale": each.observed("accepted_after_logout"), "lost": each.observed("sessions_lost")},
    ),
    probes=(
        Probe("/account", status=401),
        Probe("/account", headers={"Authorization": "Bearer not-a-token"}, status=401),
        Probe("/login", "POST", json={"name": NAME, "password": "wrong"}, status=401),
    ),
    claims=(
        Claim(
            "accepted",
            "harm",
            "a logged-out token goes on working for what is left of its life",
            naive.observed("accepted_after_logout"),
            predict=lambda c: left(c, "naive"),
            tolerance=0.05,
            null=0.0,
            formula="requests per second x seconds left",
            source=WINDOW,
            headline="2 s left",
        ),
        Claim(
            "logged_out",
            "mechanism",
            "the logout is answered with 204 all the same",
            naive.observed("logged_out"),
            predict=lambda c: 1.0 if left(c, "naive") else None,
            tolerance=0.0,
            formula="1",
            source="a stateless server has nothing to delete",
            headline="2 s left",
        ),
        Claim(
            "exp_ends_it",
            "mechanism",
            "what ends the token is its expiry: every request after it is refused",
            naive.observed("refused_after_expiry"),
            predict=lambda c: RATE * LATE_S if left(c, "naive") else None,
            tolerance=0.13,
            formula="20 per second x 0.4 s = 8, one more or less at the edge",
            source=WINDOW,
            headline="2 s left",
        ),
        Claim(
            "denylist",
            "fix",
            "with a denylist it is refused at once",
            correct.observed("accepted_after_logout"),
            predict=lambda c: None if left(c, "correct") is None else 0.0,
            tolerance=0.0,
            formula="0",
            source="the logout is in Redis before it is answered",
            headline="2 s left",
        ),
        Claim(
            "session",
            "fix",
            "with a session on the server too",
            server_session.observed("accepted_after_logout"),
            predict=lambda c: None if left(c, "server_session") is None else 0.0,
            tolerance=0.0,
            formula="0",
            source="the session is deleted before the logout is answered",
            headline="2 s left",
        ),
        Claim(
            "short_life",
            "fix",
            "a short life with rotation narrows the window and does not close it",
            short_life.observed("accepted_after_logout"),
            predict=lambda c: left(c, "short_life"),
            tolerance=0.05,
            null=RATE * 3.5,
            formula="requests per second x what is left of the short life",
            source=WINDOW,
            headline="renewed every second",
        ),
        Claim(
            "no_renewal",
            "fix",
            "after the logout it cannot be renewed",
            short_life.observed("refreshed_after_logout"),
            predict=lambda c: None if left(c, "short_life") is None else 0.0,
            tolerance=0.0,
            formula="0",
            source="the logout deletes the session's key",
            headline="renewed every second",
        ),
        Claim(
            "lost_reply",
            "fix",
            "a client that lost the reply to a refresh renews by sending it again, and a forged token changes nothing",
            short_life.observed("renewed"),
            predict=lambda c: renewing(c, RENEWALS),
            tolerance=0.0,
            formula="first, its retry, the next, and the one after a forged token",
            source="the last token gets the same successor for 10 s",
        ),
        Claim(
            "copy_ends_it",
            "fix",
            "an older token that comes back renews nothing and ends the session",
            short_life.observed("renewed_by_copy"),
            predict=lambda c: renewing(c, 0),
            tolerance=0.0,
            formula="0",
            source=ROTATION,
        ),
        Claim(
            "own_account",
            "fix",
            "every renewed token opens the account that logged in, dots in its name or not",
            short_life.observed("wrong_account"),
            predict=lambda c: renewing(c, 0),
            tolerance=0.0,
            formula="0",
            source="the name is a signed claim, no part of a string that is split",
        ),
        Claim(
            "fails_open",
            "harm",
            "a denylist that takes an outage for a no lets logged-out tokens in again",
            tempting.observed("accepted_after_logout"),
            predict=lambda c: outage(c, ASKED),
            tolerance=0.0,
            formula="every request during the outage, none before it",
            source="GitHub, Observal issue 891 and sebt-self-service-portal pull request 462: denylists that fail open",
        ),
        Claim(
            "fails_closed",
            "fix",
            "one that refuses does not",
            correct.observed("accepted_after_logout"),
            predict=lambda c: outage(c, 0),
            tolerance=0.0,
            formula="0",
            source="no answer from Redis becomes a 503",
        ),
        Claim(
            "valid_refused",
            "tax",
            "and it refuses everybody else too while Redis is away",
            correct.observed("valid_refused"),
            predict=lambda c: outage(c, ASKED),
            tolerance=0.0,
            formula="every request during the outage",
            source="no answer from Redis becomes a 503",
        ),
        Claim(
            "one_lookup",
            "tax",
            "the denylist costs one Redis command per request",
            correct.redis_calls("exists") / correct.requests_ok("account"),
            predict=lambda c: steady(c, 1.0),
            tolerance=0.0,
            formula="1",
            source=COST,
        ),
        Claim(
            "session_lookup",
            "tax",
            "so does a session on the server",
            server_session.redis_calls("get") / server_session.requests_ok("account"),
            predict=lambda c: steady(c, 1.0),
            tolerance=0.0,
            formula="1",
            source=COST,
        ),
        Claim(
            "rotation_calls",
            "tax",
            "rotation costs one Redis script for each life of an access token",
            short_life.redis_calls("evalsha"),
            predict=lambda c: None if left(c, "short_life") is None else 4.0,
            tolerance=0.0,
            formula=(
                "renewed at 1 s and at 2 s, refused once after the logout; the first EVALSHA finds no script and is "
                "sent again"
            ),
            source="a refresh is one script; redis-py loads it at the first NOSCRIPT",
            headline="renewed every second",
        ),
        Claim(
            "cpu",
            "tax",
            "the look-up costs at most one and a half times the CPU of the rest of a small request",
            correct.cpu_marginal_s_per_request("server") / naive.cpu_marginal_s_per_request("server"),
            relation="at_most",
            predict=in_duet(2.5),
            null=1.0,
            tolerance=0.0,
            formula="(route + look-up) / route, with look-up <= 1.5 route",
            source="benchmarks/call_costs.py: a GET of redis-py costs 1.8 times the CPU of a small route, without the server's part",
        ),
        Claim(
            "like_a_session",
            "tax",
            "a denylist costs what a session costs, and the signature check on top",
            correct.cpu_server_s_per_request / server_session.cpu_server_s_per_request,
            relation="at_least",
            predict=in_duet(1.0),
            tolerance=0.02,
            formula="(look-up + signature) / look-up, above 1",
            source=COST,
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.observed("accepted_after_logout"),
            "A logged-out token is accepted {accepted:.0f} times in the two seconds it has left",
            x="left_s",
            x_label="life left at the logout",
            y_label="requests accepted after the logout",
            conditions=("logout at expiry", "1 s left", "2 s left", "4 s left"),
            theory=("accepted", "denylist"),
        ),
        Chart(
            "counts",
            each.observed("accepted_after_logout"),
            (
                "Accepted after the logout: {accepted:.0f} by the JWT alone, {short_life:.0f} with a life of one "
                "second, {denylist:.0f} with a denylist"
            ),
            y_label="requests accepted after the logout",
            conditions=("2 s left", "renewed every second"),
            theory=("accepted", "denylist", "session", "short_life"),
        ),
        Chart(
            "counts",
            each.observed("accepted_after_logout"),
            "While Redis is away, a denylist that fails open accepts {fails_open:.0f} of 20 logged-out requests",
            y_label="requests accepted after the logout",
            conditions=("Redis away",),
            theory=("fails_open", "fails_closed"),
        ),
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "A denylist costs {like_a_session:.1f} times what a session costs",
            conditions=("three rates",),
        ),
    ),
    answer=(
        "A JWT with two seconds left is accepted {accepted:.0f} times after its logout at 20 requests per second (15 "
        "minutes would be 18,000). A denylist accepts {denylist:.0f} for {one_lookup:.0f} Redis command per request, "
        "a life of one second {short_life:.0f}. While Redis is away, a denylist that fails open accepts "
        "{fails_open:.0f} of 20; one that fails closed refuses every user."
    ),
    disagrees_with_source=(
        "The source calls a JWT stateless and says a denylist can revoke it. A denylist asks Redis as often as a "
        "session does and adds the signature check. What is left of stateless: Redis holds the logged-out tokens "
        "instead of the logged-in ones."
    ),
)
