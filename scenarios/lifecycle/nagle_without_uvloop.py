"""Head and body in two writes, Nagle on, a delayed acknowledgement: each request but the first on a connection waits 40 ms.

Nagle is on where asyncio serves sockets that it did not open itself: uvicorn with two workers.  One worker, uvloop and gunicorn's own
worker are the controls.  40 ms is Linux's least delay of an acknowledgement, so the ratio to uvloop's fraction of a millisecond is large.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Server

DELAYED_ACK_S = 0.040  # TCP_DELACK_MIN of Linux
REQUESTS = 40


class Reader(LabUser):
    """One connection; its first request has a name of its own."""

    asked = 0

    @task
    def read_price(self) -> None:
        self.asked += 1
        self.get("/prices/7", name="first" if self.asked == 1 else "next")


def reader(
    label: str, server: Server, *, control: bool = False, variants: tuple[str, ...] = ("naive",), quick_pairs: int = 3
) -> Condition:
    """One user on one connection.  naive runs on asyncio, as its main() says."""
    return Condition(
        label, ClosedLoad(1, requests=REQUESTS), server=server, loops={"naive": "asyncio"}, variants=variants, control=control,
        params={"workers": server.workers, "server": server.kind}, quick_pairs=quick_pairs,
    )  # fmt: skip


def bitten(condition: Condition, value: float) -> float | None:
    """``value`` under two workers of uvicorn."""
    return None if condition.control else value


def spared(condition: Condition, value: float) -> float | None:
    """``value`` under the controls."""
    return value if condition.control else None


SCENARIO = Scenario(
    title="Forty milliseconds for nothing",
    claim="uvicorn --workers 2 on the standard event loop adds 40 ms to each request but the first on a connection",
    parts=(6,),
    catalogue_ids=("tcp-nodelay",),
    conditions=(
        reader("uvicorn, 2 workers", Server(workers=2), variants=()),
        reader("uvicorn, 1 worker", Server(workers=1), control=True, quick_pairs=2),
        reader("gunicorn, 2 workers", Server(kind="gunicorn", workers=2), control=True, quick_pairs=2),
    ),
    probes=(Probe("/prices/7", body={"product_id": 7, "price_cents": 700}),),
    claims=(
        Claim(
            "next", "harm", "each request but the first waits for a delayed acknowledgement", "naive.latency_p50_s[next]", relation="at_least",
            predict=lambda c: bitten(c, DELAYED_ACK_S), tolerance=0.0,
            formula="40 ms", source="Nagle and TCP_DELACK_MIN; claims tcp-nodelay",
        ),
        Claim(
            "slower", "harm", "which is at least 20 times uvloop's answer", "naive.latency_p50_s[next] / correct.latency_p50_s[next]",
            relation="at_least", predict=lambda c: bitten(c, 20.0), null=1.0,
            formula="40 ms / less than 2 ms", source="ours: uvloop answers within a millisecond on loopback",
        ),
        Claim(
            "first", "mechanism", "the first request on the connection does not", "naive.latency_max_s[first]", relation="at_most",
            predict=lambda c: bitten(c, DELAYED_ACK_S / 2), tolerance=0.0,
            formula="less than half of it", source="Linux acknowledges at once while a connection is young (quick acks)",
        ),
        Claim(
            "cpu_idle", "mechanism", "and nobody works meanwhile: the loop is not held", "naive.loop_lag_max_s", relation="at_most",
            predict=lambda c: bitten(c, DELAYED_ACK_S), tolerance=0.0,
            formula="less than 40 ms", source="the kernel waits, not the application",
        ),
        Claim(
            "controls", "mechanism", "one worker, or gunicorn, on the same loop do not wait", "naive.latency_p50_s[next]", relation="at_most",
            predict=lambda c: spared(c, DELAYED_ACK_S / 4), tolerance=0.0,
            formula="less than 10 ms", source="TCP_NODELAY is set there", headline="uvicorn, 1 worker",
        ),
        Claim(
            "fixed", "fix", "two workers on uvloop do not wait", "correct.latency_p50_s[next]", relation="at_most",
            predict=lambda c: bitten(c, DELAYED_ACK_S / 4), tolerance=0.0,
            formula="less than 10 ms", source="uvloop sets TCP_NODELAY on every TCP connection",
        ),
    ),
    charts=(
        Chart(
            "ecdf", "latency", "On asyncio with two workers an answer takes {next:.3f} s, on uvloop {fixed:.4f} s",
            conditions=("uvicorn, 2 workers",), log_x=True,
        ),
        Chart(
            "counts", "latency_p50_s[next]", "Two workers on asyncio wait; one worker, or gunicorn, do not",
            y_label="median time of a request on a kept connection, s",
            conditions=("uvicorn, 2 workers", "uvicorn, 1 worker", "gunicorn, 2 workers"), log_x=True,
        ),
        Chart(
            "timeline", "latency", "The first request is fast, all others wait for an acknowledgement", conditions=("uvicorn, 2 workers",),
        ),
    ),
    answer="On two uvicorn workers and the standard loop each request but the first takes {next:.3f} s, {slower:.0f} times uvloop's {fixed:.5f} s; "
    "with one worker it takes {controls:.5f} s.",
)  # fmt: skip
