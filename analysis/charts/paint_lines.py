"""Painting lines: sweep, scaling, percentiles, ecdf and timeline."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.charts.canvas import end_labels, finite, from_zero, human_axis, new_figure, ticks_at
from analysis.charts.model import Picture, Series
from analysis.charts.style import HEIGHT_IN, INK, color_of, marker_of, theory_color_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_STYLES = ("-", (0, (6, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""Lines of further conditions in the same chart; theory has its own dashes and is thinner."""
THEORY_DASH = (0, (4.5, 3))
NINES = ((0.0, "least"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))
NARROW_PANEL_IN = 1.25


def _theory(axes: "Axes", one: Series, picture: Picture) -> None:
    color = theory_color_of(one.variant, picture.variants)
    if one.texts or len(one.x) == 1:
        axes.plot(one.x, one.y, "o", fillstyle="none", markersize=14, markeredgewidth=1.5, color=color, zorder=5)
        return
    axes.plot(one.x, one.y, color=color, linewidth=1.5, linestyle=THEORY_DASH, zorder=5)


def _measured(axes: "Axes", one: Series, picture: Picture) -> None:
    color = color_of(one.variant, picture.variants)
    axes.plot(
        one.x, one.y, color=color, marker=marker_of(one.variant, picture.variants), linestyle=CURVE_STYLES[one.style % 4],
        markerfacecolor=color if one.style == 0 else INK["bg"], markeredgecolor=color, markeredgewidth=1.4, zorder=4,
    )  # fmt: skip
    if len(one.dots) > len(one.x):
        axes.plot(
            [x for x, _ in one.dots], [y for _, y in one.dots], ".", color=color, alpha=0.4, markersize=6, zorder=3
        )
    bars = [
        (x, lo, hi)
        for x, lo, hi in zip(one.x, one.low, one.high, strict=True)
        if lo is not None and hi is not None and lo < hi
    ]
    if bars:
        middle = [(lo + hi) / 2 for _, lo, hi in bars]
        half = [(hi - lo) / 2 for _, lo, hi in bars]
        axes.errorbar(
            [x for x, _, _ in bars], middle, yerr=half, fmt="none", ecolor=color, elinewidth=1.4, capsize=4, zorder=3
        )


def _all_y(picture: Picture, panel: int = 0) -> list[float]:
    """Everything that the y axis must hold; intervals that dwarf their values are cut, not the picture squeezed."""
    shown = [one for one in picture.series if one.panel == panel and one.role != "fit"]
    values = [y for one in shown for y in one.y] + [y for one in shown for _, y in one.dots]
    greatest = max(finite(values), default=1.0)
    return values + [hi for one in shown for hi in finite(one.high) if hi <= 1.6 * greatest]


def paint_sweep(picture: Picture) -> "Figure":
    """Measured lines with markers and intervals, theory dashed, the variants' names at the ends."""
    figure = new_figure(picture)
    axes = figure.subplots()
    axes.grid(axis="y")
    for one in picture.series:
        if one.role == "theory":
            _theory(axes, one, picture)
        elif one.role == "fit":
            axes.plot(one.x, one.y, color=color_of(one.variant, picture.variants), linewidth=1.0, alpha=0.7, zorder=2)
        else:
            _measured(axes, one, picture)
    _sweep_axes(axes, picture)
    measured = [one for one in picture.series if one.role == "measured"]
    end_labels(axes, [(one.x[-1], one.y[-1], one.name, color_of(one.variant, picture.variants)) for one in measured])
    return figure


def _sweep_axes(axes: "Axes", picture: Picture) -> None:
    values, panel = _all_y(picture), picture.panels[0]
    positive = [value for value in finite(values) if value > 0]
    log_y = picture.log_y and bool(positive)
    human_axis(axes, "y", values, panel.unit, panel.label, log=log_y)
    if log_y:
        axes.set_ylim(min(positive) / 1.8, max(positive) * 1.8)
    else:
        from_zero(axes, values)
    xs = sorted({x for one in picture.series for x in one.x})
    if picture.categories:
        axes.set_xticks(range(len(picture.categories)), list(picture.categories))
        axes.set_xlim(-0.35, len(picture.categories) - 0.65)
        axes.set_xlabel(picture.x_label)
        return
    log_x = picture.log_x and min(xs) > 0
    human_axis(axes, "x", xs, picture.x_unit, picture.x_label, log=log_x)
    ticks_at(axes, xs, log=log_x)
    if len(xs) > 1 and not log_x:
        # Room for a marker at 0, which would be cut by the axis else.
        zero = -0.02 * xs[-1] if xs[0] <= 0.02 * xs[-1] else 0.0
        axes.set_xlim(min(zero, xs[0]) if xs[0] < 0.15 * xs[-1] else xs[0] - 0.08 * (xs[-1] - xs[0]), xs[-1] * 1.03)


def paint_percentiles(picture: Picture) -> "Figure":
    """Latency over percentiles, the x axis in nines, the y axis logarithmic."""
    figure = new_figure(picture)
    axes = figure.subplots()
    axes.grid()
    greatest = 0.0
    for one in picture.series:
        x = [-math.log10(1 - q) for q in one.x]
        greatest = max(greatest, *x)
        color = color_of(one.variant, picture.variants)
        if one.role == "service":
            axes.plot(x, one.y, color=color, linewidth=1.5, linestyle=(0, (1, 1.6)), zorder=3)
        else:
            axes.plot(x, one.y, color=color, marker=marker_of(one.variant, picture.variants), markevery=8, markersize=6,
                      linestyle=CURVE_STYLES[one.style % 4], zorder=4)  # fmt: skip
    panel = picture.panels[0]
    values = [y for one in picture.series for y in one.y]
    log = max(values) > 8 * max(min(values), 1e-9)
    human_axis(axes, "y", values, panel.unit, panel.label, log=log)
    if not log:
        from_zero(axes, values)
    marks = [(-math.log10(1 - q), name) for q, name in NINES if -math.log10(1 - q) <= greatest + 1e-9]
    axes.set_xticks([x for x, _ in marks], [name for _, name in marks])
    axes.set_xlim(-0.03, greatest * 1.02)
    axes.set_xlabel(picture.x_label)
    end_labels(axes, [(-math.log10(1 - o.x[-1]), o.y[-1], o.name, color_of(o.variant, picture.variants))
                      for o in picture.series if o.role == "measured"])  # fmt: skip
    return figure


def paint_ecdf(picture: Picture) -> "Figure":
    """The share of requests answered within a time; the name of each curve stands where it has climbed to its half."""
    figure = new_figure(picture)
    axes = figure.subplots()
    axes.grid()
    for one in picture.series:
        color = color_of(one.variant, picture.variants)
        axes.plot(one.x, one.y, color=color, drawstyle="steps-post", linestyle=CURVE_STYLES[one.style % 4], zorder=4)
        middle = len(one.x) // 2
        axes.plot(one.x[middle], one.y[middle], marker=marker_of(one.variant, picture.variants), color=color, zorder=5)
    values = [x for one in picture.series for x in one.x]
    greatest, least = max(values), max(min(values), 1e-9)
    log = picture.log_x or greatest / least > 30
    human_axis(axes, "x", values, picture.x_unit, picture.x_label, log=log)
    axes.set_xlim(least / 1.3 if log else 0, greatest * (1.5 if log else 1.06))
    human_axis(axes, "y", [1.0], "share", picture.panels[0].label, log=False)
    axes.set_ylim(0, 1.03)
    figure.draw_without_rendering()
    _names_on_curves(axes, picture)
    return figure


def _names_on_curves(axes: "Axes", picture: Picture) -> None:
    """Each name just right of its curve's middle, the leftmost curve's left of it; names that would overlap step along their curves."""
    taken: list[tuple[float, float]] = []
    width = axes.get_window_extent().width
    first = min(picture.series, key=lambda one: one.x[len(one.x) // 2])
    for number, one in enumerate(picture.series):
        at = 0.5
        for at in (0.5, 0.36, 0.64, 0.22, 0.78):
            index = min(int(at * len(one.x)), len(one.x) - 1)
            x, y = axes.transAxes.inverted().transform(axes.transData.transform((one.x[index], one.y[index])))
            is_left = x > 0.82 or (one is first and len(picture.series) > 1 and x * width > 11 * len(one.name))
            if is_left or all(abs(y - ty) > 0.055 or abs(x - tx) * width > 9 * len(one.name) for tx, ty in taken):
                break
        if not is_left:
            taken.append((float(x), float(y)))
        axes.annotate(
            one.name, xy=(one.x[index], one.y[index]), xytext=(-10 if is_left else 10, -4), textcoords="offset points",
            ha="right" if is_left else "left", va="center", color=color_of(one.variant, picture.variants), fontweight="bold",
            bbox={"facecolor": INK["bg"], "edgecolor": "none", "alpha": 0.8, "pad": 1}, zorder=6 + number,
        )  # fmt: skip


def paint_timeline(picture: Picture) -> "Figure":
    """Panels over one time axis, events shaded and named on the topmost."""
    from matplotlib.ticker import LogLocator

    panels = len(picture.panels)
    figure = new_figure(picture, max(HEIGHT_IN, 1.45 + NARROW_PANEL_IN * panels))
    every = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[1.5] + [1.0] * (panels - 1))[:, 0]
    times = [x for one in picture.series for x in one.x]
    human_axis(every[-1], "x", times, picture.x_unit, picture.x_label, log=False)
    every[-1].set_xlim(0, max([*times, *(mark.at for mark in picture.marks)]) * 1.02)
    lines = _event_lines(picture, max(times, default=1.0))
    for index, (axes, panel) in enumerate(zip(every, picture.panels, strict=True)):
        axes.grid(axis="y")
        own = [one for one in picture.series if one.panel == index]
        for one in own:
            axes.plot(
                one.x, one.y, color=color_of(one.variant, picture.variants), marker=marker_of(one.variant, picture.variants),
                markersize=4.5, markevery=max(len(one.x) // 12, 1), linewidth=1.8, zorder=4,
            )  # fmt: skip
        values = [y for one in own for y in one.y]
        positive = [y for y in values if y > 0]
        log = bool(positive) and (picture.log_y or (panel.unit == "s" and max(positive) / min(positive) > 40))
        human_axis(axes, "y", values, panel.unit, "", log=log)
        axes.set_ylabel("")
        pad = 4 + EVENT_LINE_PT * (max(lines) + 1) if lines and index == 0 else 4
        title = _panel_title(panel.label, panel.unit, values, log)
        axes.set_title(title, loc="left", fontsize=11, color=INK["muted"], pad=pad)
        if log:
            axes.set_ylim(min(positive) / 1.6, max(positive) * 1.9)
        else:
            from_zero(axes, values, 1.15)
        if log and max(positive) / min(positive) >= 10:
            axes.yaxis.set_major_locator(LogLocator(numticks=4))
        elif not log:
            axes.yaxis.get_major_locator().set_params(nbins=3)
        _events(axes, picture, lines if index == 0 else None)
        end_labels(axes, [(one.x[-1], one.y[-1], one.name, color_of(one.variant, picture.variants)) for one in own])
    return figure


def _panel_title(label: str, unit: str, values: list[float], log: bool) -> str:
    from analysis.charts.units import Scale, axis_words, scale_of

    greatest = max((abs(value) for value in finite(values)), default=1.0)
    return axis_words(label, unit, Scale(1, "") if log and unit == "s" else scale_of(greatest, unit))


EVENT_LINE_PT = 13
CLOSE = 0.16
"""Events nearer to each other than this share of the axis have their names on two lines."""


def _event_lines(picture: Picture, end: float) -> list[int]:
    """On which line above the topmost panel each event's name stands."""
    lines: list[int] = []
    for index, mark in enumerate(picture.marks):
        is_close = index > 0 and mark.at - picture.marks[index - 1].at < CLOSE * end
        lines.append((lines[-1] + 1) % 3 if is_close else 0)
    return lines


def _events(axes: "Axes", picture: Picture, lines: Sequence[int] | None) -> None:
    """Shade and mark the events; ``lines`` says where their names go, None for panels that have no names."""
    for index, mark in enumerate(picture.marks):
        if mark.until is not None:
            axes.axvspan(mark.at, mark.until, color=INK["shade"], zorder=0)
        axes.axvline(mark.at, color=INK["rule"], linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
        if lines is not None:
            axes.annotate(
                mark.label, xy=(mark.at, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3 + EVENT_LINE_PT * lines[index]),
                textcoords="offset points", va="bottom", ha="left", fontsize=10, color=INK["fg"], annotation_clip=False,
            )  # fmt: skip
