"""Variants side by side: syntax-coloured, aligned, the differing lines marked."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

FILLER = "filler"


@dataclass(frozen=True)
class CodeLine:
    """One line as HTML.  ``mark`` is "same", "changed" or "filler" (a gap that keeps the two sides level; ``number`` is 0)."""

    number: int
    html: Markup
    mark: str


@dataclass(frozen=True)
class Listing:
    """One variant's file."""

    variant: str
    path: str
    lines: tuple[CodeLine, ...]

    @property
    def changed(self) -> int:
        """How many lines differ from the other side."""
        return sum(line.mark == "changed" for line in self.lines)


@dataclass(frozen=True)
class Comparison:
    """Two listings of the same length, line beside line."""

    left: Listing
    right: Listing


def highlighted(source: str) -> list[Markup]:
    """Each line as HTML spans; everything that is not a span is escaped."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    text = highlight(source, PythonLexer(stripnl=False, ensurenl=True), HtmlFormatter(nowrap=True))
    # Pygments closes its spans at the end of every line, so a line is complete HTML.
    return [Markup(line) for line in text.split("\n")[: source.count("\n") + (not source.endswith("\n"))]]


def compare(left: tuple[str, str, str], right: tuple[str, str, str]) -> Comparison:
    """Align two files, each (variant, path, source)."""
    a_lines, b_lines = left[2].splitlines(), right[2].splitlines()
    a_html, b_html = highlighted(left[2]), highlighted(right[2])
    a_rows: list[CodeLine] = []
    b_rows: list[CodeLine] = []
    matcher = difflib.SequenceMatcher(None, a_lines, b_lines, autojunk=False)
    for tag, a_from, a_to, b_from, b_to in matcher.get_opcodes():
        mark = "same" if tag == "equal" else "changed"
        a_part = [CodeLine(i + 1, a_html[i], mark) for i in range(a_from, a_to)]
        b_part = [CodeLine(i + 1, b_html[i], mark) for i in range(b_from, b_to)]
        length = max(len(a_part), len(b_part))
        gap = CodeLine(0, Markup(""), FILLER)
        a_rows += a_part + [gap] * (length - len(a_part))
        b_rows += b_part + [gap] * (length - len(b_part))
    return Comparison(Listing(left[0], left[1], tuple(a_rows)), Listing(right[0], right[1], tuple(b_rows)))


def variant_source(root: Path, slug: str, variant: str) -> tuple[str, str, str] | None:
    """(variant, path under the project, source), or None where the file is not there (any more)."""
    path = root / "targets" / slug / f"{variant}.py"
    if not path.is_file():
        return None
    return variant, path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def comparisons(root: Path, slug: str, variants: tuple[str, ...]) -> list[Comparison]:
    """Naive beside each other variant, correct first."""
    sources = {variant: variant_source(root, slug, variant) for variant in variants}
    naive = sources.get("naive")
    others = [sources[v] for v in sorted(variants, key=lambda v: v != "correct") if v != "naive"]
    return [compare(naive, other) for other in others if naive and other]


def code_css() -> str:
    """Pygments' colours for both themes; the dark ones apply under the page's switch and the system's choice."""
    light = _style("default", ".code")
    dark = _style("github-dark", ":root[data-theme=dark] .code")
    system = _style("github-dark", ":root:not([data-theme=light]) .code")
    return f"{light}\n@media screen{{{dark}\n@media (prefers-color-scheme:dark){{{system}}}}}\n"


def _style(name: str, selector: str) -> str:
    """A Pygments style's rules for tokens; its page colours are ours to choose."""
    from pygments.formatters import HtmlFormatter

    formatter: Any = HtmlFormatter(style=name)
    rules = str(formatter.get_style_defs(selector)).splitlines()
    return "\n".join(rule for rule in rules if rule.startswith(f"{selector} ."))
