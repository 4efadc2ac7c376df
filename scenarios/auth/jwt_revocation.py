"""A token that only its signature and its time speak for is accepted until exp: rate x (exp - logout) requests after the logout.

A short life with rotation makes that rate x what is left of the short life, at one Redis command per life.  A denylist makes it none, at one
command per request: the cost of a session on the server, which is why that runs here too.  A look-up can fail; then the answer is either
refused (nobody comes in) or taken for a no (everybody does, logged out or not).
"""

import math
import threading
import time
from typing import Any

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, Condition, Event, Journey, OpenLoad, Probe, Proxy, Scenario, Stage, StagedLoad

RATE = 20  # requests a second of whoever has a copy of the token
SOURCE_LIFE_S = 900  # the source's access token
ADA = {"name": "ada", "password": "correct horse"}
OUTAGE_BEGINS_S, OUTAGE_ENDS_S = 1.6, 4.2
ASKED = 20  # requests with each token before the outage and in it


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
        out = False
        for name in ("accepted_after_logout", "refused_before", "refreshed_after_logout"):
            self.count(name, 0)
        last = self.condition.number("logout_s") + self.condition.number("left_s") + 0.4
        for number in range(int(last * RATE)):
            at = (number + 0.5) / RATE
            _wait_until(begin + at)
            if not out and at > self.condition.number("logout_s"):
                self.log_out(tokens["access_token"])
                out = True
            status = self.ask(tokens["access_token"])
            if out:
                self.count("accepted_after_logout", status == 200)
            elif status == 401 and "refresh_token" in tokens:
                tokens = self.refresh(tokens)
                status = self.ask(tokens["access_token"])
            self.count("refused_before", not out and status != 200)
        if "refresh_token" in tokens:
            status = self.post("/refresh", name="refresh", json={"refresh_token": tokens["refresh_token"]}).status
            self.count("refreshed_after_logout", status == 200)

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


class Steady(Account):
    """Asks as planned, with one token for all users: a password check costs as much CPU as a hundred requests, so it is done before the start."""

    token = ""
    logging_in = threading.Lock()

    def on_start(self) -> None:
        with Steady.logging_in:  # one log-in in each generator process: user 0 is in only one of them
            if not Steady.token:
                Steady.token = self.log_in()["access_token"]

    @task
    def read_account(self) -> None:
        self.ask(self.token)


def _wait_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def env(life_s: int) -> dict[str, str]:
    """What the targets read."""
    return {"JWT_SECRET": "a-secret-of-more-than-thirty-two-bytes", "ACCESS_TOKEN_LIFE_S": str(life_s)}


def logout(
    label: str, *, life_s: int, logout_s: float, left_s: float, variants: tuple[str, ...] = ("naive", "correct"), quick: bool = True,
) -> Condition:  # fmt: skip
    """A session that ends after ``logout_s``, when its access token has ``left_s`` to live."""
    return Condition(
        label, Journey(), user="LoggedOut", env=env(life_s), variants=variants, quick_pairs=1, quick=quick, control=left_s == 0,
        params={"life_s": life_s, "logout_s": logout_s, "left_s": left_s},
    )  # fmt: skip


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


def in_duet(condition: Condition, value: float) -> float | None:
    """``value`` where the techniques share every second."""
    return value if condition.duet else None


WINDOW = "exp is all that ends a token; claims au-jwt-revocation-window"
COST = "claims au-denylist-cost"

SCENARIO = Scenario(
    title="A token that cannot be taken back",
    claim="After the logout a stateless token is accepted rate x remaining life times",
    parts=(12,),
    catalogue_ids=("au-jwt-revocation-window", "au-denylist-cost"),
    services=("redis",),
    contract_differs="short_life has a second token and an endpoint to renew with it",
    conditions=(
        logout("logout at expiry", life_s=1, logout_s=1.0, left_s=0.0),
        logout("1 s left", life_s=2, logout_s=1.0, left_s=1.0, quick=False),
        logout("2 s left", life_s=3, logout_s=1.0, left_s=2.0, variants=("naive", "correct", "server_session")),
        logout("4 s left", life_s=5, logout_s=1.0, left_s=4.0, quick=False),
        logout("renewed every second", life_s=1, logout_s=2.5, left_s=0.5, variants=("short_life",)),
        Condition(
            "Redis away", Journey(), user="InOutage", env=env(60), proxy=Proxy("redis"), quick_pairs=1,
            events=(
                Event(OUTAGE_BEGINS_S, "fault", statement="cut", label="Redis away"),
                Event(OUTAGE_ENDS_S, "fault", statement="pass", label="Redis back"),
            ),
            variants=("naive", "correct", "tempting"), params={"asked": ASKED},
        ),
        Condition(
            "steady", OpenLoad(200.0, connections=8), duration_s=1.0, user="Steady", env=env(60),
            variants=("naive", "correct", "server_session"), params={"rate": 200}, quick_pairs=1,
        ),
        Condition(
            "three rates", StagedLoad(tuple(Stage(rate, 1.0) for rate in (50.0, 300.0, 550.0)), connections=8), user="Steady", env=env(60),
            variants=("naive", "correct", "server_session"), params={"rate": 300}, duet=True,
        ),
    ),
    probes=(
        Probe("/account", status=401),
        Probe("/account", headers={"Authorization": "Bearer not-a-token"}, status=401),
        Probe("/login", "POST", json={"name": "ada", "password": "wrong"}, status=401),
    ),
    claims=(
        Claim(
            "accepted", "harm", "a logged-out token goes on working for what is left of its life", "naive.observed[accepted_after_logout]",
            predict=lambda c: left(c, "naive"), tolerance=0.05, null=0.0,
            formula="rate x (exp - logout)", source=WINDOW, headline="2 s left",
        ),
        Claim(
            "logged_out", "mechanism", "the logout was answered with 204 all the same", "naive.observed[logged_out]",
            predict=lambda c: 1.0 if left(c, "naive") else None, tolerance=0.0,
            formula="1", source="a stateless server has nothing to delete", headline="2 s left",
        ),
        Claim(
            "no_redis", "mechanism", "nothing is asked: a token is checked without a look-up", "naive.redis_calls",
            predict=lambda c: 0.0 if left(c, "naive") is not None else None, tolerance=0.0,
            formula="0", source="part 12: authentication without a database", headline="2 s left",
        ),
        Claim(
            "denylist", "fix", "with a denylist it is refused at once", "correct.observed[accepted_after_logout]",
            predict=lambda c: None if left(c, "correct") is None else 0.0, tolerance=0.0,
            formula="0", source="the logout is in Redis before it is answered", headline="2 s left",
        ),
        Claim(
            "session", "fix", "with a session on the server too", "server_session.observed[accepted_after_logout]",
            predict=lambda c: None if left(c, "server_session") is None else 0.0, tolerance=0.0,
            formula="0", source="the session is deleted before the logout is answered", headline="2 s left",
        ),
        Claim(
            "short_life", "fix", "a short life with rotation narrows the window and does not close it",
            "short_life.observed[accepted_after_logout]", predict=lambda c: left(c, "short_life"), tolerance=0.05, null=RATE * 3.5,
            formula="rate x what is left of the short life", source=WINDOW, headline="renewed every second",
        ),
        Claim(
            "no_renewal", "fix", "after the logout it cannot be renewed", "short_life.observed[refreshed_after_logout]",
            predict=lambda c: None if left(c, "short_life") is None else 0.0, tolerance=0.0,
            formula="0", source="the refresh token is deleted", headline="renewed every second",
        ),
        Claim(
            "fails_open", "harm", "a denylist that takes an outage for a no lets logged-out tokens in again",
            "tempting.observed[accepted_after_logout]",
            predict=lambda c: outage(c, ASKED), tolerance=0.0,
            formula="every request during the outage, none before it", source="both projects named in claims au-jwt-revocation-window fail open",
        ),
        Claim(
            "fails_closed", "fix", "one that refuses does not", "correct.observed[accepted_after_logout]",
            predict=lambda c: outage(c, 0), tolerance=0.0, formula="0", source="no answer is answered with 503",
        ),
        Claim(
            "valid_refused", "tax", "and refuses everybody else as well while Redis is away", "correct.observed[valid_refused]",
            predict=lambda c: outage(c, ASKED), tolerance=0.0,
            formula="every request during the outage", source="no answer is answered with 503",
        ),
        Claim(
            "one_lookup", "tax", "the denylist is one Redis command a request", "correct.redis_calls[exists] / correct.requests_ok[account]",
            predict=lambda c: steady(c, 1.0), tolerance=0.0, formula="1", source=COST,
        ),
        Claim(
            "session_lookup", "tax", "so is a session on the server", "server_session.redis_calls[get] / server_session.requests_ok[account]",
            predict=lambda c: steady(c, 1.0), tolerance=0.0, formula="1", source=COST,
        ),
        Claim(
            "rotation_calls", "tax", "rotation is one Redis command a life", "short_life.redis_calls[evalsha]",
            predict=lambda c: None if left(c, "short_life") is None else 4.0, tolerance=0.0,
            formula="renewed at 1 s and at 2 s, refused once after the logout; the first EVALSHA finds no script and is sent again",
            source="a refresh is one script; NOSCRIPT (redis-py loads it then)", headline="renewed every second",
        ),
        Claim(
            "cpu", "tax", "the look-up at most triples the server's CPU for a request",
            "correct.cpu_marginal_s_per_request[server] / naive.cpu_marginal_s_per_request[server]", relation="at_most",
            predict=lambda c: in_duet(c, 3.0), null=1.0,
            formula="3", source="ours: redis-py takes about 0.1 ms a call, as much as a small route (claims fk-redis-200x)",
        ),
        Claim(
            "like_a_session", "tax", "a denylist costs what a session costs, and the signature check",
            "correct.cpu_server_s_per_request / server_session.cpu_server_s_per_request", relation="at_least",
            predict=lambda c: in_duet(c, 1.0), tolerance=0.05,
            formula="(look-up + signature) / look-up, above 1", source=COST,
        ),
    ),
    charts=(
        Chart(
            "sweep", "observed[accepted_after_logout]", "A logged-out token is accepted {accepted:.0f} times in the two seconds it has left",
            x="left_s", x_label="life left at the logout", y_label="requests accepted after the logout",
            conditions=("logout at expiry", "1 s left", "2 s left", "4 s left"), theory=("accepted", "denylist"),
        ),
        Chart(
            "counts", "observed[accepted_after_logout]", "A short life narrows the window to {short_life:.0f} and does not close it",
            y_label="requests accepted after the logout", conditions=("2 s left", "renewed every second"),
            theory=("accepted", "denylist", "session", "short_life"),
        ),
        Chart(
            "counts", "observed[accepted_after_logout]", "A denylist that fails open lets logged-out tokens in while Redis is away",
            y_label="requests accepted after the logout", conditions=("Redis away",), theory=("fails_open", "fails_closed"),
        ),
        Chart("cpu", "cpu_s_per_request", "A denylist costs {like_a_session:.1f} times what a session costs", conditions=("three rates",)),
    ),
    answer="A token with two seconds left is accepted {accepted:.0f} times after its logout at 20 a second (the source's 15 minutes: 18,000); "
    "a denylist accepts {denylist:.0f} for {one_lookup:.0f} Redis command a request, a life of one second {short_life:.0f}. "
    "While Redis is away a denylist lets {fails_open:.0f} of 20 in again, or refuses everybody.",
    disagrees_with_source="The source calls a JWT stateless and revocable by a denylist. A denylist asks Redis as often as a session does and costs "
    "the signature on top: what is left of stateless is that Redis holds the logged-out tokens instead of the logged-in ones.",
)  # fmt: skip
