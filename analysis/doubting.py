"""Which doubts a gotcha's trials raise.  Pure; the closed list with the advice is in ``analysis.doubts``."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from analysis.case import Case
from analysis.doubts import doubt
from analysis.facts import TrialFacts
from analysis.metrics import claimed_families, family_of
from analysis.model import ClaimVerdict, Doubt
from analysis.regime import is_over_subscribed, processes_of
from lab.model import Condition, GotchaPlan, MetricExpression
from lab.run.attempts import INTERRUPTED
from lab.run.attempts import KEY as REPEATED
from lab.words.record import Environment

ERROR_SHARE = 0.01
"""More errors than this and a latency of the successes alone tells less than it seems (docs/method.md 1: errors must not improve p50)."""
RECONNECT_SHARE = 0.01
UNEVEN = 2.0
"""The busiest worker answered more than twice what the idlest did."""
DRIFT = 0.25
BUSY_SHARE = 0.60
"""docs/method.md 3: CPU per request is taken at 60 % of the capacity at most."""
SPREAD = 0.25
FEW_PAIRS = 6
"""Below these the robust twin has no 95 % interval and no exact test can reach 5 % (statistics: six values)."""
GAP = 0.10


def _arms(facts: Sequence[TrialFacts]) -> dict[str, list[TrialFacts]]:
    arms: dict[str, list[TrialFacts]] = {}
    for trial in facts:
        arms.setdefault(trial.variant, []).append(trial)
    return arms


def most_overloaded(facts: Sequence[TrialFacts], variant: str) -> bool:
    """Whether at least half of the arm's trials were overloaded."""
    own = [trial.overloaded for trial in facts if trial.variant == variant]
    return bool(own) and 2 * sum(own) >= len(own)


def _of_answers(plan: GotchaPlan, condition: Condition, facts: Sequence[TrialFacts]) -> Iterator[Doubt]:
    key = condition.key
    # A limiter refuses and a logout is answered with 401: errors and drift are doubts where something is timed.
    timed = bool(claimed_families(plan, key) - {"count"})
    for variant, own in _arms(facts).items():
        if most_overloaded(facts, variant):
            yield doubt("overload", f"{variant}: the backlog grew for as long as the load lasted.", None, key)
        total = sum(t.requests for t in own)
        missing = sum(t.unanswered for t in own)
        if missing:
            yield doubt(
                "unanswered", f"{variant}: {missing} of {total} requests were never answered.", missing / total, key
            )
        shares = [share for t in own if (share := t.number("error_share")) is not None]
        if timed and shares and max(shares) > ERROR_SHARE:
            yield doubt("errors", f"{variant}: up to {max(shares):.1%} of the requests failed.", max(shares), key)
        drifts = [t.drift for t in own if t.drift is not None]
        if timed and drifts and not most_overloaded(facts, variant) and min(abs(d) for d in drifts) > DRIFT:
            worst = max(drifts, key=abs)
            yield doubt("not_steady", f"{variant}: median latency moved by {worst:+.0%} within the window.", worst, key)


def _of_server(condition: Condition, facts: Sequence[TrialFacts]) -> Iterator[Doubt]:
    key = condition.key
    for trial in facts:
        record = trial.record
        wanted = condition.server_of(trial.variant).loop
        if record.loop and record.loop != wanted:
            yield doubt("wrong_loop", f"{trial.name}: ran on {record.loop}, not {wanted}.", None, key)
        failed = [probe for probe in record.probes if probe.problem]
        if failed:
            yield doubt("probe_failed", f"{trial.name}: {failed[0].request} {failed[0].when} the load: {failed[0].problem}.",
                        float(len(failed)), key)  # fmt: skip
        if trial.pids and not condition.events and not condition.control and len(trial.pids) < condition.workers:
            seen = f"{condition.label}, {trial.name}: {len(trial.pids)} of {condition.workers} workers answered."
            yield doubt("idle_worker", seen, float(len(trial.pids)), key)
        least, most = trial.number("requests_per_pid_min"), trial.number("requests_per_pid_max")
        if least and most and most > UNEVEN * least and condition.workers > 1:
            yield doubt(
                "uneven_workers",
                f"{trial.name}: {most:.0f} requests at one worker, {least:.0f} at another.",
                most / least,
                key,
            )


def _of_generator(plan: GotchaPlan, condition: Condition, facts: Sequence[TrialFacts]) -> Iterator[Doubt]:
    key, load = condition.key, condition.load
    # A user class may wait on purpose (a check at fixed instants): the gap is a doubt where a rate is read.
    rated = "rate" in claimed_families(plan, key)
    for trial in facts:
        seen = trial.record.generator
        wanted = load.fresh_connections
        if seen is not None and not wanted and seen.reconnects > RECONNECT_SHARE * max(trial.requests, 1):
            share = seen.reconnects / max(trial.requests, 1)
            yield doubt("reconnects", f"{trial.name}: {seen.reconnects} connections were opened again.", share, key)
        if rated and load.population and not load.pause_s and load.by_clock and trial.window_s:
            gap = 1 - trial.mean_in_flight / load.population
            if gap > GAP:
                yield doubt(
                    "generator_gap", f"{trial.name}: users waited for the generator {gap:.0%} of the time.", gap, key
                )
    if load.is_open:
        by_pair = groupby(sorted(facts, key=lambda t: t.record.pair), key=lambda t: t.record.pair)
        for pair, arms in by_pair:
            hashes = {t.record.generator.trace_hash for t in arms if t.record.generator is not None}
            if len(hashes) > 1:
                yield doubt(
                    "traces_differ",
                    f"pair {pair + 1}: {len(hashes)} different arrival traces.",
                    float(len(hashes)),
                    key,
                )
    versions = {tuple(sorted(t.record.versions.items())) for t in facts}
    if len(versions) > 1:
        yield doubt(
            "mixed_versions", f"{len(versions)} sets of versions under one condition.", float(len(versions)), key
        )


def _of_machine(
    plan: GotchaPlan, condition: Condition, facts: Sequence[TrialFacts], environment: Environment | None
) -> Iterator[Doubt]:
    key = condition.key
    expressions = [MetricExpression.parse(claim.metric) for claim in plan.claims if key in claim.predictions]
    families = [(e, _family(e)) for e in expressions]
    absolute = any(e.denominator is None and family == "rate" for e, family in families)
    if absolute and environment is not None and is_over_subscribed(condition, plan, environment):
        need = processes_of(condition, plan)
        yield doubt("over_subscribed", f"{need} processes share {environment.cores} cores.", float(need), key)
    if any(family == "cpu" for _, family in families):
        shares = [used / condition.workers for t in facts if (used := t.cores_used("server")) is not None]
        if shares and max(shares) > BUSY_SHARE:
            yield doubt("busy_server", f"workers were busy {max(shares):.0%} of the time.", max(shares), key)


def _family(expression: MetricExpression) -> str:
    try:
        return family_of(expression.numerator)
    except KeyError:
        return ""


def _of_claims(claims: Iterable[ClaimVerdict]) -> Iterator[Doubt]:
    for claim in claims:
        for one in claim.conditions:
            if one.measured is None or len(one.measured.values) < 2:
                continue
            values = [value for value in one.measured.values if math.isfinite(value)] or [0.0]
            middle = abs(sum(values) / len(values))
            spread = (max(values) - min(values)) / 2 / middle if middle else 0.0
            if spread > SPREAD and one.verdict == "inconclusive":
                yield doubt("wide_spread", f"{claim.id}: pairs differ by +-{spread:.0%}.", spread, one.condition)
            if "robust twin" in one.reason:
                yield doubt("robust_disagrees", f"{claim.id}: {one.reason}.", one.measured.robust_value, one.condition)


def doubts_of(
    plan: GotchaPlan, facts: Mapping[str, Sequence[TrialFacts]], claims: Sequence[ClaimVerdict],
    environment: Environment | None,
) -> list[Doubt]:  # fmt: skip
    """Every doubt that the trials and claims of a gotcha raise, one of each kind: the first condition's, with the others counted."""
    found: list[Doubt] = []
    for condition in plan.conditions:
        own = [trial for trial in facts.get(condition.key, ()) if trial.ok]
        if own and not condition.fault:  # there requests are meant to fail, and nothing is timed closely
            found += _of_answers(plan, condition, own)
            found += _of_server(condition, own)
            found += _of_generator(plan, condition, own)
            found += _of_machine(plan, condition, own, environment)
    return merged([*found, *_of_claims(claims)])


def run_doubts(case: Case, claims: Sequence[ClaimVerdict]) -> list[Doubt]:
    """What the run as a whole left out, and claims that have no number."""
    found = []
    failed = [t for trials in case.facts.values() for t in trials if not t.ok and t.record.status != "skipped"]
    planned = [trial for trial in (*case.run.trials, *case.added) if trial.gotcha == case.plan.slug]
    finished = sum(len(trials) for trials in case.facts.values())
    if case.run.mode == "quick":
        found.append(doubt("quick_run", "A quick run: its verdicts are indicative."))
    if finished < len(planned):
        found.append(doubt("partial_run", f"{finished} of {len(planned)} trials are there.", float(finished)))
    if again := _repeated(case):
        found.append(again)
    for condition in case.plan.conditions:
        if case.skipped(condition.key):
            reason = case.facts[condition.key][0].record.reason
            found.append(doubt("skipped", f"{condition.label}: {reason}", None, condition.key))
    if failed:
        found.append(doubt("failed_trials", f"{len(failed)} of {finished} trials failed.", float(len(failed))))
    crashed = [trial.record.reason for trial in failed if "analysis crashed" in trial.record.reason]
    if crashed:
        found.append(doubt("analysis_crash", crashed[0]))
    return [*found, *(one for claim in claims for one in _without_number(case, claim))]


def _repeated(case: Case) -> Doubt | None:
    """Pairs that the lab spoiled and did again, with the reason of the last one."""
    found = {
        (key, t.record.pair): spoiled
        for key, own in case.facts.items()
        for t in own
        if (spoiled := [one for one in t.record.extra.get(REPEATED, ()) if one != INTERRUPTED])
    }
    if not found:
        return None
    (key, pair), reasons = list(found.items())[-1]
    attempts = sum(len(one) for one in found.values())
    said = f"Pairs done again: {len(found)} (spoiled attempts: {attempts}); pair {pair + 1} of {key}: {reasons[-1]}."
    return doubt("repeated_pairs", said, float(attempts), key)


def _without_number(case: Case, claim: ClaimVerdict) -> Iterator[Doubt]:
    for one in claim.conditions:
        if case.run.mode == "full" and one.measured and claim.tolerance != 0 and one.pairs < FEW_PAIRS:
            yield doubt("few_pairs", f"{claim.id}: {one.pairs} pairs.", float(one.pairs), one.condition)
        if one.measured is None and one.reason.startswith("no data"):
            yield doubt("metric_refused", f"{claim.id}: {one.reason}.", None, one.condition)
        if one.reason.startswith("analysis crashed"):
            yield doubt("analysis_crash", f"{claim.id}: {one.reason}", None, one.condition)


def merged(doubts: Iterable[Doubt]) -> list[Doubt]:
    """One doubt of each kind: the one with the greatest number, with the others counted."""
    kinds: dict[str, list[Doubt]] = {}
    for one in doubts:
        kinds.setdefault(one.id, []).append(one)
    result = []
    for same in kinds.values():
        worst = max(same, key=lambda one: abs(one.number or 0.0))
        more = len(same) - 1
        result.append(replace(worst, seen=f"{worst.seen} ({more} more like this)") if more else worst)
    return result
