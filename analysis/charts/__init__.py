"""Charts by the name of their kind.  Numbers first (``picture``), then paint.

``save`` writes one SVG whose colours follow the page's theme (the report uses it); ``draw`` does all in one step and writes a
file per theme, for slides and READMEs.
Nothing here touches pyplot, so nothing global is left behind; matplotlib is imported when the first chart is painted.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.charts.drawing import Drawn, draw, draw_cpu, draw_forest
from analysis.charts.kinds import CHARTS
from analysis.charts.model import ChartData, ChartUnavailable, Mark, Panel, Picture, Series
from lab.model import Chart
from lab.store import write_bytes
from lab.words.codec import from_json, to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, str] = {name: kind.shows for name, kind in CHARTS.items()}
"""Every kind of chart there is, with what it shows."""


def picture(chart: Chart, data: ChartData) -> Picture:
    """The numbers of a chart, its title rendered with the claims' values.  Raises ChartUnavailable where they cannot be had."""
    from analysis.charts.select import title_of

    kind = CHARTS.get(chart.kind)
    if kind is None:
        raise ChartUnavailable(f"there is no kind of chart {chart.kind!r}", f"Kinds: {', '.join(KINDS)}.")
    numbers, _ = kind.functions
    found: Picture = numbers(replace(chart, title=title_of(chart, data.verdict.claims)), data)
    return found


def figure(drawn: Picture) -> "Figure":
    """A picture painted, not yet saved.  Use it inside ``style.themed``, as ``save`` does."""
    _, paint = CHARTS[drawn.kind].functions
    painted: Figure = paint(drawn)
    return painted


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
