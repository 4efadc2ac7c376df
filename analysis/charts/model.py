"""What a chart is before it is painted: numbers.  Tests check these; pictures are looked at.

Values are in SI units (seconds, bytes, shares); the painter picks ms, MB or percent.

format_version history of the stored pictures (derived/charts/*.json)
    1  first
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from analysis.frames import FolderLike, Trial
from analysis.model import GotchaVerdict
from lab.model import GotchaPlan
from lab.words.errors import LabError

Role: TypeAlias = Literal["measured", "theory", "fit", "service", "segment", "row", "cell"]
"""``theory`` is a prediction registered before the load, ``fit`` a line through the measurement, ``service`` the uncorrected twin."""


class ChartUnavailable(LabError):
    """A chart cannot be drawn from what is stored: ``str`` says why, ``hint`` what to do."""


@dataclass(frozen=True)
class Series:
    """One line, one row of bars or one row of cells.

    ``low`` and ``high`` are the 95 % interval over pairs where there is one, ``dots`` the single pairs as (x, y).  ``variant``
    picks the colour ("" is neutral), ``texts`` are printed beside the values where a kind prints any.
    """

    name: str
    variant: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    panel: int = 0
    style: int = 0
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what its y axis shows and in which unit ("s", "B", "share", "requests/s", "x" or "" for a count)."""

    label: str
    unit: str = ""
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """An event on a timeline: seconds after the load began; ``until`` where it lasted."""

    at: float
    label: str
    until: float | None = None


@dataclass(frozen=True)
class Picture:
    """All that is painted.  ``categories`` name whole-numbered x positions (or rows of bars)."""

    kind: str
    title: str
    x_label: str
    x_unit: str
    panels: tuple[Panel, ...]
    series: tuple[Series, ...]
    variants: tuple[str, ...]
    categories: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()
    log_x: bool = False
    log_y: bool = False
    format_version: int = 1

    def of(self, variant: str, role: Role = "measured", panel: int = 0) -> Series:
        """The first series of a variant.  Raises KeyError where there is none."""
        for one in self.series:
            if (one.variant, one.role, one.panel) == (variant, role, panel):
                return one
        raise KeyError(f"{variant} {role} {panel}")

    def has(self, role: Role) -> bool:
        """Whether any series plays that role."""
        return any(one.role == role for one in self.series)


@dataclass(frozen=True)
class ChartData:
    """What charts are drawn from: a gotcha's plan, its verdict and, read when needed, its trials."""

    plan: GotchaPlan
    verdict: GotchaVerdict
    folders: "Callable[[], Sequence[FolderLike | Trial]]" = field(default=tuple)

    def values(self, condition: str, variant: str, metric: str) -> dict[int, float]:
        """The values of a metric by pair, +inf for never; empty where there are none."""
        seen = self.verdict.metrics.get(condition, {}).get(variant, {}).get(metric, ())
        return {pair: value for pair, value in enumerate(seen) if value is not None}
