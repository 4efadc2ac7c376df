"""A stored run judged: from its own plan and its trials alone, without any load."""

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis import statistics
from analysis.answers import render_template
from analysis.doubting import doubts_of, merged, most_overloaded
from analysis.doubts import doubt
from analysis.facts import TrialFacts, reduce_trial
from analysis.frames import FolderLike, RunLike, Trial, open_trial
from analysis.gates import Cell, check_gates, spoiled_by
from analysis.metrics import METRICS, STANDARD, Refusal, family_of, parse_metric, unit_of_expression
from analysis.model import ClaimVerdict, ConditionVerdict, Doubt, Estimate, GateResult, GotchaVerdict, RunVerdicts
from analysis.regime import regime_of
from analysis.verdicts import Conclusion, Question, gotcha_verdict, judge_estimate, short, worst
from lab.codec import to_json
from lab.errors import StoreError
from lab.model import ClaimPlan, Condition, GotchaPlan, MetricExpression, MetricRef, RunPlan
from lab.record import Environment, TrialRecord
from lab.store import RunFolder, write_bytes

FOR_GATES = (
    "loop_lag_max_s", "threads_borrowed_max", "server_in_flight_max", "requests_per_pid_min", "requests_per_pid_max",
    "response_mean_bytes",
)  # fmt: skip
"""Metrics that gates, doubts and the regime read besides."""
MULTIPLICATIVE = frozenset({"time", "inside", "rate", "cpu", "memory"})
"""Families whose noise multiplies (a slow machine is slow by a share): estimated on a logarithmic scale."""
OVERHEAD_S = 2.0
"""Start and stop of a server around a trial, for "M minutes"."""
PERCENTILES = 6
"""Pairs from which the robust twin and the exact test can speak (statistics: six values)."""


@dataclass(frozen=True)
class Case:
    """One gotcha to judge: its plan, the run's plan, the machine, and the reduced trials of each condition."""

    plan: GotchaPlan
    run: RunPlan
    environment: Environment | None
    facts: Mapping[str, Sequence[TrialFacts]]
    gates: Mapping[str, Sequence[GateResult]]

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


# ---------------------------------------------------------------- from trials to values


def wanted_metrics(plan: GotchaPlan, variant: str) -> tuple[tuple[str, str], ...]:
    """Name and argument of all that a trial of this variant is measured by: claims, charts, the standard set, the gates."""
    found = [(name, "") for name in (*STANDARD, *FOR_GATES)]
    for claim in plan.claims:
        found += [(ref.metric, ref.arg) for ref in MetricExpression.parse(claim.metric).refs if ref.variant == variant]
    for chart in plan.charts:
        name, arg = parse_metric(chart.metric)
        if name in METRICS:
            found.append((name, arg))
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


# ---------------------------------------------------------------- one claim under one condition


def _by_pair(trials: Sequence[TrialFacts], ref: MetricRef) -> tuple[dict[int, float], list[str]]:
    """The values of a metric by pair, and why it is missing where it is."""
    key = f"{ref.metric}[{ref.arg}]" if ref.arg else ref.metric
    values, reasons = {}, []
    for trial in trials:
        if trial.variant != ref.variant:
            continue
        value = trial.values.get(key)
        if isinstance(value, Refusal):
            reasons.append(f"{ref}: {value.reason}")
        elif value is not None and not math.isfinite(value):
            reasons.append(f"{ref}: it lies among the {trial.unanswered} requests that were never answered")
        elif value is not None:
            values[trial.record.pair] = value
    return values, reasons


def estimate_of(
    trials: Sequence[TrialFacts], expression: MetricExpression, null: float | None
) -> tuple[Estimate | None, str]:
    """The estimate over pairs, or None and why there is none.  A pair with a missing arm, or a ratio by 0, is left out."""
    above, reasons = _by_pair(trials, expression.numerator)
    if expression.denominator is None:
        values = [above[pair] for pair in sorted(above)]
        if not values:
            return None, _why(reasons, expression.numerator.variant)
        if METRICS[expression.numerator.metric].family == "share":
            requests = sum(t.requests for t in trials if t.variant == expression.numerator.variant)
            return statistics.of_share(values, requests, null), ""
        make = statistics.of_ratios if is_logarithmic(expression) else statistics.of_values
        return make(values, null), "; ".join(dict.fromkeys(reasons))
    below, more = _by_pair(trials, expression.denominator)
    shared = [pair for pair in sorted(above) if pair in below]
    ratios = [above[pair] / below[pair] for pair in shared if below[pair] != 0]
    if len(ratios) < len(shared):
        more.append(f"{expression.denominator} is 0: no ratio")
    if not ratios:
        return None, _why([*reasons, *more], f"{expression.numerator.variant} and {expression.denominator.variant}")
    return statistics.of_ratios(ratios, 1.0 if null is None else null), "; ".join(dict.fromkeys([*reasons, *more]))


def is_logarithmic(expression: MetricExpression) -> bool:
    """Whether the noise of this number multiplies: ratios, and whatever a clock measured."""
    return expression.denominator is not None or METRICS[expression.numerator.metric].family in MULTIPLICATIVE


def _why(reasons: Sequence[str], arms: str) -> str:
    return "no data: " + ("; ".join(dict.fromkeys(reasons)) or f"no finished trial of {arms}")


def _minutes(case: Case, condition: Condition, pairs: int) -> float:
    """How long so many more pairs of a condition take."""
    done = case.done(condition.key)
    took = [(t.record.load_ended_ns - t.record.load_started_ns) / 1e9 + OVERHEAD_S for t in done]
    arms = len({t.variant for t in done})
    return pairs * arms * (sum(took) / len(took)) / 60 if took else 0.0


def _suppressed(case: Case, expression: MetricExpression, key: str) -> str:
    """Why a time means nothing here: an arm that it reads was overloaded."""
    for ref in expression.refs:
        if METRICS[ref.metric].queues and most_overloaded(case.done(key), ref.variant):
            return f"{ref.variant} was overloaded: {ref.metric} only measures how long the load lasted"
    return ""


def judge_condition(case: Case, claim: ClaimPlan, key: str) -> ConditionVerdict:
    """A claim under one condition: no data, a failed gate and an overload come before the numbers."""
    predicted = claim.predictions[key]
    expression = MetricExpression.parse(claim.metric)
    unknown = [ref.metric for ref in expression.refs if ref.metric not in METRICS]
    if unknown:
        return ConditionVerdict(key, predicted, None, "inconclusive", f"there is no metric {unknown[0]!r}", 0)
    estimate, note = estimate_of(case.done(key), expression, claim.null)
    if estimate is None:
        failed = [t.record.reason for t in case.facts.get(key, ()) if not t.ok]
        reason = f"{note}; {failed[0]}" if failed else note
        return ConditionVerdict(key, predicted, None, "inconclusive", reason, 0)
    pairs = len(estimate.values)
    for ref in expression.refs:
        gate = spoiled_by(family_of(ref), case.gates.get(key, ()))
        if gate is not None:
            return ConditionVerdict(
                key, predicted, estimate, "invalid", f"gate {gate.gate} failed: {gate.detail}. {gate.advice}", pairs
            )
    if overloaded := _suppressed(case, expression, key):
        return ConditionVerdict(key, predicted, None, "inconclusive", overloaded, pairs)
    question = Question(predicted, claim.relation, claim.tolerance, claim.null, family_of(expression.numerator),
                        logarithmic=is_logarithmic(expression))  # fmt: skip
    conclusion = judge_estimate(question, estimate)
    if question.is_law:  # an interval of a mean says nothing about it: what was seen, from the least to the most
        estimate = replace(estimate, low=min(estimate.values), high=max(estimate.values))
    return ConditionVerdict(key, predicted, estimate, conclusion.verdict, _reason(case, key, conclusion, note), pairs,
                            conclusion.more_pairs)  # fmt: skip


def _reason(case: Case, key: str, conclusion: Conclusion, note: str) -> str:
    reason = conclusion.reason
    if conclusion.verdict == "inconclusive":
        if conclusion.more_pairs is None:
            reason += "; more pairs are unlikely to settle it"
        else:
            minutes = max(1, math.ceil(_minutes(case, case.plan.condition(key), conclusion.more_pairs)))
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
    return ClaimVerdict(
        claim.id, claim.kind, claim.statement, claim.metric, unit, claim.formula, claim.source, claim.relation,
        claim.tolerance, worst(one.verdict for one in conditions), claim.headline if claim.headline in keys else keys[0],
        tuple(conditions),
        indicative=case.run.mode == "quick",
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


def _run_doubts(case: Case, claims: Sequence[ClaimVerdict]) -> list[Doubt]:
    found = []
    failed = [t for trials in case.facts.values() for t in trials if not t.ok and t.record.status != "skipped"]
    planned = [trial for trial in case.run.trials if trial.gotcha == case.plan.slug]
    finished = sum(len(trials) for trials in case.facts.values())
    if case.run.mode == "quick":
        found.append(doubt("quick_run", "A quick run: its verdicts are indicative."))
    if finished < len(planned):
        found.append(doubt("partial_run", f"{finished} of {len(planned)} trials are there.", float(finished)))
    for condition in case.plan.conditions:
        if case.skipped(condition.key):
            reason = case.facts[condition.key][0].record.reason
            found.append(doubt("skipped", f"{condition.label}: {reason}", None, condition.key))
    if failed:
        found.append(doubt("failed_trials", f"{len(failed)} of {finished} trials failed.", float(len(failed))))
    if any("analysis crashed" in trial.record.reason for trial in failed):
        found.append(
            doubt("analysis_crash", next(t.record.reason for t in failed if "analysis crashed" in t.record.reason))
        )
    for claim in claims:
        for one in claim.conditions:
            exact = claim.tolerance == 0
            if case.run.mode == "full" and one.measured and not exact and one.pairs < PERCENTILES:
                found.append(doubt("few_pairs", f"{claim.id}: {one.pairs} pairs.", float(one.pairs), one.condition))
            if one.measured is None and one.reason.startswith("no data"):
                found.append(doubt("metric_refused", f"{claim.id}: {one.reason}.", None, one.condition))
            if "analysis crashed" in one.reason and one.measured is None and not one.reason.startswith("no data"):
                found.append(doubt("analysis_crash", f"{claim.id}: {one.reason}", None, one.condition))
    return found


def _metric_values(facts: Mapping[str, Sequence[TrialFacts]]) -> dict[str, dict[str, dict[str, tuple[float, ...]]]]:
    """condition -> variant -> metric -> the finite values in pair order; refused and unanswered ones are left out."""
    found: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    for key, trials in facts.items():
        for trial in sorted((t for t in trials if t.ok), key=lambda t: t.record.pair):
            own = found.setdefault(key, {}).setdefault(trial.variant, {})
            for metric in trial.values:
                if (value := trial.number(metric)) is not None:
                    own[metric] = (*own.get(metric, ()), value)
    return found


def _named(record: TrialRecord) -> str:
    return f"{record.condition}/{record.pair}-{record.variant}: {record.reason}"


def judge_gotcha(
    run: RunLike, plan: GotchaPlan, environment: Environment | None, ceiling_rps: float | None
) -> GotchaVerdict:
    """One gotcha of a run."""
    facts = collect(run, plan)
    case = Case(plan, run.plan, environment, facts, _gates(plan, facts, ceiling_rps))
    claims = tuple(judge_claim(case, claim) for claim in plan.claims if case.judged_under(claim))
    every = [trial for trials in facts.values() for trial in trials]
    return GotchaVerdict(
        plan.slug, plan.title, gotcha_verdict(claims), render_template(plan.answer, claims),
        regime_of(plan, run.plan, environment, every), claims,
        tuple(gate for gates in case.gates.values() for gate in gates),
        tuple(merged([*_run_doubts(case, claims), *doubts_of(plan, facts, claims, environment)])),
        _metric_values(facts), tuple(_named(trial.record) for trial in every if not trial.ok and trial.record.status != "skipped"),
    )  # fmt: skip


# ---------------------------------------------------------------- the run


def _with_holm(gotchas: Sequence[GotchaVerdict]) -> tuple[GotchaVerdict, ...]:
    """Holm's adjusted p for the headline of every claim that has a p value, over the whole report; exact laws have none to adjust."""
    tested = [
        (index, claim, p)
        for index, gotcha in enumerate(gotchas)
        for claim in gotcha.claims
        if claim.tolerance != 0 and (at := claim.at_headline).measured and (p := at.measured.p_value) is not None
    ]  # fmt: skip
    adjusted = {
        (index, claim.id): p
        for (index, claim, _), p in zip(tested, statistics.holm([p for _, _, p in tested]), strict=True)
    }
    result = []
    for index, gotcha in enumerate(gotchas):
        claims = tuple(replace(claim, holm_p=adjusted.get((index, claim.id))) for claim in gotcha.claims)
        weak = [c for c in claims if _is_weak(c)]
        extra = [
            doubt("many_claims", f"{c.id}: p = {short(c.holm_p or 0)} after Holm over {len(tested)} claims.", c.holm_p)
            for c in weak
        ]
        result.append(replace(gotcha, claims=claims, doubts=tuple(merged([*gotcha.doubts, *extra]))))
    return tuple(result)


def _is_weak(claim: ClaimVerdict) -> bool:
    """A harm found by interval that the adjusted exact test does not confirm; three pairs never could, so quick runs are spared."""
    shows = claim.kind == "harm" and claim.verdict in ("reproduced", "smaller")
    return shows and claim.holm_p is not None and claim.holm_p > 0.05 and claim.at_headline.pairs >= PERCENTILES


def ceiling_of(environment: Environment | None) -> float | None:
    """The generator's ceiling against a null target, requests/s, as the newest self-test put it into the environment."""
    text = environment.limits.get("generator_ceiling_rps", "") if environment else ""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def judge_run(run: RunLike, ceiling_rps: float | None = None) -> RunVerdicts:
    """Judge every gotcha of a run.  ``ceiling_rps`` overrides the ceiling in the run's environment.  Raises StoreError without a plan."""
    try:
        environment: Environment | None = run.environment
    except StoreError:
        environment = None
    ceiling = ceiling_rps if ceiling_rps is not None else ceiling_of(environment)
    gotchas = [judge_gotcha(run, plan, environment, ceiling) for plan in run.plan.gotchas]
    partial = any(one.id == "partial_run" for gotcha in gotchas for one in gotcha.doubts)
    return RunVerdicts(run.plan.run, _with_holm(gotchas), partial)


def write_verdicts(run: RunFolder, verdicts: RunVerdicts) -> None:
    """Write ``derived/verdicts.json``.  Raises StoreError."""
    write_bytes(run.derived / "verdicts.json", to_json(verdicts))
