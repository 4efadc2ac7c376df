"""The orchestrator's side of the Locust children: start them early, hand them the job, follow them, take what they measured."""

import json
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from lab.generator.evenness import is_even
from lab.generator.recorder import merge, merge_observed, save
from lab.generator.sharing import arm_folder, processes_for
from lab.model import Condition
from lab.processes import Child, Guard
from lab.target.address import Address, address_of
from lab.words.codec import to_dict
from lab.words.errors import LoadError
from lab.words.record import GeneratorSeen

ROOT = Path(__file__).resolve().parent.parent.parent
IMPORT_TIMEOUT_S = 60.0
GRACE_S = 20.0  # connecting before the load and writing after it
LEAD_S = 0.005  # from "everybody stands at the line" to the start; several processes must all have read it by then
LEAD_OF_SEVERAL_S = 0.1
OWN_PATH = "/x-lab-own"
"""What the generator asks to learn where a connection leads: no route answers it, so nothing is cached, counted or spent by it."""

PROGRESS = ("elapsed_s", "rate_rps", "p99_s", "in_flight", "errors")
STATES = ("imported", "ready", "running", "done", "unreadable")
SUMMED = (
    "planned", "sent", "never_sent", "rows", "reconnects", "unsolicited", "resent", "connections_peak", "connections_short",
    "in_flight_s", "jitter_samples", "jitter_late",
)  # fmt: skip
"""Of ``GeneratorSeen``, over processes."""
LARGEST = ("jitter_p99_s", "jitter_max_s", "warmup_s", "warmup_extensions")
LOG_HINT = "See load.log in the trial's folder."


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
    """The generator: one or more Locust processes that have imported locust and wait for their job."""

    children: Sequence[Child]
    folder: Path
    _lines: "queue.Queue[tuple[int, dict[str, Any] | None]]" = field(default_factory=queue.Queue)
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for index, child in enumerate(self.children):
            threading.Thread(target=self._read, args=(index, child), daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """The generator's processes."""
        return [child.pid for child in self.children]

    def _read(self, index: int, child: Child) -> None:
        stdout = child.stdout
        assert stdout is not None
        try:
            for line in stdout:
                self._lines.put((index, understood(line)))
        except ValueError as problem:  # bytes that are no text; or the pipe was closed here
            self._lines.put((index, {"state": "unreadable", "line": str(problem)}))
        self._lines.put((index, None))

    def _next(self, deadline: float, what: str) -> tuple[int, dict[str, Any]]:
        message: dict[str, Any] | None = None
        try:
            while message is None:
                index, message = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
                if message is None and index not in self._done:  # else it is the end of one that has finished
                    raise self._ended(index, what)
        except queue.Empty:
            raise LoadError(
                f"the load generator did not {what} in time", f"Its log: {self.children[0].log_path.name}"
            ) from None
        if message["state"] == "unreadable":
            raise LoadError(f"the load generator said what nobody understands: {message['line']!r}", LOG_HINT)
        if message["state"] == "done":
            self._done.add(index)
        return index, message

    def _ended(self, index: int, what: str) -> LoadError:
        child = self.children[index]
        with suppress(OSError):  # its output is closed: it ends, and says how only then
            for _ in range(100):
                if child.poll() is not None:
                    break
                time.sleep(0.01)
        which = (
            f"process {index + 1} of {len(self.children)} of the load generator"
            if len(self.children) > 1
            else "the load generator"
        )
        return LoadError(f"{which} ended (code {child.poll()}) before it could {what}: {child.log_tail(5)}", LOG_HINT)

    def _wait_for(self, state: str, count: int, deadline: float, what: str) -> None:
        """Until ``count`` processes have said ``state``; one that is done has failed, and says why in its result."""
        said = 0
        while said < count:
            _, message = self._next(deadline, what)
            said += message["state"] == state
            if message["state"] == "done":
                raise _Over

    def _send(self, number: int, document: Mapping[str, Any]) -> None:
        stdin = self.children[number].stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(document) + "\n")
            stdin.flush()
        except OSError:
            raise self._ended(number, "take its orders") from None

    def run(
        self,
        job: Mapping[str, Any],
        limit_s: float,
        started: Callable[[int], None],
        running: Callable[[dict[str, Any]], None],
    ) -> Measured:
        """``run_all`` of a job that has no arms."""
        (measured,) = self.run_all(job, limit_s, started, running).values()
        return measured

    def run_all(
        self,
        job: Mapping[str, Any],
        limit_s: float,
        started: Callable[[int], None],
        running: Callable[[dict[str, Any]], None],
    ) -> dict[str, Measured]:
        """Hand over the job, start every process at the same instant and follow the load to its end; what was measured by variant.

        ``started`` gets the load's start (CLOCK_MONOTONIC ns), ``running`` the progress of all processes together.  Raises LoadError
        where a child breaks, hangs beyond ``limit_s`` or the user class raises; its samples are in the folder even then.
        """
        processes: int = job["processes"]
        self._wait_for("imported", len(self.children), time.monotonic() + IMPORT_TIMEOUT_S, "start")
        for number in range(processes):
            self._send(number, {**job, "process": number, "out": str(part_folder(self.folder, number))})
        deadline = time.monotonic() + limit_s + GRACE_S
        with suppress(_Over):
            self._wait_for("ready", processes, deadline, "connect its users")
            start_ns = time.monotonic_ns() + int((LEAD_S if processes == 1 else LEAD_OF_SEVERAL_S) * 1e9)
            for number in range(processes):
                self._send(number, {"start_ns": start_ns})
            started(start_ns)
            self._follow(processes, deadline, running)
        if arms := job.get("arms"):
            return {arm["variant"]: _measured([arm_folder(self.folder, arm["variant"])]) for arm in arms}
        measured = _measured([part_folder(self.folder, number) for number in sorted(self._done)])
        if len(self._done) < processes and not measured.error:
            raise LoadError(
                f"only {len(self._done)} of {processes} processes of the load generator did their part", LOG_HINT
            )
        return {job["variant"]: measured}

    def _follow(self, processes: int, deadline: float, running: Callable[[dict[str, Any]], None]) -> None:
        """Until all are done.  Where one has failed the others are told to stop: nothing will be made of their share."""
        newest: dict[int, dict[str, Any]] = {}
        while len(self._done) < processes:
            index, message = self._next(deadline, "finish")
            if message["state"] == "running":
                newest[index] = message
                if index == min(newest):
                    running(_together(list(newest.values())))
            elif message.get("error"):
                for number in set(range(processes)) - self._done:
                    self._send(number, {"stop": True})


class _Over(Exception):
    """A process ended before the load began; its result says why."""


def part_folder(folder: Path, number: int) -> Path:
    """Where a process leaves its part; the first one's is the folder itself."""
    return folder / f"process-{number}" if number else folder


def _measured(folders: Sequence[Path]) -> Measured:
    """What processes left in their folders, merged into the first's: all of them, or those that have said why the load failed."""
    parts = []
    for folder in folders:
        try:
            parts.append(json.loads((folder / "load.json").read_text()))
        except (OSError, ValueError) as error:
            raise LoadError(f"the load generator left no result: {error}", LOG_HINT) from error
    samples, names = folders[0] / "samples.npy", tuple(parts[0]["request_names"])
    if len(folders) > 1:
        matrices = [np.load(folder / "samples.npy") for folder in folders]
        rows, names = merge([(rows, part["request_names"]) for rows, part in zip(matrices, parts, strict=True)])
        save(samples, rows)
    seen = merged([part["generator"] for part in parts])
    return Measured(
        samples, min(part["started_ns"] for part in parts), max(part["ended_ns"] for part in parts), names,
        merge_observed([(part["counts"], part["maxima"]) for part in parts]),
        seen, next((part["error"] for part in parts if part["error"]), ""),
    )  # fmt: skip


def understood(line: str) -> dict[str, Any]:
    """A line of the protocol; what is none becomes a message that says so."""
    try:
        message = json.loads(line)
        if message["state"] in STATES and (message["state"] != "running" or all(message[key] >= 0 for key in PROGRESS)):
            return dict(message)
    except (ValueError, TypeError, KeyError):
        pass
    return {"state": "unreadable", "line": line.rstrip("\n")[:200]}


def _together(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The progress of several processes as one: rates and counts add up, the slowest p99 is shown."""
    sums = {key: sum(message[key] for message in messages) for key in ("rate_rps", "in_flight", "errors")}
    largest = {key: max(message[key] for message in messages) for key in ("elapsed_s", "p99_s")}
    return {"state": "running", **sums, **largest}


def merged(parts: Sequence[Mapping[str, Any]]) -> GeneratorSeen:
    """What several generator processes say of themselves: counts add up, for CPU, jitter and warm-up the worst of them speaks."""
    windows = zip_longest(*(part["cpu_windows"] for part in parts), fillvalue=0.0)
    spread: Counter[str] = Counter()
    for part in parts:
        spread.update(part["spread"])
    workers = parts[0]["spread_over"]
    steady = [part["steady"] for part in parts]
    return GeneratorSeen(
        **{key: sum(part[key] for part in parts) for key in SUMMED},
        **{key: max(part[key] for part in parts) for key in LARGEST},
        cpu_windows=tuple(max(window) for window in windows), trace_hash=parts[0]["trace_hash"], processes=len(parts),
        connection_problem=next((part["connection_problem"] for part in parts if part["connection_problem"]), ""),
        spread=spread, spread_even=is_even({int(pid): n for pid, n in spread.items()}, workers) if workers else None,
        steady=False if False in steady else None if None in steady else True,
    )  # fmt: skip


def address_in_job(where: str | Address) -> dict[str, Any]:
    """An address as the job's JSON holds it."""
    address = address_of(where)
    more = {"headers": dict(address.headers), "ca": address.ca, "verify": address.verify}
    return {"url": address.url, "address": more}


def job_of(
    scenario: Path,
    condition: Condition,
    variant: str,
    where: str | Address,
    seed: int,
    processes: int = 1,
    own_path: str = OWN_PATH,
) -> dict[str, Any]:
    """The job as the children read it; a load that cannot be shared is given to one process."""
    return {
        "scenario": str(scenario), "user": condition.user, "variant": variant, **address_in_job(where), "seed": seed, "own_path": own_path,
        "condition": to_dict(condition), "processes": processes_for(condition.load, processes),
    }  # fmt: skip


@contextmanager
def load_child(guard: Guard, folder: Path, env: Mapping[str, str], processes: int = 1) -> Iterator[LoadChild]:
    """Locust processes that import while the target starts, gone at the end however the block ends."""
    children: list[Child] = []
    try:
        for number in range(processes):
            part_folder(folder, number).mkdir(parents=True, exist_ok=True)
            children.append(guard.spawn(
                [sys.executable, "-m", "lab.generator.child"], env={**os.environ, **env}, cwd=ROOT,
                log_path=folder / (f"load-{number}.log" if number else "load.log"), name="load", pipes=True,
            ))  # fmt: skip
        yield LoadChild(children, folder)
    finally:
        for child in children:
            child.stop(5.0)
