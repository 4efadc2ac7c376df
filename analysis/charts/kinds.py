"""The kinds of charts: what each shows, how it is said, and where its numbers and its painter are.  A new one is a row here and its functions."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class ChartKind:
    """A kind of chart.

    ``numbers`` and ``paint`` name a function each, ``module.function`` of this package: they are imported when a chart is drawn, since
    painting needs matplotlib.  ``of_metric`` False: its ``metric`` names a row of the trial, such as ``latency``, and no metric.
    ``listed`` False: its points are too many, or stand in another table, to be listed beside it.  ``explains``: where no chart is about
    a mechanism, this one may stand for it.  ``bars``: its x is the value; ``grid``: its columns are named.
    """

    shows: str
    words: str
    numbers: str
    paint: str
    of_metric: bool = True
    listed: bool = True
    explains: bool = False
    bars: bool = False
    grid: bool = False

    @property
    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What gives the numbers, and what paints them."""
        found = [name.split(".") for name in (self.numbers, self.paint)]
        first, second = (getattr(import_module(f"analysis.charts.{module}"), name) for module, name in found)
        return first, second


CHARTS = {
    "sweep": ChartKind(
        "a metric over a parameter of the conditions, per variant, predictions dashed, interval over pairs", "Line chart",
        "sweeps.sweep", "paint_lines.paint_sweep",
    ),
    "percentiles": ChartKind(
        "latency by percentile on an axis of nines, corrected and service", "Latency by percentile",
        "distributions.percentiles", "paint_lines.paint_percentiles", listed=False, explains=True,
    ),
    "ecdf": ChartKind(
        "the share of requests answered within a time", "Distribution of times",
        "distributions.ecdf", "paint_lines.paint_ecdf", of_metric=False, listed=False, explains=True,
    ),
    "timeline": ChartKind(
        "answers, latency, loop lag and connections over time, events shaded", "Chart over time",
        "timelines.timeline", "paint_lines.paint_timeline", of_metric=False, listed=False, explains=True,
    ),
    "counts": ChartKind(
        "counts by condition as bars, the exact prediction as a mark on each", "Bar chart",
        "sweeps.counts", "paint_rows.paint_counts", bars=True,
    ),
    "scaling": ChartKind(
        "a value over the level inside a trial, with fit and predictions", "Line chart",
        "sweeps.scaling", "paint_lines.paint_sweep", explains=True,
    ),
    "cpu": ChartKind(
        "where the CPU went: stacked per process tree, per request", "Stacked bars", "rows.cpu", "paint_rows.paint_cpu", bars=True,
    ),
    "heatmap": ChartKind(
        'a metric over two parameters, x="users,workers"', "Heat map", "sweeps.heatmap", "paint_rows.paint_heatmap", grid=True,
    ),
    "forest": ChartKind(
        'claims as measured over predicted with intervals; metric="ratio": ratio claims as measured', "Forest plot",
        "rows.forest", "paint_rows.paint_forest", listed=False,
    ),
}  # fmt: skip
FOREST = "forest"
"""The chart that every gotcha has: its claims beside their predictions."""
