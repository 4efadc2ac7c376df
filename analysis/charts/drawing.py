"""One chart into files in both themes, with the plotted numbers and the chart in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.charts.kinds import CHARTS, FOREST
from analysis.charts.model import ChartData, ChartUnavailable, Picture, Series
from analysis.charts.units import human
from analysis.frames import Trial
from analysis.model import GotchaVerdict
from lab.model import Chart, GotchaPlan
from lab.store import write_bytes
from lab.words.errors import UsageError

CPU_TITLE = "Where the CPU of a request went"
FOREST_TITLE = "Every claim beside its prediction"
RATIO_TITLE = "How many times: every ratio that is claimed"
MOST_IN_WORDS = 12
"""A description of more lines than this tells a listener nothing."""


@dataclass(frozen=True)
class Drawn:
    """A chart that was drawn: what it says, what it shows in words, and the numbers behind it in SI units.

    ``problem`` says why there is no picture; then no file was written and ``series`` is empty.
    """

    title: str
    alt_text: str
    series: tuple[Series, ...] = ()
    files: tuple[Path, ...] = ()
    problem: str = ""


def draw(
    chart: Chart, plan: GotchaPlan, verdict: GotchaVerdict, trials: Sequence[Trial], out: Path, stem: str
) -> Drawn:  # fmt: skip
    """Write ``<stem>-light.svg``, ``<stem>-dark.svg`` and the same as PNG into ``out``.

    A chart for which this run has no data is a ``Drawn`` with its ``problem``.  Raises UsageError for a kind that does not exist,
    StoreError where a file cannot be written.
    """
    from analysis.charts import KINDS, picture
    from analysis.charts.select import title_of

    if chart.kind not in KINDS:
        raise UsageError(f"{plan.slug}: there is no kind of chart {chart.kind!r}", f"Kinds: {', '.join(KINDS)}.")
    try:
        shown = picture(chart, ChartData(plan, verdict, lambda: trials))
    except ChartUnavailable as unavailable:
        title = title_of(chart, verdict.claims)
        return Drawn(
            title, f"{title}. No picture: {unavailable}.", problem=f"{unavailable}. {unavailable.hint}".strip()
        )
    return Drawn(shown.title, alt_text(shown), shown.series, save_themes(shown, out, stem))


def draw_cpu(
    plan: GotchaPlan, verdict: GotchaVerdict, trials: Sequence[Trial], out: Path, stem: str, conditions: tuple[str, ...] = ()
) -> Drawn:  # fmt: skip
    """Where the CPU of an answered request went, by process tree, under these conditions (all of them where none is named)."""
    return draw(Chart("cpu", "cpu_s_per_request", CPU_TITLE, conditions=conditions), plan, verdict, trials, out, stem)


def draw_forest(plan: GotchaPlan, verdict: GotchaVerdict, out: Path, stem: str, *, ratios: bool = False) -> Drawn:
    """The claims over their predictions with intervals; ``ratios``: only the claims about a ratio, as measured."""
    title = RATIO_TITLE if ratios else FOREST_TITLE
    return draw(Chart(FOREST, "ratio" if ratios else "", title), plan, verdict, (), out, stem)


def save_themes(picture: Picture, out: Path, stem: str) -> tuple[Path, ...]:
    """A picture in both themes' colours, as SVG and PNG; returns the four files.  Raises StoreError."""
    from analysis.charts import figure
    from analysis.charts.style import PALETTES, fixed, png_bytes, svg_text, themed

    pictures: list[tuple[str, bytes]] = []
    with themed("light"):
        light = figure(picture)
        # Painted light, its colours are tokens: both SVG files come from this one.
        tokens = svg_text(light)
        pictures.append(("light.png", png_bytes(light)))
    with themed("dark"):
        pictures.append(("dark.png", png_bytes(figure(picture))))
    pictures += [(f"{theme}.svg", fixed(tokens, theme).encode()) for theme in PALETTES]
    for ending, content in pictures:
        write_bytes(out / f"{stem}-{ending}", content)
    return tuple(out / f"{stem}-{ending}" for ending, _ in pictures)


def alt_text(picture: Picture) -> str:
    """The chart for somebody who cannot see it: title, axes, and what each line or bar goes from and to."""
    axes = " over ".join(filter(None, (picture.panels[0].label, picture.x_label)))
    parts = [f"{picture.title}. {CHARTS[picture.kind].words}{f': {axes}' if axes else ''}."]
    told = [one for one in picture.series if one.y and one.role not in ("fit", "service")]
    parts += [_in_words(one, picture) for one in told[:MOST_IN_WORDS]]
    if len(told) > MOST_IN_WORDS:
        parts.append(f"{len(told) - MOST_IN_WORDS} more lines are in the table.")
    return " ".join(parts)


def _in_words(one: Series, picture: Picture) -> str:
    across = CHARTS[picture.kind].bars or picture.kind == FOREST
    unit = picture.x_unit if across else picture.panels[one.panel].unit
    panel = f"{picture.panels[one.panel].label}, " if len(picture.panels) > 1 else ""
    name = f"{one.variant} {one.name}".strip() if one.role == "theory" else one.name
    values = [human(one.y[0], unit)] + ([human(one.y[-1], unit)] if len(one.y) > 1 else [])
    return f"{panel}{name}: {' to '.join(values)}."
