"""How a generator process talks to the orchestrator: lines of JSON, out on what was standard output, in on what was standard input.

``take_over`` moves both to descriptors of their own, before anything else is imported: what libraries and user classes print goes to the
log, and what they read is empty.
"""

import json
import os
import sys
from typing import Any

CHUNK_BYTES = 65_536


class Lines:
    """The two ends of the protocol in this process."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self._write_fd = write_fd
        self._text = b""

    def say(self, **message: Any) -> None:
        """One line to the orchestrator."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._write_fd, data) :]

    def read(self) -> bool:
        """Take what has arrived (waits where nothing has); False at the end of file."""
        data = os.read(self.read_fd, CHUNK_BYTES)
        self._text += data
        return bool(data)

    def next(self) -> Any | None:
        """The next whole line that has been read, as JSON; None where there is none."""
        line, end, rest = self._text.partition(b"\n")
        if not end:
            return None
        self._text = rest
        return json.loads(line)


def take_over() -> Lines:
    """Move the protocol away from the standard descriptors; whatever prints from now on prints to standard error, the log."""
    lines = Lines(os.dup(0), os.dup(1))  # not inherited by what a user class starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return lines
