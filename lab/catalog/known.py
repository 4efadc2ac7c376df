"""The catalogue of what people say about FastAPI, row by row (docs/catalogue/*.json), and which of it this lab has measured.

Kept as data, so that the pages, ``bench.py list --catalogue`` and the tests read the same.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "catalogue"
WIDTH = 100
FIELDS = {"id", "part", "claim", "mistake", "fix", "theory", "evidence", "versions", "measure", "feasible"}
"""What every row of a part has."""


def catalogue(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The rows of all parts, in order."""
    return [row for path in sorted(folder.glob("part-*.json")) for row in json.loads(path.read_text(encoding="utf-8"))]


def no_longer_true(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """What was true once, or never, and is still said."""
    path = folder / "no-longer-true.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def measured_by(gotchas: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The gotchas that measure a row, by its id; ``gotchas`` are described as ``lab.catalog`` has them."""
    found: dict[str, list[str]] = {}
    for one in gotchas:
        for row in one["catalogue_ids"]:
            found.setdefault(row, []).append(one["slug"])
    return found


def rows(gotchas: Iterable[Mapping[str, Any]], folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every row with ``measured_by``, the gotchas that measure it."""
    by_id = measured_by(gotchas)
    return [{**row, "measured_by": by_id.get(row["id"], [])} for row in catalogue(folder)]


def searched(found: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows in which every word stands, whatever the case."""
    wanted = [word.lower() for text in words for word in text.split()]

    def text_of(row: Mapping[str, Any]) -> str:
        parts = [
            row["id"],
            row["claim"],
            row["mistake"],
            row["fix"],
            row["theory"],
            row["versions"],
            row["evidence"]["note"],
        ]
        return " ".join(parts).lower()

    return [row for row in found if all(word in text_of(row) for word in wanted)]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text that fits 100 columns: by part, the claim, and the gotcha that measures it."""
    lines: list[str] = []
    part = 0
    for row in found:
        if row["part"] != part:
            part = row["part"]
            lines.append(f"\npart {part}")
        mark = "✓" if row["measured_by"] else " "
        lines.append(f"  {mark} {row['id']}")
        lines += textwrap.wrap(row["claim"], WIDTH, initial_indent="      ", subsequent_indent="      ")
        lines += [f"      measured by {slug}" for slug in row["measured_by"]]
    measured = sum(bool(row["measured_by"]) for row in found)
    lines.append(f"\n{len(found)} {'row' if len(found) == 1 else 'rows'}, {measured} measured by this lab.")
    return "\n".join(lines).lstrip("\n")
