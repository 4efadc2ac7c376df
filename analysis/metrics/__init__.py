"""Metrics: one table, name -> function of a trial.  Units and arguments are the word's own (``lab.words.metrics``).

Rates and times are taken from the measured window (after the warm-up, before the drain), counts from the whole load, because the
services' own counters cannot be split.  ``docs/verdicts.md`` lists every name; a test holds it to this table.
"""

from analysis.frames import Trial
from analysis.metrics import counts, database, fits, hold, latency, marginal, overload, server
from analysis.metrics.base import Context, Family, Metric, MetricRefused, Refusal
from lab.model import Condition, GotchaPlan, MetricExpression, MetricRef
from lab.words.metrics import QUANTITIES, unit_of

METRICS: dict[str, Metric] = {
    metric.name: metric
    for module in (latency, counts, server, marginal, database, fits, overload, hold)
    for metric in module.METRICS
}  # fmt: skip
"""Every metric there is."""

STANDARD = (
    "throughput_rps", "latency_p50_s", "latency_p99_s", "cpu_server_s_per_request", "requests_ok", "error_share",
)  # fmt: skip
"""What every trial is measured by besides what the claims and charts ask for."""


def family_of(ref: MetricRef) -> Family:
    """What kind of quantity a reference reads: a fit is of the kind that it fits.  Raises KeyError for an unknown metric."""
    metric = METRICS[ref.metric]
    return "time" if metric.name.startswith("fit_") and ref.arg == "latency" else metric.family


def claimed_families(plan: GotchaPlan, condition: str) -> set[Family]:
    """The kinds of quantities that claims read under a condition (its key); unknown metrics are left out."""
    refs = [
        ref
        for claim in plan.claims
        if condition in claim.predictions
        for ref in MetricExpression.parse(claim.metric).refs
    ]
    return {family_of(ref) for ref in refs if ref.metric in METRICS}


def unit_of_expression(expression: MetricExpression) -> str:
    """The unit of a claim's number: that of the metric, or x for the ratio of two."""
    return "x" if expression.denominator else unit_of(expression.numerator.metric, expression.numerator.arg)


def measure(trial: Trial, plan: GotchaPlan, condition: Condition, name: str, arg: str = "") -> float | Refusal:
    """A metric of a trial, +inf where it lies among the unanswered requests, or the reason why it cannot be had."""
    metric = METRICS.get(name)
    if metric is None:
        return Refusal(f"there is no metric {name!r}", "docs/verdicts.md lists them.", "unknown")
    quantity = QUANTITIES[name]
    if quantity.needed and not arg:
        return Refusal(f"{name} needs an argument", f"Write {name}[{quantity.argument}].", "unknown")
    if arg and not quantity.argument:
        return Refusal(f"{name} takes no argument", f"Write {name}.", "unknown")
    if condition.duet and metric.family == "rate":
        return Refusal(
            "in a duet the arms take turns: no rate is an arm's own", "Claim it under a condition without duet."
        )
    try:
        return metric.function(Context(trial, plan, condition, arg))
    except MetricRefused as refused:
        return Refusal(str(refused), refused.hint, refused.kind)


__all__ = [
    "METRICS", "STANDARD", "Context", "Family", "Metric", "MetricRefused", "Refusal",
    "claimed_families", "family_of", "measure", "unit_of_expression",
]  # fmt: skip
