"""One gotcha to judge: its plan, and its trials reduced to numbers."""

import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import FolderLike, RunLike, Trial, open_trial
from analysis.metrics import METRICS, STANDARD
from analysis.model import GateResult
from analysis.statistics import LEVEL
from analysis.survival import fault_metrics
from lab.model import ClaimPlan, Condition, GotchaPlan, MetricExpression, RunPlan, TrialPlan
from lab.words.errors import StoreError
from lab.words.metrics import parse_metric
from lab.words.record import Environment

FOR_GATES = (
    "loop_lag_max_s", "loop_lag_p50_s", "threads_borrowed_max", "server_in_flight_max", "requests_per_pid_min", "requests_per_pid_max",
    "response_mean_bytes",
)  # fmt: skip
"""Metrics that gates, doubts and the regime read besides."""
OVERHEAD_S = 2.0
"""Start and stop of a server around a trial, for "M minutes"."""


@dataclass(frozen=True)
class Case:
    """One gotcha to judge: its plan, the run's plan, the machine, and the reduced trials of each condition.

    ``unmatched`` are the names of its queries whose pattern matched no statement in any arm, ``added`` the trials of a second look.
    """

    plan: GotchaPlan
    run: RunPlan
    environment: Environment | None
    facts: Mapping[str, Sequence[TrialFacts]]
    gates: Mapping[str, Sequence[GateResult]]
    unmatched: Collection[str] = ()
    added: Sequence[TrialPlan] = ()

    def done(self, key: str) -> list[TrialFacts]:
        """The finished trials of a condition."""
        return [trial for trial in self.facts.get(key, ()) if trial.ok]

    def skipped(self, key: str) -> bool:
        """Whether this machine could not have what a condition needs."""
        trials = self.facts.get(key, ())
        return bool(trials) and all(trial.record.status == "skipped" for trial in trials)

    def judged_under(self, claim: ClaimPlan) -> list[str]:
        """The conditions (keys) of a claim that were not skipped."""
        return [key for key in claim.predictions if not self.skipped(key)]

    def planned_pairs(self, key: str) -> set[int]:
        """The pairs of a condition that there should be: those of the plan, and those that a second look added."""
        return _pairs_of((*self.run.trials, *self.added), self.plan.slug, key)

    def level(self, key: str) -> float:
        """The level of the intervals that decide under a condition: what the look that its pairs belong to may spend."""
        look, first = self.run.second_look, _pairs_of(self.run.trials, self.plan.slug, key)
        return LEVEL if look is None else 1 - look.error(len(first), len(self.planned_pairs(key)))

    def minutes(self, key: str, pairs: int) -> float:
        """How long so many more pairs of a condition take."""
        done = self.done(key)
        took = [(t.record.load_ended_ns - t.record.load_started_ns) / 1e9 + OVERHEAD_S for t in done]
        arms = len({t.variant for t in done})
        return pairs * arms * (sum(took) / len(took)) / 60 if took else 0.0


def _pairs_of(trials: Sequence[TrialPlan], slug: str, key: str) -> set[int]:
    return {trial.pair for trial in trials if trial.gotcha == slug and trial.condition == key}


def wanted_metrics(plan: GotchaPlan, variant: str) -> tuple[tuple[str, str], ...]:
    """Name and argument of all that a trial of this variant is measured by: claims, charts, the standard set, the gates."""
    found = [(name, "") for name in (*STANDARD, *FOR_GATES)]
    for claim in plan.claims:
        found += [(ref.metric, ref.arg) for ref in MetricExpression.parse(claim.metric).refs if ref.variant == variant]
    for chart in plan.charts:
        name, arg = parse_metric(chart.metric)
        if name in METRICS:
            found.append((name, arg))
    if plan.before_after is not None:
        found += [parse_metric(part) for part in plan.before_after.metric.split(" / ")]
    if plan.survival is not None:
        found += fault_metrics(plan)
    return tuple(dict.fromkeys(found))


def _reduced(folder: FolderLike | Trial, plan: GotchaPlan, conditions: Mapping[str, Condition]) -> TrialFacts:
    """Measure one trial and let go of its samples.  A crash here is a result too: the trial counts as failed, with the reason."""
    trial = open_trial(folder)
    record = trial.record
    try:
        return reduce_trial(trial, plan, conditions[record.condition], wanted_metrics(plan, record.variant))
    except StoreError as error:
        reason = f"{error} {error.hint}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"analysis crashed: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    finally:
        trial.drop()
    return TrialFacts(replace(record, status="failed", reason=reason), trial.name, {})


def collect(run: RunLike, plan: GotchaPlan) -> dict[str, list[TrialFacts]]:
    """The reduced trials of a gotcha by condition, failed ones too."""
    conditions = {condition.key: condition for condition in plan.conditions}
    facts: dict[str, list[TrialFacts]] = {key: [] for key in conditions}
    for folder in run.trials(plan.slug):
        one = _reduced(folder, plan, conditions)
        if one.record.condition in facts:
            facts[one.record.condition].append(one)
    return facts
