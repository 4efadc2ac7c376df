"""An authorization code says who has logged in at the provider.  It does not say in which browser: that is what state and PKCE are for.

Without state whoever opens a link with the attacker's code is logged in as the attacker.  With state alone a stolen code still works in a login that
the thief has begun himself: the state is his own.  With PKCE (RFC 7636) the provider asks for the secret of the login that the code was issued
for.  Each attack is tried ten times; what is counted is who the application believes to be there afterwards.
"""

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from locust import task

from lab.generator.users import LabUser, Reply
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

SESSION_KEY = "a-key-for-sessions-of-32-bytes-or-more"
PROVIDER_KEY = "a-key-of-the-provider-of-32-bytes-or-more"
ENV = {"SESSION_KEY": SESSION_KEY, "PROVIDER_KEY": PROVIDER_KEY}
CALLBACK = "https://shop.example.com/callback"
TIMES = 10
LINK, MEANWHILE, STOLEN, MOVED, HONEST = (
    "a link with the attacker's code",
    "the same link during a login",
    "a stolen code in the thief's own login",
    "begun in one browser, ended in another",
    "honest logins, two tabs at once",
)


@dataclass
class Browser:
    """Cookies, and a way to keep those that an answer sets."""

    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    def keep(self, reply: Reply) -> Reply:
        for line in reply.head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "set-cookie":
                key, _, content = value.strip().partition(";")[0].partition("=")
                self.cookies[key] = content.strip('"')
        self.cookies = {key: content for key, content in self.cookies.items() if content}
        return reply


def code_for(customer: str, begun: dict[str, str]) -> str:
    """The code that the provider issues after a customer has logged in there: it remembers the challenge of the login it is for."""
    claims: dict[str, Any] = {"sub": customer, "redirect_uri": CALLBACK, "exp": int(time.time()) + 60}
    if "code_challenge" in begun:
        claims["code_challenge"] = begun["code_challenge"]
    return jwt.encode(claims, PROVIDER_KEY, algorithm="HS256")


class Browsers(LabUser):
    """A customer's browser and an attacker's, in turns."""

    def begin(self, browser: Browser) -> dict[str, str]:
        """Begin a login; gives what the provider is told."""
        reply = browser.keep(self.get("/login", name="login", headers=browser.headers, expect=(303,)))
        return {name: values[0] for name, values in parse_qs(urlsplit(reply.header("location")).query).items()}

    def end(self, browser: Browser, code: str, state: str | None) -> str:
        """Bring a code back; gives who the application then believes to be there, "" where the login was refused."""
        query = urlencode({"code": code} | ({"state": state} if state else {}))
        answer = self.get(f"/callback?{query}", name="callback", headers=browser.headers, expect=(303, 400, 422))
        browser.keep(answer)
        if answer.status != 303:
            return ""
        me = self.get("/me", name="me", headers=browser.headers)
        return str(me.json()["customer"]) if me.status == 200 else ""

    def journey(self) -> None:
        self.count("attacker_logged_in", 0)
        self.count("logged_in", 0)
        for _ in range(TIMES):
            {LINK: self.link, MEANWHILE: self.meanwhile, STOLEN: self.stolen, MOVED: self.moved, HONEST: self.tabs}[
                self.condition.label
            ]()

    def link(self, victim: Browser | None = None) -> None:
        """Mallory logs in, keeps the code, and sends the link to Ada, who then saves her card in Mallory's account."""
        begun = self.begin(Browser())
        who = self.end(victim or Browser(), code_for("mallory", begun), begun.get("state"))
        self.count("attacker_logged_in", who == "mallory")

    def meanwhile(self) -> None:
        """The same while Ada's browser has begun a login itself."""
        ada = Browser()
        self.begin(ada)
        self.link(ada)

    def stolen(self) -> None:
        """Ada's code has leaked (a log, a Referer, another app on her phone); Mallory brings it to a login that she has begun herself."""
        code = code_for("ada", self.begin(Browser()))
        mallory = Browser()
        own = self.begin(mallory)
        self.count("attacker_logged_in", self.end(mallory, code, own.get("state")) == "ada")

    def moved(self) -> None:
        """Ada begins in the browser of her mail program, and the provider's page opens in another."""
        begun = self.begin(Browser())
        self.count("logged_in", self.end(Browser(), code_for("ada", begun), begun.get("state")) == "ada")

    def tabs(self) -> None:
        """Ada begins two logins in two tabs and ends both, the second one first."""
        ada = Browser()
        first, second = self.begin(ada), self.begin(ada)
        for begun in (second, first):
            self.count("logged_in", self.end(ada, code_for("ada", begun), begun.get("state")) == "ada")


class Steady(Browsers):
    """A customer who logs in."""

    @task
    def log_in(self) -> None:
        ada = Browser()
        begun = self.begin(ada)
        if begun:
            self.end(ada, code_for("ada", begun), begun.get("state"))


def tried(label: str, *, control: bool = False) -> Condition:
    """Ten times."""
    return Condition(label, Journey(1), user="Browsers", env=ENV, control=control, quick_pairs=1)


BCP = "RFC 9700, sections 2.1.1, 4.5 and 4.7"

SCENARIO = Scenario(
    title="OAuth2 login without state and PKCE: login CSRF and stolen authorization codes",
    claim=(
        "Without state 10 of 10 links with the attacker's code log the victim in as the attacker; with state none, but 10 of 10 stolen "
        "codes still work; with PKCE none does"
    ),
    parts=(12,),
    catalogue_ids=("au-open-redirect-state",),
    before_after=BeforeAfter(
        each.observed("attacker_logged_in"),
        "stolen codes of 10 accepted",
        STOLEN,
        "A customer's code has leaked; the thief brings it to a login that he has begun himself, ten times.",
    ),
    labels={"naive": "code alone", "correct": "state and PKCE", "tempting": "state alone"},
    symptoms=(
        "login CSRF",
        "OAuth2 state parameter",
        "Invalid state parameter",
        "mismatching_state: CSRF Warning! State not equal in request and response.",
        "authlib.integrations.base_client.errors.MismatchingStateError",
        "authorization code injection",
        "code_verifier",
        "code_challenge",
        "PKCE",
        "invalid_grant",
        "logged in as another user",
        "Sign in with Google FastAPI",
    ),
    conditions=(tried(LINK), tried(MEANWHILE), tried(STOLEN), tried(MOVED), tried(HONEST, control=True)),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/me", status=401),
        Probe(f"/callback?code=x&state={'x' * 43}", status=400),
    ),
    contract_differs="the callback of correct and tempting asks for the state",
    claims=(
        Claim(
            "link",
            "harm",
            "a link with the attacker's code logs the victim in as the attacker",
            naive.observed("attacker_logged_in"),
            predict=under(LINK, MEANWHILE, value=float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source=BCP,
            headline=LINK,
        ),
        Claim(
            "stolen",
            "harm",
            "a stolen code logs the thief in as the victim",
            naive.observed("attacker_logged_in"),
            predict=under(STOLEN, value=float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source=BCP,
        ),
        Claim(
            "state_is_own",
            "harm",
            "with state alone it still does: the state is the thief's own",
            tempting.observed("attacker_logged_in"),
            predict=under(STOLEN, value=float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source=BCP,
        ),
        Claim(
            "state_stops_links",
            "mechanism",
            "what state stops is the link",
            tempting.observed("attacker_logged_in"),
            predict=under(LINK, MEANWHILE, value=0.0),
            tolerance=0.0,
            null=float(TIMES),
            formula="0 of 10: the victim's browser has not begun this login",
            source=BCP,
            headline=LINK,
        ),
        Claim(
            "none",
            "fix",
            "with state and PKCE no attack succeeds",
            correct.observed("attacker_logged_in"),
            predict=under(LINK, MEANWHILE, STOLEN, value=0.0),
            tolerance=0.0,
            null=float(TIMES),
            formula="0 of 10",
            source="RFC 7636, section 4.6: the provider compares the verifier with the challenge of the code",
            headline=STOLEN,
        ),
        Claim(
            "honest",
            "fix",
            "and customers log in, in two tabs at once too",
            correct.observed("logged_in"),
            predict=in_control(2.0 * TIMES),
            tolerance=0.0,
            null=0.0,
            formula="2 tabs x 10",
            source="each login has a cookie of its own",
        ),
        Claim(
            "moved",
            "tax",
            "a login that ends in another browser than it began in is refused",
            correct.observed("logged_in"),
            predict=under(MOVED, value=0.0),
            tolerance=0.0,
            null=float(TIMES),
            formula="0 of 10",
            source="it cannot be told from an attack",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("attacker_logged_in"),
            "Ten attacks each: with the code alone all succeed, with state alone {state_is_own:.0f} stolen codes do, with PKCE {none:.0f}",
            y_label="attacks that succeed, of 10",
            conditions=(LINK, MEANWHILE, STOLEN),
            theory=("link", "stolen", "state_is_own", "state_stops_links", "none"),
        ),
    ),
    answer=(
        "With the code alone {link:.0f} of 10 links log the victim in as the attacker (predicted {link.predicted:.0f}) and {stolen:.0f} of 10 "
        "stolen codes work; with state alone {state_is_own:.0f} stolen codes still do; with state and PKCE {none:.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, env=ENV),
)
