"""Painting rows and cells: counts, cpu, heatmap and forest."""

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.charts.canvas import finite, human_axis, legend_line, new_figure
from analysis.charts.model import Picture, Series
from analysis.charts.rows import REACH, TREES
from analysis.charts.style import INK, color_of, marker_of
from analysis.charts.units import human

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR = 0.74
ROW_IN = 0.34
FOREST_CHARS = 58
SEGMENTS = dict(zip(TREES, ("seg1", "seg2", "seg3", "seg4", "seg5", "seg6"), strict=True))
GENERATOR = "generator"
RATIO_TICKS = (1, 10, 0.1, 2, 0.5, 5, 0.2, 3, 0.3, 20, 0.05, 1.5, 0.7, 1.25, 0.8, 1.1, 0.9)
"""Best first."""


def _text(axes: "Axes", x: float, y: float, text: str, color: str, **options: Any) -> None:
    axes.annotate(
        text, xy=(x, y), xytext=(6, 0), textcoords="offset points", va="center", ha="left", color=color, annotation_clip=False,
        **options,
    )  # fmt: skip


def paint_counts(picture: Picture) -> "Figure":
    """Horizontal bars by condition and variant, each with its number, the prediction as an upright mark."""
    bars = [one for one in picture.series if one.role == "measured"]
    theory: dict[str, dict[float, tuple[float, str]]] = {}
    for one in picture.series:
        if one.role == "theory":  # several claims may speak of one variant, each of other conditions
            relation = one.name if one.name in ("at most", "at least") else ""
            theory.setdefault(one.variant, {}).update({x: (y, relation) for x, y in zip(one.x, one.y, strict=True)})
    rows = len(picture.categories)
    figure = new_figure(picture, max(3.4, 1.7 + ROW_IN * 1.2 * rows * (len(bars) + 0.6)))
    axes = figure.subplots()
    axes.grid(axis="x")
    height = BAR / len(bars)
    values = [y for one in bars for y in one.y] + [y for known in theory.values() for y, _ in known.values()]
    greatest = max(finite(values), default=1.0) or 1.0
    # An interval is shown to its end, unless that would shrink the bars to nothing.
    limit = max([greatest, *(min(high, 1.6 * greatest) for one in bars for high in finite(one.high))]) * 1.05
    unit = picture.x_unit
    for index, one in enumerate(bars):
        color = color_of(one.variant, picture.variants)
        for x, y, low, high in zip(one.x, one.y, one.low, one.high, strict=True):
            at = x - BAR / 2 + height * (index + 0.5)
            axes.barh(at, y, height * 0.86, color=color, alpha=0.88, linewidth=0)
            if low is not None and high is not None and low < high:
                axes.plot([max(low, 0), min(high, limit)], [at, at], color=INK["fg"], linewidth=1.3, zorder=5)
            name = f"{one.name}: " if len(bars) > 1 else ""
            _bar_text(axes, (y, high, limit), theory.get(one.variant, {}).get(x), at, height, name, color, unit)
    axes.set_yticks(range(rows), [textwrap.fill(name, 22) for name in picture.categories])
    axes.tick_params(axis="y", length=0, labelcolor=INK["fg"])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(rows - 0.45, -0.55)
    human_axis(axes, "x", values, unit, picture.x_label, log=picture.log_x and min(values) > 0)
    if not picture.log_x:
        axes.set_xlim(0, limit)
    return figure


def _bar_text(
    axes: "Axes", ends: tuple[float, float | None, float], prediction: tuple[float, str] | None, at: float, height: float,
    name: str, color: str, unit: str,
) -> None:  # fmt: skip
    """The number at the bar's end, and the prediction's mark and number."""
    value, high, limit = ends
    reach = max(value, min(high or 0.0, limit))
    unit = "" if unit.startswith("per ") else unit  # the axis says it already
    text = f"{name}{human(value, unit)}"
    if prediction is not None:
        predicted, relation = prediction
        axes.plot(
            [predicted] * 2,
            [at - height * 0.46, at + height * 0.46],
            color=INK["fg"],
            linewidth=2.6,
            zorder=6,
            solid_capstyle="butt",
        )
        text += f"  (predicted {relation}{' ' if relation else ''}{human(predicted, unit)})"
        if predicted > value and predicted < value + 0.5 * limit:
            reach = max(reach, predicted)
    _text(axes, reach, at, text, color, fontweight="bold", fontsize=10.5)


def paint_cpu(picture: Picture) -> "Figure":
    """Stacked bars; at the end of each the sum without the load generator, which is nobody's cost in production."""
    rows = len(picture.categories)
    figure = new_figure(picture, max(3.0, 1.9 + 0.62 * rows))
    axes = figure.subplots()
    axes.grid(axis="x")
    left, generator = [0.0] * rows, [0.0] * rows
    greatest = max(
        sum(dict(zip(one.x, one.y, strict=True)).get(row, 0.0) for one in picture.series) for row in range(rows)
    )
    for one in picture.series:
        color = INK[SEGMENTS.get(one.name, "seg5")]
        for x, y in zip(one.x, one.y, strict=True):
            row = int(x)
            axes.barh(row, y, 0.62, left=left[row], color=color, edgecolor=INK["bg"], linewidth=1)
            if y > 0.012 * (len(one.name) + 2) * greatest:
                axes.text(left[row] + y / 2, row, one.name, ha="center", va="center", fontsize=10, color=_on(one.name))
            left[row] += y
            generator[row] += y if one.name == GENERATOR else 0.0
    human_axis(axes, "x", left, picture.x_unit, picture.x_label, log=False)
    axes.set_xlim(0, greatest * 1.04)
    for row, total in enumerate(left):
        more = f"\n+ {human(generator[row], 's')} generator" if generator[row] else ""
        _text(axes, total, row, human(total - generator[row], "s") + more, INK["fg"], fontweight="bold", fontsize=10.5)
    axes.set_yticks(range(rows), list(picture.categories))
    for label, variant in zip(axes.get_yticklabels(), picture.columns, strict=True):
        label.set_color(color_of(variant, picture.variants))
        label.set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(rows - 0.5, -0.5)
    legend_line(axes, [(one.name, INK[SEGMENTS.get(one.name, "seg5")]) for one in picture.series])
    return figure


def _on(tree: str) -> str:
    """The colour of text on a segment: the same in both themes, as the segments keep their brightness."""
    return "#ffffff" if SEGMENTS.get(tree) == "seg1" else "#14171b"


def paint_heatmap(picture: Picture) -> "Figure":
    """A panel of cells per variant, the number in each cell; colour goes by the logarithm where values span decades."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    figure = new_figure(picture, max(3.4, 1.9 + 0.5 * len(picture.categories)))
    values = [y for one in picture.series for y in one.y]
    positive = [value for value in values if value > 0]
    spans = bool(positive) and len(positive) == len(values) and max(values) / min(values) > 20
    norm = LogNorm(min(values), max(values)) if spans or picture.log_y else Normalize(0, max(values) or 1)
    colors = ScalarMappable(norm, "cividis")
    every = figure.subplots(1, len(picture.panels), squeeze=False, sharey=True)[0]
    for index, (axes, panel) in enumerate(zip(every, picture.panels, strict=True)):
        for one in (s for s in picture.series if s.panel == index):
            for x, y in zip(one.x, one.y, strict=True):
                _cell(axes, x, one.style, human(y, panel.unit), colors.to_rgba(np.array([y]))[0])
        axes.set_xticks(range(len(picture.columns)), list(picture.columns))
        axes.set_yticks(range(len(picture.categories)), list(picture.categories))
        axes.set_xlim(-0.5, len(picture.columns) - 0.5)
        axes.set_ylim(-0.5, len(picture.categories) - 0.5)
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        variant = next((s.variant for s in picture.series if s.panel == index), "")
        axes.set_title(
            panel.title, loc="left", fontweight="bold", fontsize=11.5, color=color_of(variant, picture.variants)
        )
        axes.set_xlabel(picture.x_label)
    every[0].set_ylabel(picture.panels[0].label)
    return figure


def _cell(axes: "Axes", x: float, y: float, text: str, color: tuple[float, ...]) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor=INK["bg"], linewidth=2))
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    axes.text(x, y, text, ha="center", va="center", color="#000000" if brightness > 0.5 else "#ffffff", fontsize=11)


def paint_forest(picture: Picture) -> "Figure":
    """One row a claim: where it holds is shaded, the point with its interval stands on it, the numbers at the right."""
    rows = [one for one in picture.series if one.role == "row"]
    bands = [one for one in picture.series if one.role == "theory"]
    count = len(rows)
    figure = new_figure(picture, 1.65 + 0.52 * count)
    axes = figure.subplots()
    seen = [v for one in rows for v in (*one.y, *finite(one.low), *finite(one.high)) if v > 0] + [b.y[0] for b in bands]
    low = max(min([*seen, 0.8]) / 1.25, 1 / REACH)
    high = min(max([*seen, 1.25]) * 1.25, REACH)
    for band in bands:
        edges = (band.low[0] if band.low[0] is not None else low, band.high[0] if band.high[0] is not None else high)
        axes.fill_betweenx([band.x[0] - 0.42, band.x[0] + 0.42], *edges, color=INK["shade"], zorder=0)
        axes.plot(
            [band.y[0]] * 2,
            [band.x[0] - 0.42, band.x[0] + 0.42],
            color=INK["rule"],
            linewidth=1.4,
            linestyle=(0, (3, 2)),
            zorder=1,
        )
    for one in rows:
        _forest_row(axes, one, picture, low, high)
    axes.set_yticks(range(count), [textwrap.fill(textwrap.shorten(name, 2 * FOREST_CHARS - 20, placeholder=" …"), FOREST_CHARS - 10)
                                   for name in picture.categories])  # fmt: skip
    axes.tick_params(axis="y", length=0, labelcolor=INK["fg"], labelsize=10.5)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(count - 0.45, -0.55)
    human_axis(axes, "x", [low, high], "x", picture.x_label, log=True)
    axes.set_xlim(low, high)
    _ratio_ticks(axes, low, high)
    axes.set_xlabel(picture.x_label)
    return figure


def _ratio_ticks(axes: "Axes", low: float, high: float) -> None:
    """Round ratios as ticks, 1 first of all, those that would touch a better one left out."""
    from matplotlib.ticker import FixedLocator, NullLocator

    kept: list[float] = []
    for ratio in RATIO_TICKS:
        room = 0.09 * math.log(high / low)
        if low <= ratio <= high and all(abs(math.log(ratio / other)) > room for other in kept):
            kept.append(ratio)
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    axes.xaxis.set_minor_locator(NullLocator())


def _forest_row(axes: "Axes", one: Series, picture: Picture, low: float, high: float) -> None:
    color, at = color_of(one.variant, picture.variants), one.x[0]
    place = min(max(one.y[0], low), high)
    if one.low and one.low[0] is not None and one.high[0] is not None:
        axes.plot([max(one.low[0], low), min(one.high[0], high)], [at, at], color=color, linewidth=2, zorder=3)
    inside = [(y, x) for x, y in one.dots if low <= y <= high]
    if len(inside) > 1:
        axes.plot(
            [y for y, _ in inside], [x + 0.2 for _, x in inside], ".", color=color, alpha=0.45, markersize=5, zorder=3
        )
    beyond = not math.isclose(place, one.y[0])
    marker = (">" if one.y[0] > high else "<") if beyond else marker_of(one.variant, picture.variants)
    axes.plot([place], [at], marker, color=color, markersize=8, zorder=4, clip_on=False)
    axes.annotate(
        one.texts[2], xy=(1.015, at), xycoords=("axes fraction", "data"), va="center", ha="left", fontsize=9.5, color=INK["fg"],
        annotation_clip=False, linespacing=1.25,
    )  # fmt: skip
