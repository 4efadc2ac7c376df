"""What the self-test's trials say about the lab: pure functions of trials, and the one document that is stored.

format_version history of selftest.json
    1  first
    2  M/D/1 knows what lies beside the queue; the wrapper's cost
    3  the measuring is measured: blocked loops, threads, rows, connections, services, workers, duets, words; each part is a check with
       its own outcome (``checks``), None where this machine cannot have it; the figures of ``pairs`` that later self-tests read
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.frames import open_trial
from analysis.selftest.alarms import alarms_figures, alarms_said
from analysis.selftest.faults import (
    connections_figures,
    connections_said,
    foreign_figures,
    foreign_said,
    resent_figures,
    resent_said,
    rows_figures,
    rows_said,
    uneven_figures,
    uneven_said,
)
from analysis.selftest.inside import blocked_figures, blocked_said, threads_figures, threads_said
from analysis.selftest.material import Figures, Material, NotDone
from analysis.selftest.pairs import (
    PAIR_S,
    PLANNED_PAIRS,
    by_arm,
    duets_figures,
    duets_said,
    median_s,
    pairs_figures,
    pairs_said,
    planted_figures,
    planted_said,
    wrapper_figures,
    wrapper_said,
)
from analysis.selftest.queues import (
    ceiling_figures,
    ceiling_said,
    lindley,
    queue_figures,
    queue_said,
    stall_figures,
    stall_said,
    throttled_figures,
    throttled_said,
)
from lab.store import RunFolder
from lab.words.record import SELFTEST_VERSION


@dataclass(frozen=True)
class Part:
    """One part: where its figures stand, what it is called, how they are made (from the parts before it too) and said."""

    key: str
    title: str
    figures: Callable[[Material, Mapping[str, Figures]], Figures]
    said: Callable[[Figures], str]


def _queue(material: Material) -> Figures:
    return queue_figures({condition.number("rho"): trial for condition, trial in material.by_condition("queue")})


def _stall(material: Material) -> Figures:
    (_, opened), (_, closed) = material.by_condition("stall")
    return stall_figures(opened, closed)


def _planted(pairs: Figures) -> Figures:
    if "planted" not in pairs:
        raise NotDone(pairs["problem"], False)
    return planted_figures(pairs)


PARTS = (
    Part("pairs", "A/A", lambda m, _: pairs_figures(by_arm(m.trials["pairs"], median_s)), pairs_said),
    Part("planted", "planted slow-downs", lambda _, found: _planted(found["pairs"]), planted_said),
    Part("queue", "M/D/1", lambda m, _: _queue(m), queue_said),
    Part("stall", "a stalled server", lambda m, _: _stall(m), stall_said),
    Part("throttled", "a throttled generator", lambda m, _: throttled_figures(m), throttled_said),
    Part("ceiling", "the generator", lambda m, _: ceiling_figures(m.rates), ceiling_said),
    Part("wrapper", "the wrapper's cost", lambda m, _: wrapper_figures(m.trials["wrapper"]), wrapper_said),
    Part("blocked", "a blocked loop", lambda m, _: blocked_figures(m), blocked_said),
    Part("threads", "borrowed threads", lambda m, _: threads_figures(m), threads_said),
    Part("rows", "rows", lambda m, _: rows_figures(m), rows_said),
    Part("resent", "a request sent again", lambda m, _: resent_figures(m), resent_said),
    Part("connections", "connections", lambda m, _: connections_figures(m), connections_said),
    Part("foreign", "a service of somebody else", lambda m, _: foreign_figures(m), foreign_said),
    Part("uneven", "an uneven worker", lambda m, _: uneven_figures(m), uneven_said),
    Part("duets", "duets", lambda m, _: duets_figures(m), duets_said),
    Part("alarms", "false alarms", lambda m, found: alarms_figures(found["pairs"], m.part("wrapper"), m.earlier), alarms_said),
)  # fmt: skip
"""Every part, in the order in which they are told."""


def material_of(run: RunFolder, rates: Mapping[str, float], earlier: Sequence[Mapping[str, Any]] = ()) -> Material:
    """The trials of a run and what was stored before it.  Raises StoreError where a trial is damaged."""
    plan = run.plan
    trials = {gotcha.name: [open_trial(folder) for folder in run.trials(gotcha.slug)] for gotcha in plan.gotchas}
    return Material(plan, trials, rates, earlier)


def figures(material: Material) -> dict[str, Figures]:
    """The figures of every part; one that has not all of its trials says so in ``problem`` and has nothing else."""
    found: dict[str, Figures] = {}
    for part in PARTS:
        try:
            found[part.key] = part.figures(material, found)
        except NotDone as problem:
            found[part.key] = {"ok": problem.ok, "problem": str(problem)}
    return found


def checks(found: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """A line a part: its name, whether it is as it must be (None: not tried here), and what was planted and read."""
    return [
        {"name": part.title, "passed": one["ok"], "detail": one["problem"] if "problem" in one else part.said(one)}
        for part in PARTS
        if (one := found[part.key])
    ]


def passed(found: Mapping[str, Figures]) -> bool:
    """Whether every part that this machine can have is as it must be."""
    return all(found[part.key]["ok"] is not False for part in PARTS)


def can_see(found: Mapping[str, Figures]) -> str:
    """The one line that doctor and the report show."""
    if "smallest_effect" not in found["pairs"]:
        return f"what this machine can see is not known: {found['pairs']['problem']}"
    minutes = PLANNED_PAIRS * PAIR_S / 60
    effect = found["pairs"]["smallest_effect"]
    return (
        f"this machine can see a {effect:.1%} slow-down of p50 with {PLANNED_PAIRS} pairs, about {minutes:.1f} minutes"
    )


OUTCOMES = {True: "ok", False: "NOT OK", None: "not tried here"}


def lines(found: Mapping[str, Figures]) -> list[str]:
    """The checks as text, and what the machine can see."""
    return [f"{OUTCOMES[one['passed']]:<7}{one['name']}: {one['detail']}" for one in checks(found)] + [can_see(found)]


def selftests_of(results: Path, machine: Sequence[Any]) -> list[dict[str, Any]]:
    """The stored self-tests of this machine in today's format; a damaged one is passed over."""
    found = []
    for path in sorted(results.glob("*/selftest.json")):
        try:
            one = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(one, dict) and (one.get("format_version"), one.get("machine")) == (SELFTEST_VERSION, machine):
            found.append(one)
    return found


def document(run: RunFolder, rates: Mapping[str, float], results: Path) -> dict[str, Any]:
    """selftest.json of a run whose trials are done.  Raises StoreError where one is damaged."""
    machine = [run.environment.cpu_model, run.environment.cores]
    earlier = [one["pairs"] for one in selftests_of(results, machine) if "work_s" in one["pairs"]]
    found = figures(material_of(run, rates, earlier))
    return {
        "format_version": SELFTEST_VERSION, "run": run.name, "created_at": run.plan.created_at, "mode": run.plan.mode,
        "machine": machine, **found, "can_see": can_see(found), "ok": passed(found), "checks": checks(found), "lines": lines(found),
    }  # fmt: skip


def for_report(found: Mapping[str, Any]) -> dict[str, Any]:
    """A stored self-test as the report shows it: when, the one line, and a row per part, in the words in which it was stored."""
    rows = found["checks"] if "checks" in found else _checks_of_format_2(found)
    return {"at": found["created_at"], "summary": found["can_see"], "checks": rows}


def _checks_of_format_2(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its parts were told by letters."""
    names = {"(a)": "pairs", "(b)": "pairs", "(c)": "queue", "(d)": "stall", "(e)": "throttled", "(f)": "ceiling"}
    return [
        {"name": text[:3], "passed": found[names[text[:3]]].get("ok"), "figure": "", "detail": text[4:]}
        for text in found.get("lines", [])
        if text[:3] in names
    ]


__all__ = [
    "PARTS", "Material", "Part", "can_see", "ceiling_figures", "checks", "document", "figures", "for_report", "lindley", "lines", "material_of",
    "pairs_figures", "passed", "queue_figures", "selftests_of", "stall_figures", "throttled_figures", "wrapper_figures",
]  # fmt: skip
