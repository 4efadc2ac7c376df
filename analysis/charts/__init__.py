"""Charts by the name of their kind.  Numbers first (``picture``), then paint.

``save`` writes one SVG whose colours follow the page's theme (the report uses it); ``draw`` does all in one step and writes a
file per theme, for slides and READMEs.
Nothing here touches pyplot, so nothing global is left behind; matplotlib is imported when the first chart is painted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.charts.drawing import Drawn, draw, draw_cpu, draw_forest
from analysis.charts.model import ChartData, ChartUnavailable, Mark, Panel, Picture, Series
from lab.codec import from_json, to_json
from lab.model import Chart
from lab.store import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, str] = {
    "sweep": "a metric over a parameter of the conditions, per variant, predictions dashed, interval over pairs",
    "percentiles": "latency by percentile on an axis of nines, corrected and service",
    "ecdf": "the share of requests answered within a time",
    "timeline": "answers, latency, loop lag and connections over time, events shaded",
    "counts": "counts by condition as bars, the exact prediction as a mark on each",
    "scaling": "a value over the level inside a trial, with fit and predictions",
    "cpu": "where the CPU went: stacked per process tree, per request",
    "heatmap": 'a metric over two parameters, x="users,workers"',
    "forest": 'claims as measured over predicted with intervals; metric="ratio": ratio claims as measured',
}
"""Every kind of chart there is, with what it shows."""


@dataclass(frozen=True)
class _Kind:
    numbers: Callable[[Chart, ChartData], Picture]
    paint: Callable[[Picture], "Figure"]


@cache
def _kinds() -> dict[str, _Kind]:
    from analysis.charts import distributions, paint_lines, paint_rows, rows, sweeps, timelines

    return {
        "sweep": _Kind(sweeps.sweep, paint_lines.paint_sweep),
        "percentiles": _Kind(distributions.percentiles, paint_lines.paint_percentiles),
        "ecdf": _Kind(distributions.ecdf, paint_lines.paint_ecdf),
        "timeline": _Kind(timelines.timeline, paint_lines.paint_timeline),
        "counts": _Kind(sweeps.counts, paint_rows.paint_counts),
        "scaling": _Kind(sweeps.scaling, paint_lines.paint_sweep),
        "cpu": _Kind(rows.cpu, paint_rows.paint_cpu),
        "heatmap": _Kind(sweeps.heatmap, paint_rows.paint_heatmap),
        "forest": _Kind(rows.forest, paint_rows.paint_forest),
    }


def picture(chart: Chart, data: ChartData) -> Picture:
    """The numbers of a chart, its title rendered with the claims' values.  Raises ChartUnavailable where they cannot be had."""
    from analysis.charts.select import title_of

    kind = _kinds().get(chart.kind)
    if kind is None:
        raise ChartUnavailable(f"there is no kind of chart {chart.kind!r}", f"Kinds: {', '.join(KINDS)}.")
    return kind.numbers(replace(chart, title=title_of(chart, data.verdict.claims)), data)


def figure(drawn: Picture) -> "Figure":
    """A picture painted, not yet saved.  Use it inside ``style.themed``, as ``save`` does."""
    return _kinds()[drawn.kind].paint(drawn)


def save(drawn: Picture, stem: Path) -> str:
    """Write ``stem.svg``, ``stem.png`` and the numbers as ``stem.json``; returns the SVG element.  Raises StoreError."""
    from analysis.charts.style import png_bytes, standalone, svg_text, themed

    with themed("light"):
        painted = figure(drawn)
        svg, png = svg_text(painted), png_bytes(painted)
    write_bytes(stem.with_name(stem.name + ".svg"), standalone(svg).encode())
    write_bytes(stem.with_name(stem.name + ".png"), png)
    write_bytes(stem.with_name(stem.name + ".json"), to_json(drawn))
    return svg


def stored(stem: Path) -> Picture | None:
    """The numbers that an earlier report kept, for a run whose samples are gone (a published one); None where there are none."""
    path = stem.with_name(stem.name + ".json")
    return from_json(Picture, path.read_bytes(), str(path)) if path.is_file() else None


__all__ = [
    "KINDS", "ChartData", "ChartUnavailable", "Drawn", "Mark", "Panel", "Picture", "Series",
    "draw", "draw_cpu", "draw_forest", "figure", "picture", "save", "stored",
]  # fmt: skip
