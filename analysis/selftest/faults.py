"""Faults that are planted in what the lab counts and in its generator: each must fail a gate, or be refused."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis.facts import reduce_trial
from analysis.frames import OK, Ints, Trial, memory_trial
from analysis.handled import handled
from analysis.metrics import Refusal, measure
from analysis.selftest.material import Figures, Material, NotDone, failed_gates, word
from lab.model import SAMPLE_COLUMNS, Condition, GotchaPlan
from lab.selftest.apps import LATE_S
from lab.selftest.plan import LATE_CONNECTIONS, LATE_RATE, WORKERS
from lab.words.record import SERVER_COLUMNS

DELETED_SHARE = 0.4
"""What was deleted when the gates were found to see nothing (docs/method.md section 6)."""
SHIFT_NS = 1_000_000
RATE_TOLERANCE = 0.05
START_NS = 200_000_000
"""The first answers are not counted: the further connections are opened then."""
FOREIGN_CPU = ("cpu_redis_s_per_request", "cpu_s_per_request")
"""Its own CPU, and the sum that it would be missing from."""


# ---------------------------------------------------------------- rows


def with_rows(trial: Trial, at: NDArray[np.int64], shift_ns: int = 0) -> Trial:
    """The trial with its rows ``at`` these places, the last of them that much later; what others counted is left as it was."""
    columns: dict[str, Ints] = {name: trial.column(name)[at].astype(np.int64) for name in SAMPLE_COLUMNS}
    for name in SAMPLE_COLUMNS:
        if shift_ns and name.endswith("_ns"):
            columns[name][-1] += shift_ns
    return memory_trial(trial.record, columns, {name: trial.server(name) for name in SERVER_COLUMNS})


def planted_rows(trial: Trial) -> dict[str, Trial]:
    """The trial with 40 % of its rows deleted, with one invented (another request, 1 ms later), and with one doubled."""
    count = len(trial.column("outcome"))
    every = np.arange(count)
    kept = np.sort(np.random.default_rng(1).permutation(count)[round(DELETED_SHARE * count) :])
    one_more = np.append(every, count // 2)
    return {
        "40 % of the rows deleted": with_rows(trial, kept),
        "one row invented": with_rows(trial, one_more, SHIFT_NS),
        "one row doubled": with_rows(trial, one_more),
    }


def caught_rows(gotcha: GotchaPlan, condition: Condition, trial: Trial) -> Figures:
    """Which gates fail on the planted rows and not on the real ones, whose rows must be found whole."""
    real = failed_gates(gotcha, condition, [trial])
    planted = {
        name: sorted(failed_gates(gotcha, condition, [one]).keys() - real.keys())
        for name, one in planted_rows(trial).items()
    }
    return {"ok": "G10" not in real and all(planted.values()), "caught_by": planted, "real": real.get("G10", "")}


def rows_figures(material: Material) -> Figures:
    """Rows planted in the trial of the generator that is not throttled."""
    condition, trial = next(one for one in material.by_condition("throttled") if one[0].key == "free")
    return caught_rows(material.part("throttled"), condition, trial)


def rows_said(found: Figures) -> str:
    """For the reader."""
    said = [
        f"{what}: {', '.join(gates) or 'no gate'} {word(bool(gates))}" for what, gates in found["caught_by"].items()
    ]
    return "; ".join([*said, f"the real rows fail G10: {found['real']}" if found["real"] else "the real rows pass"])


def resent_figures(material: Material) -> Figures:
    """A generator whose rows tell of one request where the workers handled two."""
    ((condition, trial),) = material.by_condition("resent")
    failed, workers = failed_gates(material.part("resent"), condition, [trial]), handled(trial)
    if workers is None:
        raise NotDone("the workers' counters are not there", False)
    return {
        "ok": "G10" in failed,
        "rows": len(trial.column("outcome")),
        "handled": workers.requests,
        "failed_gates": list(failed),
    }


def resent_said(found: Figures) -> str:
    """For the reader."""
    return (
        f"one request sent twice and recorded once: {found['rows']} rows, {found['handled']} requests handled, "
        f"caught by {', '.join(found['failed_gates']) or 'no gate'} {word(found['ok'])}"
    )


# ---------------------------------------------------------------- connections


def answers_rps(trial: Trial) -> float:
    """Answers per second, from a moment after the first are due until the arrivals end."""
    done = trial.column("done_ns")[trial.column("outcome") == OK]
    begin = trial.record.load_started_ns + round(LATE_S * 1e9) + START_NS
    end = int(trial.column("planned_ns").max(initial=begin))
    return float(np.count_nonzero((done >= begin) & (done <= end))) / max((end - begin) / 1e9, 1e-9)


def connections_figures(material: Material) -> Figures:
    """The same load with as many connections as it needs, and with a bound on them."""
    gotcha = material.part("connections")
    (_, enough), (bound, bounded) = material.by_condition("connections")
    condition = gotcha.conditions[0]
    rate, facts = answers_rps(enough), reduce_trial(enough, gotcha, condition, ())
    seen = enough.record.generator
    caught, free = failed_gates(gotcha, bound, [bounded]), failed_gates(gotcha, condition, [enough])
    return {
        "ok": abs(rate / LATE_RATE - 1) <= RATE_TOLERANCE and not facts.overloaded and "G2" not in free and "G2" in caught,
        "rate_rps": rate, "overloaded": facts.overloaded, "connections": seen.connections_peak if seen else 0,
        "said": caught.get("G2", ""), "failed_gates": list(caught),
    }  # fmt: skip


def connections_said(found: Figures) -> str:
    """For the reader."""
    return (
        f"{LATE_RATE:.0f}/s at a target that answers after {LATE_S:.0f} s: {found['rate_rps']:.0f}/s over {found['connections']} connections, "
        f"{'called an overload' if found['overloaded'] else 'no overload'}; bounded to {LATE_CONNECTIONS}: caught by "
        f"{', '.join(found['failed_gates']) or 'no gate'} {word(found['ok'])}"
    )


# ---------------------------------------------------------------- somebody else's service


def foreign_cpu(gotcha: GotchaPlan, condition: Condition, trial: Trial) -> Figures:
    """What is said of the CPU of a Redis that the lab has only the address of: the reason of a refusal, or a number."""
    read: Mapping[str, float | Refusal] = {name: measure(trial, gotcha, condition, name) for name in FOREIGN_CPU}
    said = {name: one.reason if isinstance(one, Refusal) else f"{one:.3g}" for name, one in read.items()}
    return {"ok": all(isinstance(one, Refusal) for one in read.values()), "said": said}


def foreign_figures(material: Material) -> Figures:
    """An idle Redis of somebody else beside a load."""
    ((condition, trial),) = material.by_condition("foreign")
    return foreign_cpu(material.part("foreign"), condition, trial)


def foreign_said(found: Figures) -> str:
    """For the reader."""
    said = "; ".join(f"{name}: {text}" for name, text in found["said"].items())
    return f"an idle Redis of somebody else: {said} {word(found['ok'])}"


# ---------------------------------------------------------------- workers


def by_worker(trial: Trial) -> list[int]:
    """The requests of each worker that had any, fewest first."""
    pids = trial.column("pid")
    return sorted(int(count) for count in np.unique(pids[pids > 0], return_counts=True)[1])


def uneven_figures(material: Material) -> Figures:
    """Connections that are dealt evenly, and a generator that keeps away from one worker."""
    gotcha = material.part("uneven")
    (even, dealt), (shunned, avoided) = material.by_condition("uneven")
    shares, left_out = by_worker(dealt), by_worker(avoided)
    caught = failed_gates(gotcha, shunned, [avoided])
    evenly = len(shares) == WORKERS and shares[0] == shares[-1] and "G12" not in failed_gates(gotcha, even, [dealt])
    return {"ok": evenly and "G12" in caught, "even": shares, "shunned": left_out, "failed_gates": list(caught)}


def uneven_said(found: Figures) -> str:
    """For the reader."""
    return (
        f"{WORKERS} workers had {', '.join(map(str, found['even']))} requests where they were dealt; one of them shunned: "
        f"{', '.join(map(str, found['shunned']))}, caught by {', '.join(found['failed_gates']) or 'no gate'} {word(found['ok'])}"
    )
