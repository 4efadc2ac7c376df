"""Is everything that a plan claims and draws something that the lab can measure?  Asked before any load."""

import difflib
from collections.abc import Sequence

from analysis.charts.kinds import CHARTS
from analysis.metrics import METRICS
from lab.model import GotchaPlan, MetricExpression
from lab.words.errors import UsageError
from lab.words.metrics import parse_metric


def _metrics(plan: GotchaPlan) -> list[tuple[str, str]]:
    """What asks for a metric, and the metric's name."""
    claimed = [
        (f"claim {one.id}", ref.metric) for one in plan.claims for ref in MetricExpression.parse(one.metric).refs
    ]
    drawn = [
        (f"chart {one.title!r}", parse_metric(one.metric)[0])
        for one in plan.charts
        if one.metric and (one.kind not in CHARTS or CHARTS[one.kind].of_metric)
    ]
    return [*claimed, *drawn]


def _variants(plan: GotchaPlan) -> list[tuple[str, str]]:
    return [(f"claim {one.id}", ref.variant) for one in plan.claims for ref in MetricExpression.parse(one.metric).refs]


def require_known(plans: Sequence[GotchaPlan]) -> None:
    """Every metric is in the table and every variant in the folder.  Raises UsageError with the nearest name for the first that is not."""
    for plan in plans:
        for asked, kind, known in (
            *((one, "metric", METRICS) for one in _metrics(plan)),
            *((one, "variant", plan.variants) for one in _variants(plan)),
        ):
            who, name = asked
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                meant = f" Did you mean {near[0]!r}?" if near else ""
                where = "docs/verdicts.md lists the metrics." if kind == "metric" else f"There are {', '.join(known)}."
                raise UsageError(f"{plan.slug}: {who}: there is no {kind} {name!r}", f"{where}{meant}")
