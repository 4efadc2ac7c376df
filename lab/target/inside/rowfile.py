"""The file of one worker's rows, written from inside the target: whatever the disk does, the target answers as it would without the lab.

What cannot be written is kept and tried again with the next row, so a disk that is full for a moment costs nothing.  While rows are
missing the file is called ``<pid>.lost``: a new name needs no space, and the trial knows.  Standard library only.
"""

import contextlib
import sys
from io import FileIO
from pathlib import Path

KEPT_BYTES = 1 << 20
"""About six minutes of rows; after that the worker is no longer recorded."""
LOST = ".lost"


class RowFile:
    """Rows on their way to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending = b""
        self._file: FileIO | None = None
        self._lost = self._given_up = self._said = False

    def append(self, row: bytes) -> None:
        """Write a row and what is left of earlier ones.  Never raises."""
        if self._given_up:
            return
        self._pending += row
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            # A disk that is nearly full takes a part of it, without an error.
            self._pending = self._pending[self._file.write(self._pending) or 0 :]
        except OSError as error:
            self._say(error)
        self._mark(bool(self._pending))
        if len(self._pending) > KEPT_BYTES:
            self._given_up, self._pending = True, b""

    def close(self) -> None:
        """Write nothing more."""
        self._given_up = True
        if self._file is not None:
            self._file.close()

    def _mark(self, lost: bool) -> None:
        """Rename the file where rows are missing, and back once all are there."""
        if lost == self._lost:
            return
        marked = self._path.with_suffix(LOST)
        with contextlib.suppress(OSError):
            if lost:
                self._path.rename(marked)
            else:
                marked.rename(self._path)
            self._lost = lost

    def _say(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            print(f"lab.target.inside.asgi: cannot record this worker: {error}", file=sys.stderr)  # noqa: T201
