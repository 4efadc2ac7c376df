"""asyncio's loop holds a waiting task only weakly: it lives for as long as what it waits for is held by somebody else.

A timer is held by the loop and a socket by its transport, so such tasks survive without a reference.  An event that only the task itself holds
forms a cycle with it (task, coroutine, event, future, task), and the next collection of its generation takes the cycle, silently.

Forced: a full collection ten times a second, so that every such task has met one.  Natural: Python collects when it thinks it is time.
"""

import os
import time

import gevent
import redis
from locust import task

from lab.generator.users import LabUser
from lab.model import (
    BeforeAfter,
    Chart,
    Claim,
    Condition,
    FinalRead,
    Journey,
    OpenLoad,
    Probe,
    Scenario,
    Server,
    Survival,
    Upstream,
)
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_duet

tempting = Arm("tempting")

ORDERS = 100
WAIT_S = 0.3  # DELAY_S in all targets, and the supplier's answer
COLLECT_EVERY_S = 0.1
PAUSE_S = 0.5  # between the orders and their approvals: some collections
PATIENCE_S = 1.0
MOST_LATE_S = 3.0  # for an order during a fault: longer than the fault and a new try
AT_ONCE = 0.9  # of the orders at least, where the approval comes with the next request
COST = "orders on a delay, side by side"


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


class Buyer(LabUser):
    """Orders on a delay."""

    @task
    def buy(self) -> None:
        self.post("/orders", name="order", json={"waits_for": "delay"})


class Steady(LabUser):
    """Orders of all three kinds, and looks in Redis whether each that was accepted is sent."""

    @task
    def steadily(self) -> None:
        self.count("lost", 0)
        waits_for = self.rng.choice(("delay", "supplier", "approval"))
        reply = self.post("/orders", name="order", json={"waits_for": waits_for})
        if reply.status != 202:
            gevent.sleep(0.1)
            return
        order = reply.json()["id"]
        deadline = time.monotonic() + MOST_LATE_S
        approved = waits_for != "approval"
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as seen:
            while time.monotonic() < deadline:
                approved = approved or self.post(f"/orders/{order}/approval", name="approve").status == 202
                if seen.sismember("orders:sent", str(order)):
                    return
                gevent.sleep(0.05)
        self.count("lost", approved)  # what could not be approved in time may wait


def orders(
    label: str,
    waits_for: str,
    *,
    forced: bool = True,
    at_once: bool = False,
    control: bool = False,
    workers: int = 1,
    quick: bool = True,
    variants: tuple[str, ...] = ("naive", "correct"),
) -> Condition:
    """A hundred orders that wait for the same thing."""
    return Condition(
        label,
        Journey(1),
        user="Shop",
        upstream=Upstream(WAIT_S),
        server=Server(workers=workers),
        quick=quick,
        quick_pairs=1,
        control=control,
        variants=variants,
        env={"COLLECT_EVERY_S": str(COLLECT_EVERY_S)} if forced else {},
        forced=forced,
        params={"waits_for": waits_for, "at_once": at_once, "workers": workers},
    )


def forced(condition: Condition, value: float) -> float | None:
    """``value`` where orders wait for an approval and collections are forced."""
    return value if condition.forced and condition.params["waits_for"] == "approval" else None


def natural(condition: Condition, value: float) -> float | None:
    """``value`` where orders wait for an approval and Python collects when it likes."""
    return value if condition.label == "for an approval, natural" else None


def held(condition: Condition, waits_for: str) -> float | None:
    """All, where somebody else holds what the tasks wait for."""
    return float(ORDERS) if condition.forced and condition.params["waits_for"] == waits_for else None


SCENARIO = Scenario(
    title="asyncio.create_task without a reference: tasks disappear",
    claim=(
        "Of 100 tasks that wait for an event of their own none is ever done once Python collects garbage; kept in a "
        "set, all 100 are"
    ),
    parts=(14, 8),
    catalogue_ids=("aio-fire-forget-gc",),
    before_after=BeforeAfter(
        each.final("sent"),
        "of 100 tasks finished",
        "for an approval, forced",
        "A hundred tasks are started with `asyncio.create_task`, wait for an approval, and Python collects garbage.",
    ),
    labels={"naive": "create_task, not kept", "tempting": "local variable and name", "correct": "kept in a set"},
    symptoms=(
        "Task was destroyed but it is pending!",
        "task disappears",
        "asyncio.create_task garbage collected",
        "fire and forget",
        "RUF006 Store a reference to the return value of asyncio.create_task",
        "background task never finishes",
        "lost work",
        "hang",
        "Task exception was never retrieved",
    ),
    services=("redis", "upstream"),
    constants={"DELAY_S": WAIT_S},
    conditions=(
        orders("for an approval, forced", "approval", variants=()),
        orders("for an approval, natural", "approval", forced=False),
        orders("for a delay, forced", "delay", control=True),
        orders("for the supplier, forced", "supplier", control=True),
        orders("for an approval at once, natural", "approval", forced=False, at_once=True),
        orders("approvals with 4 workers, forced", "approval", workers=4, quick=False),
        Condition(
            COST,
            OpenLoad(150.0, connections=8),
            duration_s=2.0,
            user="Buyer",
            upstream=Upstream(WAIT_S),
            variants=("naive", "correct"),
            duet=True,
            params={"waits_for": "delay", "at_once": False, "workers": 1},
        ),
    ),
    probes=(
        Probe("/orders", body={"sent": 0, "waiting_for_approval": 0}, after=False),
        Probe("/orders/0/approval", method="POST", status=422),
        Probe("/orders", method="POST", json={"waits_for": "luck"}, status=422),
    ),
    final_reads=(FinalRead("sent", redis=("SCARD", "orders:sent")),),
    survival=Survival(
        user="Steady",
        answer_within_s=4.0,
        recover_within_s=3.0,
        upstream=Upstream(0.1),
        ledger={"lost": each.observed("lost")},
        limits={
            "correct: worker killed": (
                "The set lives in the process: what waits when it is killed is lost. Use a job row for what must not "
                "be."
            )
        },
    ),
    claims=(
        Claim(
            "lost",
            "harm",
            "no order that waits for an approval is ever sent",
            naive.final("sent"),
            predict=lambda c: forced(c, 0.0),
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source=(
                "Python documentation, asyncio.create_task: the loop keeps weak references to tasks; CPython issue "
                "91887"
            ),
            headline="for an approval, forced",
        ),
        Claim(
            "lost_natural",
            "harm",
            "when Python collects by itself, some are lost",
            naive.final("sent"),
            relation="at_most",
            predict=lambda c: natural(c, ORDERS - 1.0),
            tolerance=0.0,
            formula="fewer than 100",
            source="Python documentation, gc.get_threshold: the youngest generation is collected every 700 new objects",
        ),
        Claim(
            "gone",
            "mechanism",
            "before anybody approves, no order waits any more",
            naive.observed("waiting"),
            predict=lambda c: forced(c, 0.0),
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source="the event is in the same cycle as the task, which nothing else holds",
            headline="for an approval, forced",
        ),
        Claim(
            "timer",
            "mechanism",
            "a task that waits for a timer survives without a reference",
            naive.final("sent"),
            predict=lambda c: held(c, "delay"),
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="CPython, asyncio/base_events.py: the loop holds its timers, and their callbacks the task",
        ),
        Claim(
            "socket",
            "mechanism",
            "so does a task that waits for a socket",
            naive.final("sent"),
            predict=lambda c: held(c, "supplier"),
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="CPython, asyncio/selector_events.py: the loop holds its transports, and their callbacks the task",
        ),
        Claim(
            "at_once",
            "mechanism",
            "approved at once nearly all are sent, so a test passes",
            naive.final("sent"),
            relation="at_least",
            predict=lambda c: AT_ONCE * ORDERS if c.params["at_once"] else None,
            tolerance=0.0,
            formula="at least 90 of 100",
            source="a collection must fall between two requests of about a millisecond",
        ),
        Claim(
            "named",
            "harm",
            "a local variable and a name do not help",
            tempting.final("sent"),
            predict=lambda c: forced(c, 0.0) if c.workers == 1 else None,
            tolerance=0.0,
            null=float(ORDERS),
            formula="0",
            source="the variable goes with the function's frame",
            headline="for an approval, forced",
        ),
        Claim(
            "kept",
            "fix",
            "a task in a set is not lost",
            correct.final("sent"),
            predict=lambda c: None if c.duet else float(ORDERS),
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="Python documentation, asyncio.create_task: save a reference",
            headline="for an approval, forced",
        ),
        Claim(
            "kept_waiting",
            "fix",
            "and its order waits until it is approved",
            correct.observed("waiting"),
            predict=lambda c: forced(c, float(ORDERS)) if c.workers == 1 else None,
            tolerance=0.0,
            null=0.0,
            formula="N = 100",
            source="the application holds the set, the set the task, and the task the event",
            headline="for an approval, forced",
        ),
        Claim(
            "cost",
            "tax",
            "keeping a task costs no CPU that can be seen",
            correct.cpu_server_s_per_request / naive.cpu_server_s_per_request,
            predict=in_duet(1.0),
            relation="at_most",
            tolerance=0.10,
            formula="1: an entry that is added and removed, against a request with two Redis commands",
            source="Python wiki, TimeComplexity: sets",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.final("sent"),
            (
                "Of 100 such tasks {timer:.0f} finish on a timer, {socket:.0f} on a socket, {lost:.0f} on an event "
                "of their own"
            ),
            y_label="orders sent of 100",
            conditions=("for a delay, forced", "for the supplier, forced", "for an approval, forced"),
            theory=("timer", "socket", "lost", "kept", "named"),
        ),
        Chart(
            "counts",
            each.final("sent"),
            "Approved at once {at_once:.0f} of 100 are sent, so tests pass; after a pause {lost_natural:.0f}",
            y_label="orders sent of 100",
            conditions=("for an approval at once, natural", "for an approval, natural"),
            theory=("kept",),
        ),
    ),
    answer=(
        "Of a hundred tasks without a reference {timer:.0f} finish on a timer and {socket:.0f} on a socket when "
        "garbage is collected, but {lost:.0f} on an event that only they hold ({lost_natural:.0f} when Python "
        "collects by itself); kept in a set, {kept:.0f} finish."
    ),
    disagrees_with_source=(
        "The folklore says that a task without a reference is garbage-collected. One on a timer or a socket is not, "
        "even by full collections ten times a second: the loop holds it through what it waits for. (Of the series' "
        "part 14 only the title is known.)"
    ),
)
