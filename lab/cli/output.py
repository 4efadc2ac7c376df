"""What a command prints on standard output, and how an error is told."""

import json
import math
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.redact import redacted


def out(document: Any) -> None:
    """One JSON document on standard output.  JSON has no infinity: a request that was never answered reads "never"."""
    sys.stdout.write(json.dumps(plain_json(document), indent=1, default=str, allow_nan=False) + "\n")


def plain_json(value: Any) -> Any:
    """The value in types that JSON has: tuples as lists, what was never as a word, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "never" if value > 0 else "-never"
    return value


def say(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")


def show(finished: Any, as_json: bool) -> None:
    """What came out, as a table or as its document."""
    if as_json:
        out(finished.document)
    else:
        say(finished.table)


def clean(text: str) -> str:
    """The text without passwords: those that the lab knows, and whatever stands in an address."""
    from lab.target.interpreters import without_passwords

    return without_passwords(redacted(text))


def told(error: BaseException) -> str:
    """An error that nobody foresaw in one line, without passwords: what, and where in the lab."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if ".venv" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return clean(text) + where
