"""Whether a gotcha is still the one that was measured."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def measured_files(scenario: Path, target: Path) -> list[Path]:
    """The files of a gotcha that a measurement depends on: its README says what was found and is none of them."""
    return [scenario, *(one for one in target.iterdir() if one.is_file() and one.suffix != ".md")]


def content_hash(paths: Iterable[Path]) -> str:
    """A short hash of files' names and contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
