"""The orchestrator's side of the Locust child: start it early, hand it the job, follow it, take what it measured."""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.codec import to_dict
from lab.errors import LoadError
from lab.model import Condition
from lab.processes import Child, Guard
from lab.record import GeneratorSeen

ROOT = Path(__file__).resolve().parent.parent
IMPORT_TIMEOUT_S = 60.0
GRACE_S = 20.0  # connecting before the load and writing after it


@dataclass(frozen=True)
class Measured:
    """What a load left: where its samples are, its clock readings and what the user class counted."""

    samples: Path
    started_ns: int
    ended_ns: int
    request_names: tuple[str, ...]
    observed: Mapping[str, float]
    generator: GeneratorSeen
    error: str = ""


@dataclass
class LoadChild:
    """A Locust process that has imported locust and waits for its job."""

    child: Child
    folder: Path
    _lines: "queue.Queue[dict[str, Any] | None]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self.child.stdout
        assert stdout is not None
        for line in stdout:
            try:
                self._lines.put(json.loads(line))
            except ValueError:
                continue  # a print() in a user class
        self._lines.put(None)

    def _next(self, deadline: float, what: str) -> dict[str, Any]:
        try:
            message = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise LoadError(
                f"the load generator did not {what} in time", f"Its log: {self.child.log_path.name}"
            ) from None
        if message is None:
            tail = self.child.log_tail(5)
            raise LoadError(
                f"the load generator ended before it could {what}: {tail}", "See load.log in the trial's folder."
            )
        return message

    def run(
        self,
        job: Mapping[str, Any],
        limit_s: float,
        started: Callable[[int], None],
        running: Callable[[dict[str, Any]], None],
    ) -> Measured:
        """Hand over the job and follow it to its end.

        ``started`` gets the load's start (CLOCK_MONOTONIC ns), ``running`` each progress message.  Raises LoadError where the child
        breaks, hangs beyond ``limit_s`` or the user class raises; its samples are in the folder even then.
        """
        deadline = time.monotonic() + IMPORT_TIMEOUT_S
        while self._next(deadline, "start").get("state") != "imported":
            pass
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(job) + "\n")
        self.child.stdin.flush()
        deadline = time.monotonic() + limit_s + GRACE_S
        while True:
            message = self._next(deadline, "finish")
            match message.get("state"):
                case "started":
                    started(int(message["t_ns"]))
                case "running":
                    running(message)
                case "done":
                    break
        return self._measured()

    def _measured(self) -> Measured:
        try:
            found = json.loads((self.folder / "load.json").read_text())
        except (OSError, ValueError) as error:
            raise LoadError(
                f"the load generator left no result: {error}", "See load.log in the trial's folder."
            ) from error
        seen = found["generator"]
        generator = GeneratorSeen(**{**seen, "cpu_windows": tuple(seen["cpu_windows"])})
        return Measured(
            self.folder / "samples.npy", found["started_ns"], found["ended_ns"], tuple(found["request_names"]),
            found["observed"], generator, found.get("error", ""),
        )  # fmt: skip


def job_of(
    scenario: Path, condition: Condition, variant: str, url: str, seed: int, out: Path, processes: int
) -> dict[str, Any]:
    """The job as the child reads it."""
    return {
        "scenario": str(scenario), "user": condition.user, "variant": variant, "url": url, "seed": seed,
        "condition": to_dict(condition), "out": str(out), "processes": processes,
    }  # fmt: skip


@contextmanager
def load_child(guard: Guard, folder: Path, env: Mapping[str, str]) -> Iterator[LoadChild]:
    """A Locust child that imports while the target starts, gone at the end however the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    child = guard.spawn(
        [sys.executable, "-m", "lab.loadgen.child"], env={**os.environ, **env}, cwd=ROOT,
        log_path=folder / "load.log", name="load", pipes=True,
    )  # fmt: skip
    try:
        yield LoadChild(child, folder)
    finally:
        child.stop(5.0)
