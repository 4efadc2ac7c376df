"""The plans that auto_explain wrote into PostgreSQL's log."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lab.words.errors import ServerError
from lab.words.record import PlanSeen

SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan", "Sample Scan")


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _visited(node: Mapping[str, Any]) -> float:
    kind = str(node["Node Type"])
    if not kind.endswith(SCANS) or kind == "Bitmap Index Scan":  # its rows are visited by the Bitmap Heap Scan above it
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


class Explainer:
    """Has a server of ours log the plans of the statements that the target really sends.  This changes the server's settings."""

    def __init__(self, admin: "psycopg.Connection[dict[str, Any]]", log_path: Path) -> None:
        self._admin = admin
        self._log_path = log_path
        self._from = 0

    def begin(self) -> None:
        """Log the plan of every statement from now on."""
        self._from = self._log_path.stat().st_size
        self._set(0)

    def collect(self) -> list[PlanSeen]:
        """Stop logging plans and return those of the targets' statements since ``begin``, in order."""
        self._set(-1)
        with self._log_path.open("rb") as log:
            log.seek(self._from)
            text = log.read().decode("utf-8", "replace")
        own = ("pg_conf_load_time", "pg_reload_conf")
        return [plan for plan in parse_plans(text) if not any(name in plan.query for name in own)]

    def _set(self, minimum_ms: int) -> None:
        for name, value in (("log_min_duration", str(minimum_ms)), ("log_analyze", "on"), ("log_timing", "off"),
                            ("log_buffers", "on"), ("log_format", "json")):  # fmt: skip
            self._admin.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier("auto_explain", name), sql.Literal(value))
            )
        generation = self._loaded_at()
        self._admin.execute("SELECT pg_reload_conf()")
        for _ in range(500):
            if self._loaded_at() != generation:
                return
        raise ServerError("PostgreSQL does not reload its settings", "See postgres.log.")

    def _loaded_at(self) -> Any:
        row = self._admin.execute("SELECT pg_conf_load_time() AS at").fetchone()
        return row["at"] if row else None
