"""Is every metric that a scenario asks for written as a value, with an argument that means something here?  Asked when it is imported."""

from collections.abc import Iterator, Mapping

from lab.model import MetricRef, Scenario
from lab.words.metrics import EXPLAINED, FINAL, QUANTITIES, QUERY, Argument, Notation


def _asked(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What asks for a metric, and the metric as it is written."""
    for claim in scenario.claims:
        yield f"claim {claim.id}", claim.metric
    for chart in scenario.charts:
        if chart.x == "level":
            continue  # the level of each point is the argument
        if isinstance(chart.metric, Notation) or chart.metric.partition("[")[0] in QUANTITIES:
            yield f"chart {chart.title!r}", chart.metric
    if scenario.before_after is not None:
        yield "before_after", scenario.before_after.metric
    for word, metric in (scenario.survival.ledger if scenario.survival else {}).items():
        yield f"survival: {word}", metric


def _references(metric: Notation) -> Iterator[MetricRef]:
    for part in metric.split(" / "):
        yield MetricRef.parse(part if "." in part.partition("[")[0] else f"each.{part}")


def require_values(scenario: Scenario) -> None:
    """Raises ValueError for a metric that is a bare text, for one without the argument that it needs, and for a name that is not declared."""
    declared: Mapping[Argument, tuple[str, ...]] = {
        QUERY: tuple(scenario.queries),
        EXPLAINED: tuple(one.name for one in scenario.explained),
        FINAL: tuple(one.name for one in scenario.final_reads),
    }
    for who, metric in _asked(scenario):
        if not isinstance(metric, Notation):
            raise ValueError(
                f"{who}: {metric!r} is a text; write a value of lab.words.metrics, such as naive.sql_calls"
            )
        for ref in _references(metric):
            quantity = QUANTITIES.get(ref.metric)
            if quantity is None:
                raise ValueError(f"{who}: there is no metric {ref.metric!r}")
            if quantity.needed and not ref.arg:
                raise ValueError(f"{who}: {ref.metric} needs an argument: {quantity.argument}")
            names = declared.get(quantity.argument) if quantity.argument else None
            if ref.arg and names is not None and ref.arg not in names:
                raise ValueError(f"{who}: {ref} names nothing; there are {', '.join(names) or 'none'}")
