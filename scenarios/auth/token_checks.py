"""What a signature says: the issuer's key was used.  Not by whom, for whom, until when, or for what: each of these is a claim that must be asked for.

PyJWT checks exp, nbf, iat and aud where they are in the token, refuses an aud that nobody named, and asks for nothing that is missing.  A table of
tokens that one key has signed says which of them each variant accepts: a count, the same for every run.
"""

import time
from typing import Any

import jwt
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

tempting = Arm("tempting")

KEY = "a-key-for-tests-of-32-bytes-or-more"
AUDIENCE, ISSUER = "https://api.example.com/baskets", "https://login.example.com"
TIMES = 10
SIGNED, BROKEN, OLD, HONEST = (
    "signed, and not an access token for this service",
    "not signed by the issuer, or out of time",
    "an issuer that does not set the type",
    "valid access tokens",
)


def token(header: dict[str, Any] | None = None, key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """A valid access token (RFC 9068), changed: a claim that is None is left out."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, **claims}
    payload = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"typ": "at+jwt", **(header or {})})


def tokens(condition: str) -> dict[str, str]:
    """The tokens of a condition by what they are."""
    now = int(time.time())
    of = {
        SIGNED: {
            "of another issuer": token(iss="https://login-staging.example.com"),
            "for another service": token(aud="https://api.example.com/newsletter"),
            "without an end": token(exp=None),
            "a refresh token": token({"typ": "rt+jwt"}),
            "an ID token": token({"typ": "JWT"}, aud="web-client"),
        },
        BROKEN: {
            "expired": token(exp=now - 60),
            "not valid yet": token(nbf=now + 300),
            "with another key": token(key="another-key-for-tests-of-32-bytes-or-more"),
            "with no algorithm": token(key="", algorithm="none"),
            "with another algorithm": token(algorithm="HS512"),
            "without a subject": token(sub=None),
        },
        OLD: {"of the issuer, type JWT": token({"typ": "JWT"})},
        HONEST: {"an access token": token()},
    }
    return of[condition]


class Bearer(LabUser):
    """Shows each token ten times."""

    def journey(self) -> None:
        for text in tokens(self.condition.label).values():
            for _ in range(TIMES):
                headers = {"Authorization": f"Bearer {text}"}
                self.get("/basket", name="basket", headers=headers, expect=(200, 401))


class Steady(LabUser):
    """A customer with a valid token."""

    @task
    def read_basket(self) -> None:
        self.get("/basket", name="basket", headers={"Authorization": f"Bearer {token()}"})


def shown(label: str, *, control: bool = False) -> Condition:
    """Each token of the table ten times."""
    return Condition(label, Journey(1), user="Bearer", env={"JWT_KEY": KEY}, control=control, quick_pairs=1)


READ = "PyJWT's source, api_jwt.py: checked where it is in the token, asked for where options name it"

SCENARIO = Scenario(
    title="JWT validation: a valid signature is not enough (issuer, audience, expiry, token type)",
    claim=(
        "Of five kinds of tokens that are signed and not meant for this service, jwt.decode with verify_aud off accepts all five, "
        "with an audience three, and with issuer, required claims and type none"
    ),
    parts=(12,),
    catalogue_ids=("au-aud-iss",),
    before_after=BeforeAfter(
        each.status_count("200"),
        "wrong tokens of 50 accepted",
        SIGNED,
        "Five kinds of tokens that the issuer's key has signed, ten times each; none is an access token for this service.",
    ),
    labels={
        "naive": "signature, verify_aud off",
        "correct": "issuer, audience, claims, type",
        "tempting": "signature and audience",
    },
    symptoms=(
        "jwt.exceptions.InvalidAudienceError: Invalid audience",
        "jwt.exceptions.MissingRequiredClaimError",
        "Invalid issuer",
        "verify_aud",
        "token of staging works in production",
        "refresh token accepted as access token",
        "ID token used as access token",
        "token never expires",
        "confused deputy",
        "jwt.decode",
    ),
    conditions=(shown(SIGNED), shown(BROKEN), shown(OLD), shown(HONEST, control=True)),
    probes=(Probe("/health", body={"status": "ok"}), Probe("/basket", status=401)),
    claims=(
        Claim(
            "all_signed",
            "harm",
            "whatever the key has signed is accepted",
            naive.status_count("200"),
            predict=under(SIGNED, value=5.0 * TIMES),
            tolerance=0.0,
            null=0.0,
            formula="5 kinds x 10",
            source=READ,
        ),
        Claim(
            "with_audience",
            "harm",
            "with the audience alone three of the five kinds are",
            tempting.status_count("200"),
            predict=under(SIGNED, value=3.0 * TIMES),
            tolerance=0.0,
            null=0.0,
            formula="3 kinds x 10: another issuer, no end, a refresh token",
            source=READ,
        ),
        Claim(
            "broken",
            "mechanism",
            "signature, times and algorithm are checked in any case",
            naive.status_count("200"),
            predict=under(BROKEN, value=0.0),
            tolerance=0.0,
            null=6.0 * TIMES,
            formula="0 of 6 kinds",
            source="PyJWT documentation: exp and nbf are verified, algorithms is a list of those allowed",
        ),
        Claim(
            "none_accepted",
            "fix",
            "with issuer, audience, required claims and type none is",
            correct.status_count("200"),
            predict=under(SIGNED, BROKEN, value=0.0),
            tolerance=0.0,
            null=5.0 * TIMES,
            formula="0",
            source="RFC 8725, sections 3.8 to 3.11; RFC 9068, section 4",
            headline=SIGNED,
        ),
        Claim(
            "honest",
            "mechanism",
            "a valid access token is accepted by all",
            correct.status_count("200"),
            predict=in_control(float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source="it has everything that is asked for",
        ),
        Claim(
            "type_missing",
            "tax",
            "tokens of an issuer that does not set the type are refused",
            correct.status_count("401"),
            predict=under(OLD, value=float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source="RFC 9068, section 4: the type must be at+jwt",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("200"),
            "Fifty wrong tokens, all signed: {all_signed:.0f} accepted, {with_audience:.0f} with an audience, {none_accepted:.0f} with all checks",
            y_label="tokens accepted",
            conditions=(SIGNED, BROKEN, HONEST),
            theory=("all_signed", "with_audience", "broken", "none_accepted", "honest"),
        ),
    ),
    answer=(
        "Of 50 tokens that are signed and not meant for this service {all_signed:.0f} are accepted by the signature (predicted "
        "{all_signed.predicted:.0f}), {with_audience:.0f} with an audience, and {none_accepted:.0f} with issuer, required claims and type."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0, env={"JWT_KEY": KEY}),
)
