"""What a person sees while a run goes on: one live line on a terminal, one plain line a trial elsewhere; always on standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.words.errors import LabError

if TYPE_CHECKING:  # `list` is asked for often, and needs neither
    from rich.live import Live as RichLive

    from lab.run.runner import Progress


def plain(stream: object = None) -> bool:
    """Whether to leave out colours and live lines: not a terminal, NO_COLOR or a dumb one."""
    where = stream or sys.stderr
    tty = getattr(where, "isatty", lambda: False)()
    return not tty or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def quantity_s(seconds: float) -> str:
    """A latency with a unit that suits it."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def note(text: str) -> None:
    """A line for the person, never part of the result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def complain(error: LabError) -> None:
    """What happened, where, and the next step."""
    note(f"error: {error}")
    if error.hint:
        note(f"       {error.hint}")


def _line(progress: "Progress") -> str:
    trial, live = progress.trial, progress.live
    head = f"{progress.index + 1}/{progress.total} {trial.gotcha.split('/')[1]} · {progress.condition.label}"
    what = f"pair {trial.pair + 1} {trial.variant}"
    rate = f" · {live.rate_rps:,.0f}/s p99 {quantity_s(live.p99_s)}" if live.rate_rps else ""
    return f"{head} · {what} · {live.phase}{rate} · {duration(progress.left_s)} left"


class Screen:
    """Shows progress.  ``quiet`` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: RichLive | None = None
        self._last = (-1, "")

    @contextmanager
    def running(self) -> Iterator["Screen"]:
        """The live line's life."""
        if self._quiet or plain():
            yield self
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), refresh_per_second=8, transient=True) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    def show(self, progress: "Progress") -> None:
        """Take in where the run stands."""
        if self._quiet:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(_line(progress), overflow="ellipsis", no_wrap=True))
        elif self._last[0] != progress.index or progress.live.phase.startswith("again"):
            self._last = (progress.index, progress.live.phase)
            note(_line(progress))
