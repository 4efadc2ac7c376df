"""A limit counts the name that a request is filed under: who may choose the name has as many limits as names, N admitted instead of L.

X-Forwarded-For grows to the right: each proxy appends the address that it saw.  With one proxy the last entry is the client, all entries before
it are what the client sent.  uvicorn walks from the right and takes the first address that it does not trust; with --forwarded-allow-ips '*' it
trusts all and takes the leftmost.  An IPv6 customer has a /64 network: a limit for an address is a limit for one of 2 ** 64.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, Probe, Scenario, Server, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_control, under

client_host = Arm("client_host")

LIMIT = 10  # LIMIT in all targets
WINDOW_S = 60  # WINDOW_S in all targets
REQUESTS = 100
CLIENT = "203.0.113.7"  # RFC 5737: addresses for documentation
VICTIM = "198.51.100.9"
FORGED, TWICE, STAR, IPV6, BLAMED, HONEST = (
    "100 requests, forged addresses",
    "100 requests through two proxies",
    "100 requests, the server trusts everybody",
    "100 addresses of one IPv6 network",
    "10 requests in another client's name",
    "100 requests, nothing forged",
)
TRUSTING = Server(options=("--proxy-headers", "--forwarded-allow-ips", "*"))
TRUSTING_THE_PROXY = Server(options=("--proxy-headers", "--forwarded-allow-ips", "127.0.0.1"))


class Client(LabUser):
    """A client and the proxies in front of the target: what it sends, and what they append."""

    def journey(self) -> None:
        for number in range(REQUESTS):
            forwarded = str(self.params["forwarded"]).format(a=number // 250, b=1 + number % 250)
            self.get("/quotes/ACME", name="quote", headers={"X-Forwarded-For": forwarded}, expect=(200, 429))


class Blamer(LabUser):
    """Uses up the limit of somebody else, who then asks once."""

    def journey(self) -> None:
        for _ in range(LIMIT):
            forged = {"X-Forwarded-For": f"{VICTIM}, {CLIENT}"}
            self.get("/quotes/ACME", name="forged", headers=forged, expect=(200, 429))
        own = self.get("/quotes/ACME", name="victim", headers={"X-Forwarded-For": VICTIM}, expect=(200, 429))
        self.count("victim_refused", own.status == 429)


class Steady(LabUser):
    """Many clients, each of which asks once."""

    @task
    def read_quote(self) -> None:
        a, b, c = (self.rng.randrange(256) for _ in range(3))
        self.get("/quotes/ACME", name="quote", headers={"X-Forwarded-For": f"10.{a}.{b}.{c}"})


def asked(
    label: str,
    forwarded: str,
    *,
    env: dict[str, str] | None = None,
    host_server: Server = TRUSTING_THE_PROXY,
    variants: tuple[str, ...] = (),
    control: bool = False,
    user: str = "Client",
) -> Condition:
    """A hundred requests; ``{a}`` and ``{b}`` in the header are another number each time."""
    return Condition(
        label,
        Journey(1),
        user=user,
        servers={"client_host": host_server},
        params={"forwarded": forwarded},
        env=env or {},
        variants=variants,
        control=control,
        quick_pairs=1,
    )


SOURCE = "RFC 7239 and the de facto X-Forwarded-For: each proxy appends the address that it saw"

SCENARIO = Scenario(
    title="Rate limit by IP address bypassed: a client writes its own X-Forwarded-For",
    claim=(
        "A client that writes another address into X-Forwarded-For each time gets 100 of 100 requests through a limit of 10; "
        "counted by the address that the own proxy appended it gets 10"
    ),
    parts=(4, 10),
    catalogue_ids=("rl-xff-spoof", "rl-ipv6-64", "tcp-loopback-xff"),
    before_after=BeforeAfter(
        each.status_count("200"),
        "requests let through (limit 10)",
        FORGED,
        "A client behind one proxy writes another address into X-Forwarded-For for each of 100 requests.",
    ),
    labels={
        "naive": "first address of the header",
        "correct": "address the proxy appended, /64",
        "client_host": "request.client.host",
    },
    symptoms=(
        "X-Forwarded-For spoofing",
        "rate limit bypass",
        "rate limiter by IP does not work",
        "get_remote_address",
        "request.client.host",
        "127.0.0.1 for all clients behind nginx",
        "--forwarded-allow-ips",
        "--proxy-headers",
        "IPv6 rate limit",
        "429 Too Many Requests for everybody",
        "X-Real-IP",
    ),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S},
    conditions=(
        asked(FORGED, "10.7.{a}.{b}, " + CLIENT),
        asked(
            TWICE,
            "10.7.{a}.{b}, " + CLIENT + ", 192.0.2.10",
            env={"TRUSTED_PROXIES": "2"},
            variants=("naive", "correct"),
        ),
        asked(STAR, "10.7.{a}.{b}, " + CLIENT, host_server=TRUSTING, variants=("client_host",)),
        asked(IPV6, "2001:db8:7:7::{a}:{b}"),
        asked(BLAMED, "", user="Blamer"),
        asked(HONEST, CLIENT, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/quotes/ACME", headers={"X-Forwarded-For": "192.0.2.1"}, body={"symbol": "ACME", "price_cents": 1999}),
    ),
    claims=(
        Claim(
            "forged",
            "harm",
            "a client that writes another address each time is never limited",
            naive.status_count("200"),
            predict=under(FORGED, TWICE, value=float(REQUESTS)),
            tolerance=0.0,
            null=LIMIT,
            formula="N = 100",
            source=SOURCE,
            headline=FORGED,
        ),
        Claim(
            "blamed",
            "harm",
            "and it can use up the limit of somebody else",
            naive.observed("victim_refused"),
            predict=under(BLAMED, value=1.0),
            tolerance=0.0,
            null=0.0,
            formula="1: L = 10 were counted under that name",
            source=SOURCE,
        ),
        Claim(
            "star",
            "harm",
            "request.client.host is as bad where the server trusts every peer",
            client_host.status_count("200"),
            predict=under(STAR, value=float(REQUESTS)),
            tolerance=0.0,
            null=LIMIT,
            formula="N = 100",
            source="uvicorn's source, ProxyHeadersMiddleware: with '*' the leftmost address",
        ),
        Claim(
            "ipv6",
            "harm",
            "one customer with an IPv6 network has as many limits as addresses",
            client_host.status_count("200"),
            predict=under(IPV6, value=float(REQUESTS)),
            tolerance=0.0,
            null=LIMIT,
            formula="N = 100",
            source="RFC 4291, section 2.5.4: a network has 64 bits for the interface",
        ),
        Claim(
            "names",
            "mechanism",
            "each name has a counter",
            naive.redis_calls("expire"),
            predict=under(FORGED, value=float(REQUESTS)),
            tolerance=0.0,
            null=1.0,
            formula="N = 100",
            source="the script sets an expiry where a counter is new",
        ),
        Claim(
            "honest",
            "mechanism",
            "a client that writes nothing is limited",
            naive.status_count("200"),
            predict=in_control(float(LIMIT)),
            tolerance=0.0,
            null=REQUESTS,
            formula="L = 10",
            source="the proxy's entry is then the first one",
        ),
        Claim(
            "counted_once",
            "fix",
            "counted by what the own proxy appended, the limit holds, behind two proxies and for an IPv6 network too",
            correct.status_count("200"),
            predict=under(FORGED, TWICE, IPV6, HONEST, value=float(LIMIT)),
            tolerance=0.0,
            null=REQUESTS,
            formula="L = 10",
            source=SOURCE,
            headline=FORGED,
        ),
        Claim(
            "not_blamed",
            "fix",
            "and nobody is counted under another name",
            correct.observed("victim_refused"),
            predict=under(BLAMED, value=0.0),
            tolerance=0.0,
            null=1.0,
            formula="0",
            source=SOURCE,
        ),
        Claim(
            "host",
            "fix",
            "request.client.host holds where the server trusts the proxy alone",
            client_host.status_count("200"),
            predict=under(FORGED, HONEST, value=float(LIMIT)),
            tolerance=0.0,
            null=REQUESTS,
            formula="L = 10",
            source="uvicorn's source, ProxyHeadersMiddleware: from the right, the first address that is not trusted",
            headline=FORGED,
        ),
        Claim(
            "one_command",
            "tax",
            "it asks Redis no more than before",
            correct.redis_calls("evalsha"),
            predict=in_control(float(REQUESTS)),
            tolerance=0.0,
            formula="one for each request",
            source="the address is found in the process",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.status_count("200"),
            "By the first address {forged:.0f} of 100 requests pass a limit of 10, by what the proxy appended {counted_once:.0f}",
            y_label="requests let through",
            conditions=(FORGED, STAR, IPV6, HONEST),
            theory=("forged", "star", "ipv6", "counted_once", "host", "honest"),
        ),
    ),
    answer=(
        "A client that writes another address each time gets {forged:.0f} of 100 requests through a limit of 10 (predicted "
        "{forged.predicted:.0f}); counted by the address that the own proxy appended, {counted_once:.0f}."
    ),
    survival=Survival(user="Steady", answer_within_s=2.5, recover_within_s=3.0),
)
