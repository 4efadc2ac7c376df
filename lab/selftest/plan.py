"""The self-test's plan: the same values as any run's, over apps that are known exactly and generators whose faults are planted."""

from collections.abc import Sequence
from dataclasses import replace

from lab.model import (
    Burst,
    ClosedLoad,
    Condition,
    FinalRead,
    GotchaPlan,
    OpenLoad,
    Probe,
    RunPlan,
    Server,
    TrialPlan,
)
from lab.run.plan import trial_seed
from lab.selftest.apps import SERVICE_S

SLOWED = {"work_5": 0.05, "work_10": 0.10, "work_20": 0.20}
SAME = ("work", "work_again")
WORK_ARMS = (*SAME, *SLOWED)
LOADS = (0.5, 0.7, 0.8)
LOW_LOAD = 0.05
SATURATED = 1.0
STALL_RATE = 200.0
THROTTLED_RATE = 100.0
BARE = "light_bare"
WRAPPER_ARMS = ("light", BARE)
BLOCKS_S = (0.02, 0.05, 0.095, 0.5)
"""Around the 100 ms of a row of the wrapper, on both sides, and one that is a row's length several times."""
SELDOM_S = 0.05
SELDOM_PAUSE_S = 0.1
"""The loop is blocked for a third of the time: less than half."""
THREADS = 40
THREAD_BURSTS = 2
LATE_RATE = 500.0
LATE_CONNECTIONS = 128
WORKERS = 3
CONNECTIONS_EACH = 2
SPREAD_BURSTS = 3
FOREIGN = "selftest/foreign"
"""The part whose Redis belongs to somebody else."""
PAIRS = {"pairs": (8, 24), "duets": (8, 24), "wrapper": (3, 12)}
"""Pairs of the parts that compare arms: quick and full; the other parts run once."""
SLOWED_PAIRS = (5, 24)
"""Of these the slowed arms are in as many: ten experiments of three pairs tell 20 % from nothing, and each pair takes seven seconds."""
INTERLEAVED = ("pairs", "duets")
"""A pair of the one, a pair of the other: what is compared between them must not depend on the minute."""


def _gotcha(
    name: str, variants: tuple[str, ...], conditions: tuple[Condition, ...], *, bystander: bool = False,
    services: tuple[str, ...] = (), final_reads: tuple[FinalRead, ...] = (),
) -> GotchaPlan:  # fmt: skip
    return GotchaPlan(
        slug=f"selftest/{name}", title=name, claim="", parts=(), catalogue_ids=(), variants=variants, services=services,
        conditions=conditions, claims=(), charts=(), probes=(Probe("/", body={"ok": True}),) if bystander else (),
        answer="", constants={}, queries={}, final_reads=final_reads, explained=(), contract_differs="", disagrees_with_source="",
        quick_pairs=1, full_pairs=1, content_hash="",
    )  # fmt: skip


def gotchas(full: bool) -> tuple[GotchaPlan, ...]:
    """The parts that need trials."""
    return (*_timed(full), *_queues(full), *_inside(), *_faults())


def _alone(seconds: float, *, duet: bool = False) -> tuple[Condition, ...]:
    return (Condition("one user", ClosedLoad(1), duration_s=seconds, warmup_s=0.2, user="Reader", duet=duet),)


def _timed(full: bool) -> tuple[GotchaPlan, ...]:
    """What is compared in pairs.  A duet lasts as long as both arms of a pair: then each arm has as many requests as it has there."""
    return (
        _gotcha("pairs", WORK_ARMS, _alone(0.8)),
        _gotcha("duets", SAME, _alone(1.6, duet=True)),
        _gotcha("wrapper", WRAPPER_ARMS, _alone(0.8)),
    )


def _queues(full: bool) -> tuple[GotchaPlan, ...]:
    """Queueing theory, a server that stalls, a generator that does.

    The queue has no bystander: 2 % more arrivals are 10 % more waiting at rho 0.8.
    """
    queue_s, stall_s = (30.0, 20.0) if full else (8.0, 5.0)
    queue = [
        Condition(
            f"rho={rho}", OpenLoad(rho / SERVICE_S, connections=200), duration_s=queue_s / 2 if rho == LOW_LOAD else queue_s,
            params={"rho": rho}, user="Reader",
        )
        for rho in (LOW_LOAD, *LOADS)
    ]  # fmt: skip
    queue.append(Condition("saturated", ClosedLoad(8), duration_s=2.0, params={"rho": SATURATED}, user="Reader"))
    return (
        _gotcha("queue", ("serial",), tuple(queue)),
        _gotcha("stall", ("stalled",), (
            Condition("open", OpenLoad(STALL_RATE, connections=200), duration_s=stall_s, user="Reader"),
            Condition("closed", ClosedLoad(1), duration_s=stall_s, user="Reader"),
        ), bystander=True),
        _gotcha("throttled", ("work",), (
            Condition("throttled", OpenLoad(THROTTLED_RATE), duration_s=3.0, user="Throttled"),
            Condition("free", OpenLoad(THROTTLED_RATE), duration_s=3.0, user="Reader"),
        ), bystander=True),
    )  # fmt: skip


def _blocked(label: str, block_s: float, pause_s: float = 0.0) -> Condition:
    return Condition(
        label, ClosedLoad(1, think_s=pause_s), duration_s=max(1.2, 3 * block_s), params={"block_s": block_s},
        env={"BLOCK_S": str(block_s)}, user="Reader",
    )  # fmt: skip


def _inside() -> tuple[GotchaPlan, ...]:
    """What the wrapper must see in the worker."""
    often = [_blocked(f"{block_s * 1e3:.0f} ms", block_s) for block_s in BLOCKS_S]
    seldom = _blocked("a third of the time", SELDOM_S, SELDOM_PAUSE_S)
    longest = FinalRead("longest_s", path="/longest", pointer="/longest_s")
    burst = Condition("burst", Burst(THREADS, repeats=THREAD_BURSTS, every_s=0.4), user="Reader")
    return (
        _gotcha("blocked", ("blocking",), (*often, seldom), final_reads=(longest,)),
        _gotcha("threads", ("threaded",), (burst,)),
    )


def _faults() -> tuple[GotchaPlan, ...]:
    """A generator that sends twice, one that runs out of connections, somebody else's service, a worker that is left out."""
    late = OpenLoad(LATE_RATE, arrivals="uniform", connections=LATE_CONNECTIONS)
    burst = Burst(WORKERS * CONNECTIONS_EACH, repeats=SPREAD_BURSTS, every_s=0.2, spread=True)
    several = Server(workers=WORKERS)
    return (
        _gotcha("resent", ("light",), (Condition("sent twice", OpenLoad(100.0), duration_s=1.0, user="SendsTwice"),)),
        _gotcha("connections", ("late",), (
            Condition("as needed", late, duration_s=2.5, user="Reader"),
            Condition("bounded", late, duration_s=1.5, user="Bounded", drain_s=1.0),
        )),
        _gotcha("foreign", ("light",), (Condition("idle", ClosedLoad(1), duration_s=0.5, user="Reader"),), services=("redis",)),
        _gotcha("uneven", ("light",), (
            Condition("even", burst, server=several, user="Reader"),
            Condition("shunned", replace(burst, repeats=1), server=several, user="Shunning"),
        )),
    )  # fmt: skip


def _pair(plan: GotchaPlan, condition: Condition, pair: int, full: bool, seed: int) -> list[TrialPlan]:
    """The arms of a pair in an order that every other pair reverses."""
    there = [arm for arm in plan.variants if arm not in SLOWED or pair < SLOWED_PAIRS[full]]
    arms = there if pair % 2 == 0 else there[::-1]
    shared = trial_seed(seed, plan.slug, condition.key, pair)
    return [TrialPlan(plan.slug, condition.key, pair, arm, shared) for arm in arms]


def _in_turns(plans: Sequence[GotchaPlan], full: bool, seed: int) -> list[TrialPlan]:
    trials = []
    for pair in range(max(PAIRS.get(plan.name, (1, 1))[full] for plan in plans)):
        for plan in plans:
            if pair < PAIRS.get(plan.name, (1, 1))[full]:
                trials += [one for condition in plan.conditions for one in _pair(plan, condition, pair, full, seed)]
    return trials


def make_selftest_plan(run: str, created_at: str, seed: int, full: bool) -> RunPlan:
    """All trials of the self-test."""
    plans = gotchas(full)
    together = [plan for plan in plans if plan.name in INTERLEAVED]
    trials = _in_turns(together, full, seed)
    for plan in plans:
        if plan not in together:
            trials += _in_turns([plan], full, seed)
    return RunPlan(run, "full" if full else "quick", seed, created_at, plans, tuple(trials), PAIRS["pairs"][full])
