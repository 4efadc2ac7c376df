"""How charts look: one colour and one marker per variant everywhere, one set of sizes, light and dark from one SVG.

Colours follow Okabe and Ito (Color Universal Design, 2008), darkened until text in them reads on white (WCAG 4.5:1).  Every colour
is a token: the SVG says ``var(--c-naive, #...)``, so a page (or the file's own style sheet) decides between light and dark.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIGHT = {
    "fg": "#1c2128", "muted": "#59636e", "grid": "#d9dee4", "bg": "#fffffe", "shade": "#e9edf1", "rule": "#8b949e",
    "naive": "#c2410b", "correct": "#0067a5", "tempting": "#8f4a7d", "other1": "#00735a", "other2": "#7d6608", "other3": "#4b5361",
    "seg1": "#3b6ea5", "seg2": "#86b3dd", "seg3": "#c79a4b", "seg4": "#9a7fb0", "seg5": "#6fae8f", "seg6": "#b9bfc6",
}  # fmt: skip
DARK = {
    "fg": "#e6e9ee", "muted": "#a3adb9", "grid": "#363d47", "bg": "#171b21", "shade": "#262c35", "rule": "#77818d",
    "naive": "#ff8f4d", "correct": "#5bb6f0", "tempting": "#e39bd0", "other1": "#3fcfa5", "other2": "#e5cf52", "other3": "#b7c0cc",
    "seg1": "#4d86c3", "seg2": "#9cc7ee", "seg3": "#d5aa5e", "seg4": "#b197c9", "seg5": "#7fc4a3", "seg6": "#7b838d",
}  # fmt: skip


def _mixed(one: str, other: str, share: float) -> str:
    parts = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in parts)


VARIANT_TOKENS = ("naive", "correct", "tempting", "other1", "other2", "other3")
for _palette in (LIGHT, DARK):
    # A prediction keeps its variant's hue and is drawn over the measurement: it must show on a line of that very colour.
    _palette.update({f"{name}-theory": _mixed(_palette[name], _palette["fg"], 0.6) for name in VARIANT_TOKENS})
    _palette["fg-theory"] = _mixed(_palette["muted"], _palette["fg"], 0.3)

Theme: TypeAlias = Literal["light", "dark"]
PALETTES: dict[Theme, dict[str, str]] = {"light": LIGHT, "dark": DARK}
_theme: ContextVar[Theme] = ContextVar("theme", default="light")


class _Ink(Mapping[str, str]):
    """The colours that painters use, by token: light unless a ``themed`` block says otherwise."""

    def __getitem__(self, token: str) -> str:
        return PALETTES[_theme.get()][token]

    def __iter__(self) -> Iterator[str]:
        return iter(LIGHT)

    def __len__(self) -> int:
        return len(LIGHT)


INK = _Ink()

MARKERS = {"naive": "o", "correct": "s", "tempting": "^", "other1": "D", "other2": "v", "other3": "P"}
FONTS = ["DejaVu Sans"]
"""Bundled with matplotlib and wider than what a browser puts in its place: text never grows into its neighbour."""
BROWSER_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDTH_IN, HEIGHT_IN = 9.6, 5.4
"""At 100 dots an inch 960 x 540, a slide; the PNG has twice as many."""
PNG_DPI = 200
SHADE = 4
"""The octree's colours are off by this much at most, of 255, where they fill an area."""


def token_of(variant: str, variants: Sequence[str]) -> str:
    """The colour token of a variant: its own name for the three that every gotcha may have, else by its place among the others."""
    if variant in ("naive", "correct", "tempting"):
        return variant
    if not variant:
        return "fg"
    others = [one for one in variants if one not in ("naive", "correct", "tempting")]
    place = others.index(variant) if variant in others else 2
    return f"other{min(place, 2) + 1}"


def color_of(variant: str, variants: Sequence[str]) -> str:
    """The variant's colour in the theme of the moment."""
    return INK[token_of(variant, variants)]


def theory_color_of(variant: str, variants: Sequence[str]) -> str:
    """The colour of a variant's predictions in the theme of the moment."""
    return INK[token_of(variant, variants) + "-theory"]


def marker_of(variant: str, variants: Sequence[str]) -> str:
    """The variant's marker, so that colour is never the only difference."""
    return MARKERS.get(token_of(variant, variants), "o")


def settings(palette: Mapping[str, str]) -> dict[Any, Any]:
    """matplotlib's settings for charts in the colours of a palette; for ``rc_context``."""
    return {
        "font.family": "sans-serif", "font.sans-serif": FONTS, "font.size": 11.5, "svg.fonttype": "none", "svg.hashsalt": "lab",
        "axes.edgecolor": palette["rule"], "axes.labelcolor": palette["muted"], "axes.linewidth": 0.8, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.labelsize": 11.5, "axes.unicode_minus": True,
        "xtick.color": palette["muted"], "ytick.color": palette["muted"], "xtick.labelsize": 11, "ytick.labelsize": 11,
        "axes.facecolor": palette["bg"], "figure.facecolor": palette["bg"], "text.color": palette["fg"],
        "grid.color": palette["grid"], "grid.linewidth": 0.8, "lines.linewidth": 2.2, "lines.markersize": 7,
        "text.parse_math": False,
    }  # fmt: skip


SETTINGS = settings(LIGHT)


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Painting inside is in that theme's colours; matplotlib's own settings come back afterwards."""
    import matplotlib as mpl

    before = _theme.set(theme)
    try:
        with mpl.rc_context(settings(PALETTES[theme])):
            yield
    finally:
        _theme.reset(before)


def _variables(colors: dict[str, str]) -> str:
    return "".join(f"--c-{name}:{value};" for name, value in colors.items())


STANDALONE = f"<style>svg{{{_variables(LIGHT)}}}@media (prefers-color-scheme:dark){{svg{{{_variables(DARK)}}}}}</style>"
"""What a chart's own file says about light and dark; a page that holds the chart says it itself."""


def page_css() -> str:
    """The tokens for a page with a theme switch: ``data-theme`` on the root element wins over the system's choice."""
    light, dark = _variables(LIGHT), _variables(DARK)
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}@media print{{:root,:root[data-theme]{{{light}}}}}"
    )


def svg_text(figure: "Figure") -> str:
    """The figure as an SVG element (no prolog) whose colours are variables."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # Not savefig: it draws everything once more beforehand.  The PNG then need not lay out the same axes again.
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.set_layout_engine("none")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for name, value in LIGHT.items():
        text = text.replace(value, f"var(--c-{name}, {value})")
    text = re.sub(r"'DejaVu Sans'(, [a-z-]+)*", BROWSER_FONTS, text)
    return re.sub(r"\n\s*", "\n", text).strip()


def fixed(svg: str, theme: Theme) -> str:
    """An SVG element as a file in one theme's colours, for where neither variables nor a switch are understood (slides, READMEs)."""
    text = re.sub(r"var\(--c-([a-z0-9-]+), #[0-9a-f]{6}\)", lambda found: PALETTES[theme][found[1]], svg)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def standalone(svg: str) -> str:
    """An SVG element as a separate file."""
    head, _, rest = svg.partition(">")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{STANDALONE}{rest}\n'


def png_bytes(figure: "Figure") -> bytes:
    """The figure on white, 1,920 pixels wide, in 128 colours (a third of the size, no visible difference)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(PNG_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    # The octree is seven times as fast as the median cut, and off by a shade only where edges are smoothed.
    image = drawn.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.putpalette(_snapped(image.getpalette() or []))
    packed = io.BytesIO()
    image.save(packed, format="PNG")
    return packed.getvalue()


def _snapped(flat: Sequence[int]) -> list[int]:
    """A palette (red, green, blue, red, ...) in which what is a shade off one of the theme's colours is that colour."""
    exact = [tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in INK.values()]
    snapped: list[int] = []
    for i in range(0, len(flat), 3):
        seen = tuple(flat[i : i + 3])
        near = min(exact, key=lambda color: max(abs(a - b) for a, b in zip(color, seen, strict=True)))
        snapped += near if max(abs(a - b) for a, b in zip(near, seen, strict=True)) <= SHADE else seen
    return snapped
