"""The fault matrix: from what a scenario says a remedy must survive to conditions and claims of the kind ``hold``.  Pure.

Each fault that the scenario's services and server can have is a separate condition: ``users`` work steadily, the fault begins after
``BEGINS_S``, lasts ``LASTS_S`` and ends; the load goes on until the remedy had its time to recover.  Four questions, each a number:

    answered   the longest wait for any answer (``hold_answer_s``); a hang is never
    ledger     what must be 0 at the end: lost, doubled, leaked (metrics of the scenario)
    recovered  from the fault's end to the end of the last request that failed (``hold_recovery_s``)
    seen       lines in the server's log and answers that were no success (``hold_signs``): an outage that nobody can see is one nobody mends
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lab.model import Claim, ClosedLoad, Condition, Event, Proxy, Scenario, Server, Survival, Upstream
from lab.words.metrics import Arm, Notation
from lab.words.modes import ANSWER_500, CUT, PASS, STALL, SWALLOW, Mode

BEGINS_S = 1.5
"""Long enough that pools are filled and every user has had answers."""
LASTS_S = 1.5
"""Longer than the usual look-up, shorter than the drivers' own time-outs of 5 s and more: a remedy must have its own."""
MARGIN_S = 1.0
"""After the time to recover, so that a request that fails then is seen to fail."""
CUT_S = 0.05
"""How long the proxy refuses when it only means to break what is open."""
ANSWERS, RECOVERS, SEEN = "answers", "recovers", "seen"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.  ``service`` is who must be there for it; ``server`` and ``client`` always are.

    ``where`` is where the proxy stands, if it does anything; ``events`` begin and end the fault.
    ``lasting`` False for what is over in an instant: nobody has to log it.
    """

    name: str
    service: str
    where: str = ""
    events: tuple[Event, ...] = ()
    lasting: bool = True


def _switched(mode: Mode, label: str, lasts_s: float = LASTS_S) -> tuple[Event, ...]:
    return (
        Event(BEGINS_S, "fault", statement=mode, label=f"{label}"),
        Event(BEGINS_S + lasts_s, "fault", statement=PASS, label=f"{label}: over"),
    )


def _cuts(label: str, times: int = 4) -> tuple[Event, ...]:
    """Everything that is open is cut, again and again, and can be opened again at once."""
    found: list[Event] = []
    for number in range(times):
        at = BEGINS_S + number * LASTS_S / times
        found += (
            Event(at, "fault", statement=CUT, label=label),
            Event(at + CUT_S, "fault", statement=PASS, label=f"{label}: over"),
        )
    return tuple(found)


def _service_faults(name: str, service: Literal["postgres", "redis"]) -> tuple[Fault, ...]:
    """What may happen to a service that is spoken to over TCP."""
    return (
        Fault(f"{name} refuses", service, service, _switched(CUT, f"{name} refuses")),
        Fault(f"{name} stalls", service, service, _switched(STALL, f"{name} stalls")),
        Fault(f"{name} cuts", service, service, _cuts(f"{name} cuts"), lasting=False),
    )


FAULTS: tuple[Fault, ...] = (
    *_service_faults("PostgreSQL", "postgres"),
    *_service_faults("Redis", "redis"),
    Fault("Redis swallows connects", "redis", "redis", _switched(SWALLOW, "Redis swallows connects")),
    Fault("upstream stalls", "upstream", "upstream", _switched(STALL, "upstream stalls")),
    Fault("upstream errs", "upstream", "upstream", _switched(ANSWER_500, "upstream errs")),
    Fault("worker killed", "server", "", (Event(BEGINS_S, "kill", "worker", label="worker killed"),), lasting=False),
    Fault("pool process killed", "pool", "", (Event(BEGINS_S, "kill", "child", label="pool process killed"),), lasting=False),
    Fault("client leaves", "client", "target", _cuts("client leaves"), lasting=False),
    Fault(
        "Celery worker killed", "celery", "",
        (
            Event(BEGINS_S, "kill", "celery", label="Celery worker killed"),
            Event(BEGINS_S + LASTS_S, "start", "celery", label="Celery worker started again"),
        ),
        lasting=False,
    ),
    Fault("Celery child killed", "celery", "", (Event(BEGINS_S, "kill", "celery_child", label="Celery child killed"),), lasting=False),
    Fault("poison job", "poison", lasting=False),
)  # fmt: skip
"""Every fault that the lab knows.  ``poison job`` happens by what the users send: their class reads ``params["fault"]``."""


def faults_of(scenario: Scenario) -> tuple[Fault, ...]:
    """The faults that this scenario's services and server can have, without those that it says cannot happen to it."""
    survival = scenario.survival
    if survival is None:
        return ()
    there = {*scenario.services, "server", "client", *survival.also}
    return tuple(fault for fault in FAULTS if fault.service in there and fault.name not in survival.without)


def _meets(survival: Survival, variant: str, fault: Fault) -> bool:
    """Whether this fault can happen to the variant; ``without`` may say "variant: fault", of one that has no process pool."""
    return f"{variant}: {fault.name}" not in survival.without


def condition_of(scenario: Scenario, survival: Survival, fault: Fault) -> Condition:
    """The condition of one fault.  What the scenario's app speaks to is there under every fault, not only under its own."""
    variants = tuple(one for one in ("naive", *survival.variants) if _meets(survival, one, fault))
    last_s = max((event.at_s for event in fault.events), default=BEGINS_S)
    servers = {name: replace(one, workers=survival.workers) for name, one in survival.servers.items()}
    upstream = survival.upstream or (Upstream() if "upstream" in scenario.services else None)
    return Condition(
        fault.name, ClosedLoad(survival.users), duration_s=last_s + survival.recover_within_s + MARGIN_S,
        server=Server(workers=survival.workers), servers=servers, user=survival.user, env=survival.env, events=fault.events,
        upstream=upstream,
        celery=survival.celery, proxy=Proxy(fault.where) if fault.where else None,  # type: ignore[arg-type]
        params={"fault": fault.name}, variants=variants, quick=False, quick_pairs=1, fault=fault.name,
        drain_s=max(10.0, survival.answer_within_s + 1.0), setup_sql=survival.setup_sql,
    )  # fmt: skip


def _claim(name: str, statement: str, metric: Notation, bound: float, relation: str, spoken: frozenset[str]) -> Claim:
    return Claim(
        name, "hold", statement, metric, relation=relation,  # type: ignore[arg-type]
        predict=lambda condition: bound if condition.fault in spoken else None, tolerance=0.0,
        formula=f"{bound:g}", source="the bound that the scenario states for its remedies",
    )  # fmt: skip


def claims_of(survival: Survival, faults: Sequence[Fault]) -> Iterator[Claim]:
    """What each remedy must hold; a hole that the scenario names as a limit is measured and shown, and nothing is claimed of it."""
    for variant in survival.variants:
        held = frozenset(
            fault.name for fault in faults
            if f"{variant}: {fault.name}" not in survival.limits and _meets(survival, variant, fault)
        )  # fmt: skip
        lasting = frozenset(fault.name for fault in faults if fault.lasting) & held
        if not held:
            continue
        within, again = survival.answer_within_s, survival.recover_within_s
        yield _claim(
            f"{variant}_{ANSWERS}", f"every request is answered within {within:g} s", Arm(variant).hold_answer_s,
            within, "at_most", held,
        )  # fmt: skip
        yield _claim(
            f"{variant}_{RECOVERS}", f"no request fails later than {again:g} s after the fault",
            Arm(variant).hold_recovery_s, again, "at_most", held,
        )  # fmt: skip
        for word, metric in survival.ledger.items():
            yield _claim(f"{variant}_{word}", f"nothing is {word}", Notation(f"{variant}.{metric}"), 0.0, "about", held)
        if lasting:
            yield _claim(
                f"{variant}_{SEEN}", "the fault can be seen in the log or in an answer", Arm(variant).hold_signs, 1.0,
                "at_least", lasting,
            )  # fmt: skip


def survival_of(scenario: Scenario) -> tuple[tuple[Condition, ...], tuple[Claim, ...]]:
    """The conditions and claims of a scenario's fault matrix; both empty where it has none.

    Raises ValueError for a limit or an exception that names no fault of the matrix: a hole must not be excused by a misspelt name.
    """
    survival = scenario.survival
    if survival is None:
        return (), ()
    faults = faults_of(scenario)
    known = {f"{variant}: {fault.name}" for variant in survival.variants for fault in faults}
    if unknown := sorted(set(survival.limits) - known):
        raise ValueError(f"survival: limits name {unknown[0]!r}; there are {', '.join(sorted(known))}")
    every = {fault.name for fault in FAULTS}
    if unknown := sorted(one for one in survival.without if one.rpartition(": ")[2] not in every):
        raise ValueError(f"survival: without names {unknown[0]!r}; there are {', '.join(sorted(every))}")
    return tuple(condition_of(scenario, survival, fault) for fault in faults), tuple(claims_of(survival, faults))
