"""Parts that all painters share: the figure with its title, axes in human units, labels that keep clear of each other."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.charts.model import Picture
from analysis.charts.style import HEIGHT_IN, INK, WIDTH_IN
from analysis.charts.units import Scale, axis_words, digits, human, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE_CHARS = 72
LAST_LINE = 0.4
"""Of the longest line: so long the last line of a title should be."""
NOTE_CHARS = 118
TITLE_LINE_IN, NOTE_LINE_IN = 0.29, 0.20
LABEL_POINTS = 11.5
EARLY = 0.85
"""A line that ends left of this share of the axis is named where it ends."""
LABEL_GAP = 1.25
"""Labels stand at least this many times their height apart."""


def balanced(text: str, width: int) -> list[str]:
    """The text in as few lines as ``width`` allows, the last not much shorter than the others: a number alone in it reads like a slip."""
    lines = textwrap.wrap(text, width) or [""]
    for narrower in range(width - 1, 0, -1):
        if len(lines) == 1 or len(lines[-1]) >= LAST_LINE * max(map(len, lines)):
            break
        tried = textwrap.wrap(text, narrower)
        if len(tried) > len(lines):
            break
        lines = tried
    return lines


def new_figure(picture: Picture, height_in: float = HEIGHT_IN) -> "Figure":
    """A figure with the title and the notes in place; axes go below them."""
    from matplotlib.figure import Figure

    title = balanced(picture.title, TITLE_CHARS)
    notes = textwrap.wrap(" · ".join(picture.notes), NOTE_CHARS)
    head_in = 0.14 + TITLE_LINE_IN * len(title) + NOTE_LINE_IN * len(notes) + 0.08
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    top = 1 - head_in / height_in
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.012, 0.012, 0.976, top - 0.012), w_pad=0.03, h_pad=0.05)
    figure.text(0.016, 1 - 0.12 / height_in, "\n".join(title), va="top", ha="left", fontsize=15, fontweight="bold",
                linespacing=1.25, in_layout=False)  # fmt: skip
    note_y = 1 - (0.14 + TITLE_LINE_IN * len(title)) / height_in
    figure.text(0.016, note_y, "\n".join(notes), va="top", ha="left", fontsize=10, color=INK["muted"],
                linespacing=1.3, in_layout=False)  # fmt: skip
    return figure


def finite(values: Sequence[float | None]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def human_axis(axes: "Axes", which: str, values: Sequence[float | None], unit: str, label: str, *, log: bool) -> Scale:
    """Ticks in the unit that suits the greatest value; on a log axis each tick has its own.  Returns the unit chosen."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    greatest = max((abs(value) for value in finite(values)), default=1.0)
    scale = scale_of(greatest, unit)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        getattr(axes, f"set_{which}scale")("log")
        positive = [value for value in finite(values) if value > 0]
        decades = math.log10(max(positive) / min(positive)) if positive else 1
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,), numticks=9)
        )
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: human(value, unit if unit in ("s", "s/request", "B", "share") else ""))
        )
        getattr(axes, f"set_{which}label")(
            axis_words(label, unit, Scale(1, "")) if unit in ("requests/s", "x") else label
        )
        return scale
    axis.set_major_locator(MaxNLocator(6, integer=unit == "" and greatest >= 3, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: digits(value / scale.factor, 4)))
    getattr(axes, f"set_{which}label")(axis_words(label, unit, scale))
    return scale


def from_zero(axes: "Axes", values: Sequence[float | None], headroom: float = 1.08) -> None:
    """A y axis that begins at zero and leaves a little room above."""
    seen = finite(values)
    greatest, least = max(seen, default=1.0), min(seen, default=0.0)
    axes.set_ylim(min(least * headroom, 0.0), greatest * headroom or 1.0)


def ticks_at(axes: "Axes", positions: Sequence[float], *, log: bool) -> None:
    """Ticks on the measured x values, leaving out those that would touch the one before."""
    if not 1 < len(positions) <= 12:
        return
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(positions), max(positions)

    def share(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low) if low > 0 and high > low else 0.0
        return (value - low) / (high - low)

    def is_clear(value: float, other: float) -> bool:
        # A digit is about a hundredth of the axis wide, and labels are centred on their ticks.
        return abs(share(other) - share(value)) > 0.02 + 0.0055 * (len(digits(value)) + len(digits(other)))

    kept: list[float] = []
    # Both ends first: a sweep that begins at 0 says so.
    for value in (high, low, *sorted(positions, reverse=True)):
        if all(is_clear(value, other) for other in kept):
            kept.append(value)
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    axes.xaxis.set_minor_locator(NullLocator())


def end_labels(axes: "Axes", labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of lines: (x, y, text, colour).  Those that would touch are pushed apart, with a leader to the line.

    A line that ends well before the axis does has its name beside its own end.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    height = axes.get_window_extent().height
    gap = LABEL_POINTS / 72 * figure.dpi * LABEL_GAP
    wanted: list[tuple[bool, float, str, str, tuple[float, float]]] = []
    for x, y, text, color in labels:
        at = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        wanted.append((bool(at[0] < EARLY), float(at[1]) * height, text, color, (x, y)))
    for is_early in (False, True):
        group = sorted((one for one in wanted if one[0] == is_early), key=lambda one: one[1])
        places = spread([one[1] for one in group], gap, height)
        for (_, _, text, color, point), place in zip(group, places, strict=True):
            _end_label(axes, point, (place / height, is_early), text, color)


def _end_label(axes: "Axes", point: tuple[float, float], place: tuple[float, bool], text: str, color: str) -> None:
    height, is_early = place
    x = axes.transAxes.inverted().transform(axes.transData.transform(point))[0] + 0.02 if is_early else 1.025
    axes.annotate(
        text, xy=point, xycoords="data", xytext=(float(x), height), textcoords="axes fraction", va="center", ha="left",
        color=color, fontweight="bold", fontsize=LABEL_POINTS, annotation_clip=False, zorder=7,
        bbox={"facecolor": INK["bg"], "edgecolor": "none", "alpha": 0.75, "pad": 0.5} if is_early else None,
        arrowprops=None if is_early
        else {"arrowstyle": "-", "color": color, "lw": 0.7, "alpha": 0.55, "shrinkA": 1, "shrinkB": 5},
    )  # fmt: skip


def spread(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    """Places for labels as near as may be to where they are wanted (ascending), ``gap`` apart and inside ``height``."""
    places = list(wanted)
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    top = height - gap * 0.55
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], top)
        top = places[index] - gap
    return places


def legend_line(axes: "Axes", entries: Sequence[tuple[str, str]], y: float = 1.02) -> None:
    """A row of coloured names above the axes, for stacks that have no ends to label."""
    from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
    from matplotlib.patches import Rectangle

    children: list[Any] = []
    for name, color in entries:
        box = DrawingArea(11, 11)
        box.add_artist(Rectangle((0, 0), 11, 11, facecolor=color, edgecolor="none"))
        children += [
            HPacker(
                children=[box, TextArea(name, textprops={"color": INK["fg"], "fontsize": 11})],
                align="center",
                pad=0,
                sep=5,
            )
        ]
    row = HPacker(children=children, align="center", pad=0, sep=16)
    axes.add_artist(
        AnchoredOffsetbox(
            loc="lower left",
            child=row,
            pad=0,
            frameon=False,
            bbox_to_anchor=(0, y),
            bbox_transform=axes.transAxes,
            borderpad=0,
        )
    )
