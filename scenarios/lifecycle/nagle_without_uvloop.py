"""Head and body in two writes, Nagle on, a delayed acknowledgement: each request but the first on a connection waits 40 ms.

Nagle is on where asyncio serves a listening socket whose protocol number is 0: uvicorn with two workers.  One worker, uvloop and gunicorn's own
worker are the controls.  Linux delays an acknowledgement by at least 40 ms (TCP_DELACK_MIN) and rounds up to its next tick, which is up to 10 ms
later at 100 ticks per second; what uvloop takes is a fraction of a millisecond, so the ratio is large.
"""

from dataclasses import replace

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Server, Survival
from lab.words.metrics import correct, each, naive

DELAYED_ACK_S = 0.040  # TCP_DELACK_MIN of Linux
REQUESTS = 40


class Reader(LabUser):
    """One connection; its first request has another name."""

    asked = 0

    @task
    def read_price(self) -> None:
        self.asked += 1
        self.get("/prices/7", name="first" if self.asked == 1 else "next")


class Steady(LabUser):
    """Reads prices again and again; each must be the price of the product that was asked for."""

    @task
    def read_price(self) -> None:
        product = self.rng.randrange(1, 1000)
        reply = self.get(f"/prices/{product}", name="price")
        self.count("wrong", reply.status == 200 and reply.json()["price_cents"] != 100 * product)


def reader(
    label: str, server: Server, *, control: bool = False, variants: tuple[str, ...] = ("naive",), quick_pairs: int = 3
) -> Condition:
    """One user on one connection.  naive runs on asyncio, as its main() says."""
    return Condition(
        label,
        ClosedLoad(1, requests=REQUESTS),
        user="Reader",
        server=server,
        servers={"naive": replace(server, loop="asyncio")},
        variants=variants,
        control=control,
        params={"workers": server.workers, "server": server.kind},
        quick_pairs=quick_pairs,
    )


def delayed(condition: Condition, value: float) -> float | None:
    """``value`` under two workers of uvicorn."""
    return None if condition.control else value


def spared(condition: Condition, value: float) -> float | None:
    """``value`` under the controls."""
    return value if condition.control else None


SCENARIO = Scenario(
    title="40 ms per request: uvicorn workers without uvloop lose TCP_NODELAY",
    claim=(
        "With `uvicorn --workers 2` on asyncio every request after the first on a connection takes 44 ms instead of "
        "0.2 ms"
    ),
    parts=(6,),
    catalogue_ids=("tcp-nodelay",),
    before_after=BeforeAfter(
        each.latency_p50_s("next"),
        "for each request but the first",
        "uvicorn, 2 workers",
        "One client sends small requests on one connection, one after the other.",
    ),
    labels={"naive": "2 workers on asyncio", "correct": "2 workers on uvloop"},
    symptoms=(
        "40 ms latency",
        "44 ms",
        "slow keep-alive",
        "TCP_NODELAY",
        "Nagle",
        "delayed ACK",
        "uvicorn --workers slow",
        "uvicorn slow without uvloop",
        "--loop asyncio",
        "Windows",
        "Alpine",
        "CPU idle but slow",
        "first request fast, next slow",
    ),
    conditions=(
        reader("uvicorn, 2 workers", Server(workers=2), variants=()),
        reader("uvicorn, 1 worker", Server(workers=1), control=True, quick_pairs=2),
        reader("gunicorn, 2 workers", Server(kind="gunicorn", workers=2), control=True, quick_pairs=2),
    ),
    probes=(Probe("/prices/7", body={"product_id": 7, "price_cents": 700}),),
    claims=(
        Claim(
            "next",
            "harm",
            "each request but the first waits for a delayed acknowledgement",
            naive.latency_p50_s("next"),
            predict=lambda c: delayed(c, DELAYED_ACK_S + 0.005),
            tolerance=0.15,
            formula="40 to 50 ms: 40 ms, rounded up to the kernel's next tick",
            source="Linux, include/net/tcp.h: TCP_DELACK_MIN is HZ / 25",
        ),
        Claim(
            "slower",
            "harm",
            "that is at least 20 times the time of uvloop",
            naive.latency_p50_s("next") / correct.latency_p50_s("next"),
            relation="at_least",
            predict=lambda c: delayed(c, 20.0),
            null=1.0,
            formula="40 ms / less than 2 ms",
            source="measured here: uvloop answers within a millisecond on loopback",
        ),
        Claim(
            "first",
            "mechanism",
            "the first request on the connection does not wait",
            naive.latency_max_s("first"),
            relation="at_most",
            predict=lambda c: delayed(c, DELAYED_ACK_S / 2),
            tolerance=0.0,
            formula="less than half of it",
            source="Linux acknowledges at once while a connection is young (quick acks)",
        ),
        Claim(
            "cpu_idle",
            "mechanism",
            "the event loop is not blocked meanwhile: the kernel waits",
            naive.loop_lag_p99_s,
            relation="at_most",
            predict=lambda c: delayed(c, DELAYED_ACK_S / 4),
            tolerance=0.0,
            formula="less than 10 ms for 99 % of the time; blocked, it would be 40 ms late for most of it",
            source="Nagle's algorithm holds the packet in the kernel (RFC 896)",
        ),
        Claim(
            "controls",
            "mechanism",
            "one worker, or gunicorn, on the same event loop does not wait",
            naive.latency_p50_s("next"),
            relation="at_most",
            predict=lambda c: spared(c, DELAYED_ACK_S / 4),
            tolerance=0.0,
            formula="less than 10 ms",
            source="TCP_NODELAY is set there (Kludex/uvicorn issue 3149)",
            headline="uvicorn, 1 worker",
        ),
        Claim(
            "fixed",
            "fix",
            "two workers on uvloop do not wait",
            correct.latency_p50_s("next"),
            relation="at_most",
            predict=lambda c: delayed(c, DELAYED_ACK_S / 4),
            tolerance=0.0,
            formula="less than 10 ms",
            source="uvloop, handles/tcp.pyx: _set_nodelay on every TCP connection",
        ),
        Claim(
            "memory",
            "tax",
            "uvloop needs at most a fifth more memory per server",
            correct.rss_peak_bytes / naive.rss_peak_bytes,
            relation="at_most",
            predict=lambda c: delayed(c, 1.2),
            tolerance=0.0,
            formula="1.2",
            source=(
                "one shared library of some MB in each process, next to the 40 MB and more of an application with "
                "FastAPI"
            ),
        ),
    ),
    charts=(
        Chart(
            "ecdf",
            "latency",
            "Two workers: a request takes {next:.3f} s on asyncio, {fixed:.4f} s on uvloop",
            conditions=("uvicorn, 2 workers",),
            log_x=True,
        ),
        Chart(
            "counts",
            each.latency_p50_s("next"),
            "Two uvicorn workers on asyncio wait; one worker, or gunicorn, does not",
            y_label="median time of a request on a kept connection, s",
            conditions=("uvicorn, 2 workers", "uvicorn, 1 worker", "gunicorn, 2 workers"),
            log_x=True,
        ),
        Chart(
            "timeline",
            "latency",
            "The first request is fast; all others wait for an acknowledgement",
            conditions=("uvicorn, 2 workers",),
        ),
    ),
    answer=(
        "With two uvicorn workers on asyncio each request but the first takes {next:.3f} s, {slower:.0f} times the "
        "{fixed:.5f} s on uvloop; with one worker it takes {controls:.5f} s."
    ),
    survival=Survival(
        user="Steady", answer_within_s=1.0, recover_within_s=3.0, ledger={"wrong": each.observed("wrong")}
    ),
)
