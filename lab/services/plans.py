"""The plans that auto_explain wrote into PostgreSQL's log."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lab.record import PlanSeen

SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan", "Sample Scan")


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _visited(node: Mapping[str, Any]) -> float:
    if not str(node["Node Type"]).endswith(SCANS):
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node.get("Actual Rows", 0) + removed) * node.get("Actual Loops", 1))


def parse_plans(log: str) -> Iterable[PlanSeen]:
    """The auto_explain entries of a stretch of PostgreSQL's log.  Rows are exact: PostgreSQL 18 prints rows per loop with decimals."""
    for match in re.finditer(r"duration: [\d.]+ ms  plan:\n(\t\{.*?\n\t\})", log, re.DOTALL):
        entry = json.loads(match[1].replace("\n\t", "\n"))
        root = entry["Plan"]
        nodes = list(_walk(root))
        yield PlanSeen(
            name="", level=0.0, query=" ".join(str(entry.get("Query Text", "")).split()),
            rows_visited=round(sum(_visited(node) for node in nodes)),
            rows_returned=round(root.get("Actual Rows", 0) * root.get("Actual Loops", 1)),
            shared_blks=root.get("Shared Hit Blocks", 0) + root.get("Shared Read Blocks", 0),
            nodes=tuple(str(node["Node Type"]) for node in nodes),
            temp_blks=root.get("Temp Read Blocks", 0) + root.get("Temp Written Blocks", 0),
        )  # fmt: skip
