"""A target's README as sections of HTML.  HTML in it is text, images are left out, links that lead into the repository are text."""

import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markupsafe import Markup

SECTIONS = (
    "Am I affected?", "The mistake", "Why it hurts", "The fix", "When the naive version is fine", "Try it", "Neighbours", "Sources",
)  # fmt: skip
"""The headings of a target's README, in order."""
COMMENT = re.compile(r"<!-- measured: begin.*?<!-- measured: end -->|<!--.*?-->", re.DOTALL)
"""What the page has itself: the figures of its own run."""


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    return parser


def _link_open(
    renderer: RendererProtocol, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    """A link to the web stays one; any other has no target on a page that stands alone."""
    href = str(tokens[index].attrGet("href") or "")
    outside = urlsplit(href).scheme in ("http", "https")
    env.setdefault("links", []).append(outside)
    return str(Markup('<a href="{}" rel="noopener noreferrer">').format(href)) if outside else "<span>"


def _link_close(
    renderer: RendererProtocol, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    return "</a>" if env["links"].pop() else "</span>"


def render(markdown: str) -> Markup:
    """Markdown as safe HTML."""
    return Markup(_parser().render(markdown, {}))


def split(markdown: str) -> dict[str, str]:
    """The text under each second-level heading; what stands before the first is under ""."""
    parts: dict[str, list[str]] = {"": []}
    markdown = COMMENT.sub("", markdown)
    current, fenced = "", False
    for line in markdown.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            current = line[3:].strip()
            parts.setdefault(current, [])
        elif not (line.startswith("# ") and not fenced):
            parts[current].append(line)
    return {name: "\n".join(lines).strip() for name, lines in parts.items()}


def sections(root: Path, slug: str) -> dict[str, Markup]:
    """A target's README by section, the introduction under ""; empty where there is none."""
    path = root / "targets" / slug / "README.md"
    if not path.is_file():
        return {}
    return {name: render(text) for name, text in split(path.read_text(encoding="utf-8")).items() if text}
