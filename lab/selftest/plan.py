"""The self-test's plan: the same values as any run's, over apps that are known exactly."""

from lab.model import ClosedLoad, Condition, GotchaPlan, OpenLoad, Probe, RunPlan, TrialPlan
from lab.plan import trial_seed
from lab.selftest.apps import SERVICE_S

SLOWED = {"work_5": 0.05, "work_10": 0.10, "work_20": 0.20}
WORK_ARMS = ("work", "work_again", *SLOWED)
LOADS = (0.5, 0.7, 0.8)
LOW_LOAD = 0.05
SATURATED = 1.0
STALL_RATE = 200.0
THROTTLED_RATE = 500.0
BARE = "light_bare"
WRAPPER_ARMS = ("light", BARE)
PAIRS = {"pairs": (8, 24), "wrapper": (4, 12)}
"""Pairs of the parts that compare arms: quick and full; the other parts run once."""


def _gotcha(
    name: str, variants: tuple[str, ...], conditions: tuple[Condition, ...], *, bystander: bool = True
) -> GotchaPlan:
    return GotchaPlan(
        slug=f"selftest/{name}", title=name, claim="", parts=(), catalogue_ids=(), variants=variants, services=(),
        conditions=conditions, claims=(), charts=(), probes=(Probe("/", body={"ok": True}),) if bystander else (),
        answer="", constants={}, queries={},
        final_reads=(), explained=(), contract_differs="", disagrees_with_source="", quick_pairs=1, full_pairs=1, content_hash="",
    )  # fmt: skip


def gotchas(full: bool) -> tuple[GotchaPlan, ...]:
    """The parts that need trials."""
    queue_s = 30.0 if full else 8.0
    queue = [
        Condition(
            f"rho={rho}",
            OpenLoad(rho / SERVICE_S, connections=200),
            duration_s=queue_s,
            params={"rho": rho},
            user="Reader",
        )
        for rho in (LOW_LOAD, *LOADS)
    ]
    queue.append(Condition("saturated", ClosedLoad(8), duration_s=3.0, params={"rho": SATURATED}, user="Reader"))
    stall_s = 20.0 if full else 10.0
    return (
        _gotcha("pairs", WORK_ARMS, (Condition("one user", ClosedLoad(1), duration_s=1.0, warmup_s=0.2, user="Reader"),)),
        _gotcha("wrapper", WRAPPER_ARMS, (Condition("one user", ClosedLoad(1), duration_s=0.8, warmup_s=0.2, user="Reader"),)),
        # without a bystander: 2 % more arrivals are 10 % more waiting at rho 0.8
        _gotcha("queue", ("serial",), tuple(queue), bystander=False),
        _gotcha("stall", ("stalled",), (
            Condition("open", OpenLoad(STALL_RATE, connections=200), duration_s=stall_s, user="Reader"),
            Condition("closed", ClosedLoad(1), duration_s=stall_s, user="Reader"),
        )),
        _gotcha("throttled", ("work",), (
            Condition("throttled", OpenLoad(THROTTLED_RATE / 5), duration_s=3.0, user="Throttled"),
            Condition("free", OpenLoad(THROTTLED_RATE / 5), duration_s=3.0, user="Reader"),
        )),
    )  # fmt: skip


def make_selftest_plan(run: str, created_at: str, seed: int, full: bool) -> RunPlan:
    """All trials of the self-test; the pairs' arms in an order that every other pair reverses."""
    plans = gotchas(full)
    trials = []
    for plan in plans:
        for condition in plan.conditions:
            for pair in range(PAIRS.get(plan.name, (1, 1))[full]):
                arms = plan.variants if pair % 2 == 0 else plan.variants[::-1]
                shared = trial_seed(seed, plan.slug, condition.key, pair)
                trials += [TrialPlan(plan.slug, condition.key, pair, arm, shared) for arm in arms]
    return RunPlan(run, "full" if full else "quick", seed, created_at, plans, tuple(trials), PAIRS["pairs"][full])
