"""asyncio's loop holds a waiting task only weakly: it lives for as long as what it waits for is held by somebody else.

A timer is held by the loop and a socket by its transport, so such tasks survive without a reference.  An event that only the task itself holds
forms a cycle with it (task, coroutine, event, future, task), and the next collection of its generation takes the cycle, silently.

Forced: a full collection ten times a second, so that every such task has met one.  Natural: Python collects when it thinks it is time.
"""

import gevent
from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, Condition, FinalRead, Journey, Probe, Scenario, Server, Upstream

ORDERS = 100
WAIT_S = 0.3  # DELAY_S in all targets, and the supplier's answer
COLLECT_EVERY_S = 0.1
PAUSE_S = 0.5  # between the orders and their approvals: some collections
PATIENCE_S = 1.0
AT_ONCE = 0.9  # of the orders at least, where the approval comes with the next request


class Shop(LabUser):
    """Orders a hundred times, approves, and waits until all is sent or nothing more will come."""

    def journey(self) -> None:
        orders = []
        for _ in range(ORDERS):
            self.reach_every_worker()
            orders.append(self.post("/orders", name="order", json={"waits_for": self.params["waits_for"]}).json()["id"])
            if self.params["at_once"]:
                self.approve(orders)
        if orders and self.params["waits_for"] == "approval":
            gevent.sleep(PAUSE_S)
            self.count("waiting", self.look()["waiting_for_approval"])
            self.approve(orders)
        for _ in range(int(PATIENCE_S / COLLECT_EVERY_S)):
            if self.look()["sent"] == ORDERS:
                break
            gevent.sleep(COLLECT_EVERY_S)

    def look(self) -> dict[str, int]:
        """What is sent, and what waits in the memory of the worker that answers."""
        seen: dict[str, int] = self.get("/orders", name="look").json()
        return seen

    def reach_every_worker(self) -> None:
        """A new connection for the next request, where there are several workers: one stays with its worker."""
        if self.condition.workers > 1:
            self.reconnect()

    def approve(self, orders: list[int]) -> None:
        """Approve them all; the list is empty then."""
        while orders:
            self.reach_every_worker()
            self.post(f"/orders/{orders.pop(0)}/approval", name="approve")

    @task
    def by_hand(self) -> None:
        self.journey()


def orders(
    label: str, waits_for: str, *, forced: bool = True, at_once: bool = False, control: bool = False, workers: int = 1, quick: bool = True,
    variants: tuple[str, ...] = ("naive", "correct"),
) -> Condition:  # fmt: skip
    """A hundred orders that wait for the same thing."""
    return Condition(
        label, Journey(1), upstream=Upstream(WAIT_S), server=Server(workers=workers), quick=quick, quick_pairs=1, control=control, variants=variants,
        env={"COLLECT_EVERY_S": str(COLLECT_EVERY_S)} if forced else {}, forced=forced,
        params={"waits_for": waits_for, "at_once": at_once, "workers": workers},
    )  # fmt: skip


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where orders wait for an approval and collections are forced."""
    return value if condition.forced and condition.params["waits_for"] == "approval" else None


def natural(condition: Condition, value: float) -> float | None:
    """``value`` where orders wait for an approval and Python collects when it likes."""
    return value if not condition.forced and not condition.params["at_once"] else None


def held(condition: Condition, waits_for: str) -> float | None:
    """All, where somebody else holds what the tasks wait for."""
    return float(ORDERS) if condition.params["waits_for"] == waits_for else None


SCENARIO = Scenario(
    title="Fire and forget",
    claim="A task without a reference is lost only where nothing else holds what it waits for: timers and sockets do, a private event does not",
    parts=(14, 8),
    catalogue_ids=("aio-fire-forget-gc",),
    services=("redis", "upstream"),
    constants={"DELAY_S": WAIT_S},
    conditions=(
        orders("for an approval, forced", "approval", variants=()),
        orders("for an approval, natural", "approval", forced=False),
        orders("for a delay, forced", "delay", control=True),
        orders("for the supplier, forced", "supplier", control=True),
        orders("for an approval at once, natural", "approval", forced=False, at_once=True),
        orders("approvals with 4 workers, forced", "approval", workers=4, quick=False),
    ),
    probes=(
        Probe("/orders", body={"sent": 0, "waiting_for_approval": 0}, after=False),
        Probe("/orders/0/approval", method="POST", status=422), Probe("/orders", method="POST", json={"waits_for": "luck"}, status=422),
    ),
    final_reads=(FinalRead("sent", redis=("SCARD", "orders:sent")),),
    claims=(
        Claim(
            "lost", "harm", "no order that waits for an approval is ever sent", "naive.final[sent]",
            predict=lambda c: forced(c, 0.0), tolerance=0.0, null=float(ORDERS),
            formula="0", source="nothing outside the cycle holds it; claims aio-fire-forget-gc", headline="for an approval, forced",
        ),
        Claim(
            "lost_natural", "harm", "without any help at least one of them is lost", "naive.final[sent]", relation="at_most",
            predict=lambda c: natural(c, ORDERS - 1.0), tolerance=0.0,
            formula="fewer than all", source="the youngest generation is collected every 700 objects; Python documentation, gc",
        ),
        Claim(
            "gone", "mechanism", "before anybody approves, no order waits any more", "naive.observed[waiting]",
            predict=lambda c: forced(c, 0.0), tolerance=0.0, null=float(ORDERS),
            formula="0", source="the event is in the same cycle as the task", headline="for an approval, forced",
        ),
        Claim(
            "timer", "mechanism", "a task that waits for a timer survives without a reference", "naive.final[sent]",
            predict=lambda c: held(c, "delay"), tolerance=0.0, null=0.0,
            formula="N", source="the loop holds its timers; claims aio-fire-forget-gc",
        ),
        Claim(
            "socket", "mechanism", "so does one that waits for a socket", "naive.final[sent]",
            predict=lambda c: held(c, "supplier"), tolerance=0.0, null=0.0,
            formula="N", source="the loop holds its transports; claims aio-fire-forget-gc",
        ),
        Claim(
            "at_once", "mechanism", "approved at once (nearly) all are sent: a test passes", "naive.final[sent]", relation="at_least",
            predict=lambda c: AT_ONCE * ORDERS if c.params["at_once"] else None, tolerance=0.0,
            formula="nearly N", source="a collection must fall between two requests",
        ),
        Claim(
            "named", "harm", "a local variable does not help", "tempting.final[sent]",
            predict=lambda c: forced(c, 0.0) if c.workers == 1 else None, tolerance=0.0, null=float(ORDERS),
            formula="0", source="it goes with the function's frame", headline="for an approval, forced",
        ),
        Claim(
            "kept", "fix", "a task in a set is never lost", "correct.final[sent]", predict=lambda c: float(ORDERS), tolerance=0.0, null=0.0,
            formula="N", source="the set is held by the application", headline="for an approval, forced",
        ),
        Claim(
            "kept_waiting", "fix", "and its order waits until it is approved", "correct.observed[waiting]",
            predict=lambda c: forced(c, float(ORDERS)) if c.workers == 1 else None, tolerance=0.0, null=0.0,
            formula="N", source="the task holds the event", headline="for an approval, forced",
        ),
    ),
    charts=(
        Chart(
            "counts", "final[sent]", "Of 100 such tasks {timer:.0f} survive on a timer, {socket:.0f} on a socket, {lost:.0f} on a private event",
            y_label="orders sent of 100", conditions=("for a delay, forced", "for the supplier, forced", "for an approval, forced"),
            theory=("lost", "timer", "socket", "kept", "named"),
        ),
        Chart(
            "counts", "final[sent]", "Left to Python {lost_natural:.0f} of 100 are sent after a pause, and {at_once:.0f} at once: tests pass",
            y_label="orders sent of 100", conditions=("for an approval at once, natural", "for an approval, natural"), theory=("kept",),
        ),
    ),
    answer="Of a hundred tasks without a reference {timer:.0f} survive full collections on a timer and {socket:.0f} on a socket, but {lost:.0f} on "
    "an event that only they hold ({lost_natural:.0f} when Python collects by itself); kept in a set {kept:.0f} do.",
    disagrees_with_source="The folklore says that a task without a reference is garbage-collected. One on a timer or a socket is not, even by full "
    "collections ten times a second: the loop holds it through what it waits for. (Of the series' part 14 only the title is known.)",
)  # fmt: skip
