"""A stored run judged: from its own folder alone (plan, trials, environment, yardstick), without any load."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.answers import answer_of
from analysis.before_after import seen_of
from analysis.case import Case as Case
from analysis.case import collect as collect
from analysis.case import wanted_metrics as wanted_metrics
from analysis.doubting import doubts_of, merged, run_doubts
from analysis.facts import TrialFacts
from analysis.frames import RunLike
from analysis.gates import Cell, check_gates
from analysis.metrics import METRICS, family_of, unit_of_expression
from analysis.metrics.database import unmatched_patterns
from analysis.missing import judge_values
from analysis.model import (
    ClaimVerdict,
    ConditionVerdict,
    Estimate,
    GateResult,
    GotchaVerdict,
    PairValues,
    RunVerdicts,
)
from analysis.readings import NOT_RUN, Readings, estimate_of, is_logarithmic
from analysis.regime import regime_of
from analysis.several import with_holm
from analysis.usable import Unusable, usable
from analysis.verdicts import Conclusion, Question, gotcha_verdict, worst
from analysis.yardstick import ceiling_of
from lab.model import ClaimPlan, GotchaPlan, MetricExpression
from lab.store import RunFolder, write_bytes
from lab.words.codec import to_json
from lab.words.errors import StoreError
from lab.words.record import Environment, TrialRecord


def _answered(case: Case, expression: MetricExpression, key: str) -> float | None:
    """The least share of answered requests in any trial that a time of this claim comes from."""
    timed = {ref.variant for ref in expression.refs if METRICS[ref.metric].queues}
    shares = [share for one in case.done(key) if one.variant in timed and (share := one.answered) is not None]
    return min(shares, default=None)


# ---------------------------------------------------------------- one claim under one condition


def judge_condition(case: Case, claim: ClaimPlan, key: str) -> ConditionVerdict:
    """A claim under one condition: no data, a broken pattern, a failed gate and an overload come before the numbers."""
    predicted = claim.predictions[key]
    expression = MetricExpression.parse(claim.metric)
    found = usable(case, expression, key)
    if isinstance(found, Unusable):
        return ConditionVerdict(key, predicted, None, found.verdict, found.reason, found.pairs, planned=found.planned)
    return _judged(case, claim, key, expression, found)


def _judged(
    case: Case, claim: ClaimPlan, key: str, expression: MetricExpression, readings: Readings
) -> ConditionVerdict:
    """The numbers of a condition that nothing speaks against."""
    level, predicted = case.level(key), claim.predictions[key]
    question = Question(predicted, claim.relation, claim.tolerance, claim.null, family_of(expression.numerator),
                        is_logarithmic(expression), level)  # fmt: skip
    estimate = estimate_of(readings, expression, claim.null, level)
    if estimate is None:  # the pairs that had a value were all spoiled
        reason = f"no data: {'; '.join(dict.fromkeys(one.reason for one in readings.missing))}"
        return ConditionVerdict(key, predicted, None, "inconclusive", reason, 0, planned=readings.planned)
    conclusion = judge_values(question, estimate, readings.missing)
    if question.is_law:
        estimate = _without_interval(estimate)
    return ConditionVerdict(
        key, predicted, estimate, conclusion.verdict, _reason(case, key, conclusion, readings.note), len(estimate.values),
        conclusion.more_pairs, readings.planned, _answered(case, expression, key),
    )  # fmt: skip


def _without_interval(estimate: Estimate) -> Estimate:
    """A law is asked of every trial: an interval of the mean says nothing about it."""
    return replace(estimate, low=None, high=None, robust_value=None, robust_low=None, robust_high=None, p_value=None)


def _reason(case: Case, key: str, conclusion: Conclusion, note: str) -> str:
    reason = conclusion.reason
    if conclusion.verdict == "inconclusive":
        if NOT_RUN in note or NOT_RUN in reason:
            reason += "; a run that is not interrupted settles it"
        elif conclusion.more_pairs is None:
            reason += "; more pairs are unlikely to settle it"
        else:
            minutes = max(1, math.ceil(case.minutes(key, conclusion.more_pairs)))
            reason += f"; needs about {_many(conclusion.more_pairs, 'more pair')}, {_many(minutes, 'minute')}"
    return f"{reason} ({note})" if note else reason


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def judge_claim(case: Case, claim: ClaimPlan) -> ClaimVerdict:
    """A claim over its conditions that were not skipped: the worst of them.  A crash in the rules is inconclusive, never a pass."""
    conditions = []
    keys = case.judged_under(claim)
    for key in keys:
        try:
            conditions.append(judge_condition(case, claim, key))
        except Exception as error:
            reason = f"analysis crashed: {type(error).__name__}: {error}"
            conditions.append(ConditionVerdict(key, claim.predictions[key], None, "inconclusive", reason, 0))
    unit = unit_of_expression(MetricExpression.parse(claim.metric))
    there = claim.headline in keys
    return ClaimVerdict(
        claim.id, claim.kind, claim.statement, claim.metric, unit, claim.formula, claim.source, claim.relation,
        claim.tolerance, worst(one.verdict for one in conditions), claim.headline if there else keys[0],
        tuple(conditions), indicative=case.run.mode == "quick", stands_in=not there,
    )  # fmt: skip


# ---------------------------------------------------------------- one gotcha


def _gates(
    plan: GotchaPlan, facts: Mapping[str, Sequence[TrialFacts]], ceiling_rps: float | None
) -> dict[str, Sequence[GateResult]]:
    done = {key: [trial for trial in trials if trial.ok] for key, trials in facts.items()}
    gates: dict[str, Sequence[GateResult]] = {}
    for condition in plan.conditions:
        beside = [(other, done[other.key]) for other in plan.conditions if other.key != condition.key]
        gates[condition.key] = check_gates(Cell(condition, done[condition.key], beside, ceiling_rps))
    return gates


def _metric_values(facts: Mapping[str, Sequence[TrialFacts]]) -> dict[str, dict[str, dict[str, PairValues]]]:
    """condition -> variant -> metric -> values with the pair as the place; a metric that no trial has is left out."""
    found: dict[str, dict[str, dict[str, PairValues]]] = {}
    for key, trials in facts.items():
        for trial in sorted((t for t in trials if t.ok), key=lambda t: t.record.pair):
            own = found.setdefault(key, {}).setdefault(trial.variant, {})
            for metric, value in trial.values.items():
                if isinstance(value, float) and not math.isnan(value) and value != -math.inf:
                    before = own.get(metric, ())
                    own[metric] = (*before, *[None] * (trial.record.pair - len(before)), value)
    return found


def _named(record: TrialRecord) -> str:
    return f"{record.condition}/{record.pair}-{record.variant}: {record.reason}"


def judge_gotcha(
    run: RunLike, plan: GotchaPlan, environment: Environment | None, ceiling_rps: float | None
) -> GotchaVerdict:
    """One gotcha of a run."""
    facts = collect(run, plan)
    every = [trial for trials in facts.values() for trial in trials]
    added = [trial for trial in getattr(run, "added", ()) if trial.gotcha == plan.slug]
    case = Case(
        plan, run.plan, environment, facts, _gates(plan, facts, ceiling_rps), unmatched_patterns(plan, every), added
    )
    judged = [judge_claim(case, claim) for claim in plan.claims if case.judged_under(claim)]
    claims, weak = with_holm(plan.claims, judged)
    return GotchaVerdict(
        plan.slug, plan.title, gotcha_verdict(claims), answer_of(plan, claims),
        regime_of(plan, run.plan, environment, every), claims,
        tuple(gate for gates in case.gates.values() for gate in gates),
        tuple(merged([*run_doubts(case, claims), *doubts_of(plan, facts, claims, environment), *weak])),
        _metric_values(facts), tuple(_named(trial.record) for trial in every if not trial.ok and trial.record.status != "skipped"),
        seen_of(case),
    )  # fmt: skip


# ---------------------------------------------------------------- the run


def judge_run(run: RunLike, ceiling_rps: float | None = None) -> RunVerdicts:
    """Judge every gotcha of a run from what its folder holds, so that the same folder gives the same bytes wherever it stands.

    ``ceiling_rps`` takes the place of the generator's ceiling that is stored with the run.  Raises StoreError without a plan.
    """
    try:
        environment: Environment | None = run.environment
    except StoreError:
        environment = None
    ceiling = ceiling_rps if ceiling_rps is not None else ceiling_of(run)
    gotchas = tuple(judge_gotcha(run, plan, environment, ceiling) for plan in run.plan.gotchas)
    partial = any(one.id == "partial_run" for gotcha in gotchas for one in gotcha.doubts)
    return RunVerdicts(run.plan.run, gotchas, partial)


def write_verdicts(run: RunFolder, verdicts: RunVerdicts) -> None:
    """Write ``derived/verdicts.json``.  Raises StoreError."""
    write_bytes(run.derived / "verdicts.json", to_json(verdicts))
