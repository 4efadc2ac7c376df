"""A gotcha's charts for its page: drawn from the stored trials, or taken from an earlier report where the samples are gone."""

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from analysis import charts
from analysis.charts.kinds import CHARTS, FOREST
from analysis.charts.model import ChartData, ChartUnavailable, Picture
from analysis.charts.units import human, human_range
from lab.model import Chart, GotchaPlan, MetricExpression
from lab.words.codec import to_json

FOREST_TITLE = "Every claim beside its prediction"
MOST_NUMBERS = 60
"""A chart with more points than this has its numbers in the data file only, not in a table on the page."""


@dataclass(frozen=True)
class Drawn:
    """A chart on a page.  ``hrefs`` are relative to the report's root; ``problem`` says why there is no picture."""

    chart: Chart
    title: str
    svg: Markup = field(default_factory=Markup)
    stem: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_forest(self) -> bool:
        """Whether it shows the claims beside their predictions."""
        return self.chart.kind == FOREST


def painter_hash() -> str:
    """Changes whenever the code that paints changes: then stored pictures are painted again."""
    digest = hashlib.sha256()
    for path in sorted(Path(charts.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def charts_of(plan: GotchaPlan) -> tuple[Chart, ...]:
    """The scenario's charts, and the claims beside their predictions where it has no such chart itself."""
    own = plan.charts
    return own if any(one.kind == FOREST for one in own) else (*own, Chart(FOREST, "", FOREST_TITLE))


def mechanism_index(plan: GotchaPlan) -> int | None:
    """Which chart shows why: one about a metric of a mechanism claim, else a timeline or a scaling chart after the first."""
    own = plan.charts
    mechanism = [claim for claim in plan.claims if claim.kind == "mechanism"]
    ids = {claim.id for claim in mechanism}
    metrics = {ref.metric for claim in mechanism for ref in MetricExpression.parse(claim.metric).refs}
    for index, chart in enumerate(own):
        if index and (ids & set(chart.theory) or chart.metric.partition("[")[0] in metrics):
            return index
    return next((i for i, chart in enumerate(own) if i and chart.kind in CHARTS and CHARTS[chart.kind].explains), None)


def draw_all(data: ChartData, out: Path, old: Path | None, *, repaint: bool) -> tuple[Drawn, ...]:
    """Draw a gotcha's charts below ``out`` (the report's root).  ``old`` is an earlier report with numbers to fall back on."""
    slug = data.plan.slug.replace("/", ".")
    found = []
    for index, chart in enumerate(charts_of(data.plan)):
        stem = f"charts/{slug}/{index}-{chart.kind}"
        found.append(_draw(chart, data, out, old, stem, repaint))
    return tuple(found)


def _draw(chart: Chart, data: ChartData, out: Path, old: Path | None, stem: str, repaint: bool) -> Drawn:
    kept = charts.stored(old / stem) if old else None
    try:
        picture = charts.picture(chart, data)
    except ChartUnavailable as unavailable:
        if kept is None or CHARTS[kept.kind].paint != CHARTS[chart.kind].paint:
            return Drawn(
                chart, chart.title.partition("{")[0].strip() or chart.kind, problem=f"{unavailable} {unavailable.hint}"
            )
        picture = kept
    if old and kept and not repaint and to_json(kept) == to_json(picture) and _copied(old, out, stem):
        svg = (out / f"{stem}.svg").read_text(encoding="utf-8")
    else:
        svg = charts.save(picture, out / stem)
    columns, rows = numbers(picture)
    return Drawn(chart, picture.title, inline(svg, stem, describe(picture)), stem, rows, columns)


def _copied(old: Path, out: Path, stem: str) -> bool:
    names = [f"{stem}.{ending}" for ending in ("svg", "png", "json")]
    if not all((old / name).is_file() for name in names):
        return False
    if old == out:  # a further page of the same report
        return True
    (out / stem).parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(old / name, out / name)
    return True


def inline(svg: str, name: str, alt: str) -> Markup:
    """An SVG file's text as an element of a page: scales with its box, ids its own, one image with a name to a screen reader."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<style>svg\{.*?</style>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = "c" + hashlib.sha256(name.encode()).hexdigest()[:6]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    label = Markup('<svg role="img" aria-label="{}"').format(alt)
    return label + Markup(text.removeprefix("<svg"))


def describe(picture: Picture) -> str:
    """The chart for somebody who cannot see it: title, axes, and each line's first and last value."""
    parts = [f"{picture.title}. Chart of kind {picture.kind}."]
    for one in picture.series:
        if one.role in ("measured", "segment", "theory") and one.y:
            unit = picture.panels[min(one.panel, len(picture.panels) - 1)].unit or (
                picture.x_unit if CHARTS[picture.kind].bars else ""
            )
            ends = [human(one.y[0], unit)] + ([human(one.y[-1], unit)] if len(one.y) > 1 else [])
            parts.append(f"{one.variant + ' ' if one.role == 'theory' else ''}{one.name}: {' to '.join(ends)}.")
    return " ".join(parts[:14])


def numbers(picture: Picture) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The plotted numbers as columns and rows of text; empty for charts of many points and for the forest (the claims' table has it)."""
    points = sum(len(one.y) for one in picture.series)
    kind = CHARTS[picture.kind]
    if points > MOST_NUMBERS or not kind.listed:
        return (), ()
    rows = []
    for one in picture.series:
        if one.role == "fit":
            continue
        unit = picture.x_unit if kind.bars else picture.panels[one.panel].unit
        names = picture.columns if kind.grid else picture.categories
        for i, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
            low, high = (one.low[i], one.high[i]) if one.low else (None, None)
            where = names[int(x)].replace("\n", ", ") if names else human(x, picture.x_unit)
            interval = human_range(low, high, unit) if low is not None and high is not None else ""
            name = f"{one.variant} predicted".strip() if one.role == "theory" else one.name
            rows.append((name, where, human(y, unit), interval))
    x_name = "bar" if kind.bars else picture.x_label
    return ("line", x_name, "value", "95 % interval"), tuple(rows)
