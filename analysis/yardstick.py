"""What a run is judged with besides its own trials: the self-test that was the newest when the run began.

It is copied into the run's folder then (``lab.commands.session``), so that judging again gives the same bytes whatever was measured since.  A run
without one is judged without: nothing newer is looked for.
"""

import contextlib
import json
from typing import Any

from analysis.frames import RunLike
from lab.store import YARDSTICK
from lab.words.errors import StoreError


def yardstick_of(run: RunLike) -> dict[str, Any] | None:
    """The self-test that is stored with a run, None where there is none (or it cannot be read)."""
    path = getattr(run, "path", None)
    if path is None:
        return None
    try:
        document: dict[str, Any] = json.loads((path / YARDSTICK).read_text(encoding="utf-8"))
        return document
    except (OSError, ValueError):
        return None


def ceiling_of(run: RunLike) -> float | None:
    """The generator's ceiling against a null target, requests/s: measured when the run began, else that of the self-test of then."""
    with contextlib.suppress(StoreError, KeyError, ValueError):
        return float(run.environment.limits["generator_ceiling_rps"])
    try:
        return float((yardstick_of(run) or {})["ceiling"]["lab_rps"])
    except (KeyError, TypeError, ValueError):
        return None
