"""The Locust child: the one process of the lab that imports locust.  Started as ``python -m lab.generator.child``.

It says ``{"state": "imported"}``, reads one job (a line of JSON), says ``ready`` when every user is connected, reads the instant of the
start (so that several processes start at the same one), runs the load as a Locust run, says ``running`` and ``done``, and leaves
``samples.npy`` and ``load.json`` in the job's folder.  ``{"stop": true}`` ends the load early: another process has failed.  End of file
means that the lab is gone: it leaves at once.
"""

from lab.generator.protocol import Lines, take_over

LINES = take_over() if __name__ == "__main__" else Lines(0, 1)

import gevent.monkey  # noqa: E402

gevent.monkey.patch_all()

import gc  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.event import AsyncResult  # noqa: E402
from locust.env import Environment  # noqa: E402

from lab.generator.drive import Drive  # noqa: E402
from lab.generator.duet import Turnstiles, arm_of  # noqa: E402
from lab.generator.recorder import Recorder, save  # noqa: E402
from lab.generator.sharing import arm_folder  # noqa: E402
from lab.generator.state import LoadState  # noqa: E402
from lab.generator.users import LabUser  # noqa: E402
from lab.model import Condition  # noqa: E402
from lab.target.address import Address  # noqa: E402
from lab.words.codec import from_json  # noqa: E402

PROGRESS_S = 0.5
JITTER_LATE_S = 0.005  # analysis.gates: jitter_p99_s
say = LINES.say


def load_user(scenario: Path, name: str, arm: str = "") -> type[LabUser]:
    """The user class of a scenario file, read anew for each arm of a duet: what a class keeps for all its users is one arm's alone.

    Raises ValueError where it is not clear which.
    """
    spec = importlib.util.spec_from_file_location(
        f"scenarios.{scenario.parent.name}.{scenario.stem}{arm and '_' + arm}", scenario
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    kinds = [
        kind for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, LabUser) and not vars(kind).get("abstract", False)
    ]  # fmt: skip
    if name:
        kinds = [kind for kind in kinds if kind.__name__ == name]
    if len(kinds) != 1:
        raise ValueError(f"{scenario.name}: {len(kinds)} user classes fit; name one with Condition(user=...)")
    return kinds[0]


class Watch:
    """The generator's own state: its CPU per second of wall time, and how late a greenlet wakes."""

    def __init__(self) -> None:
        self.windows: list[float] = []
        self.late_s: list[float] = []
        self._since = 0
        self._greenlets = [gevent.spawn(self._cpu), gevent.spawn(self._jitter)]

    def _cpu(self) -> None:
        while True:
            wall, cpu = time.monotonic(), time.process_time()
            gevent.sleep(1.0)
            self.windows.append((time.process_time() - cpu) / (time.monotonic() - wall))

    def _jitter(self) -> None:
        while True:
            begin = time.monotonic()
            gevent.sleep(0.01)
            self.late_s.append(max(0.0, time.monotonic() - begin - 0.01))

    def begin(self) -> None:
        """The load begins: how late a sleep was while the users were made is nobody's latency."""
        self._since = len(self.late_s) + 1  # the sleep that is under way began before

    def stop(self) -> None:
        """Stop watching."""
        gevent.killall(self._greenlets)
        self.late_s = self.late_s[self._since :]

    def seen(self) -> dict[str, float]:
        """The lateness in the words of ``GeneratorSeen``."""
        late = sorted(self.late_s)
        p99_s = late[min(len(late) - 1, int(len(late) * 0.99))] if late else 0.0
        return {"jitter_p99_s": p99_s, "jitter_max_s": max(late, default=0.0), "jitter_samples": len(late),
                "jitter_late": sum(one > JITTER_LATE_S for one in late)}  # fmt: skip


class Orders:
    """What the orchestrator says after the job: the instant of the start, or to stop; and that it is gone: this process leaves then."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._start: AsyncResult[int] = AsyncResult()
        self._stop = stop
        self.greenlet = gevent.spawn(self._listen)

    def _listen(self) -> None:
        while True:
            while (order := LINES.next()) is not None:
                if "start_ns" in order:
                    self._start.set(int(order["start_ns"]))
                if order.get("stop"):
                    self._stop()
                    self._start.set(time.monotonic_ns())
            gevent.socket.wait_read(LINES.read_fd)
            if not LINES.read():
                os._exit(1)

    def ready(self) -> int:
        """Say that everybody stands at the line; the instant at which to start."""
        say(state="ready")
        start_ns = self._start.get()
        assert start_ns is not None
        return start_ns


def _progress(drives: Sequence[Drive]) -> None:
    rows = [0] * len(drives)
    while True:
        gevent.sleep(PROGRESS_S)
        news = [drive.state.recorder.since(row) for drive, row in zip(drives, rows, strict=True)]
        rows = [row + new for row, (new, _, _) in zip(rows, news, strict=True)]
        say(
            state="running",
            elapsed_s=drives[0].elapsed_s,
            rate_rps=sum(new for new, _, _ in news) / PROGRESS_S,
            p99_s=max(p99_s for _, p99_s, _ in news),
            in_flight=sum(drive.state.in_flight for drive in drives),
            errors=sum(errors for _, _, errors in news),
        )


def state_of(job: dict[str, Any]) -> LoadState:
    """What the job says, with this process's part of the load."""
    condition = from_json(Condition, json.dumps(job["condition"]), "the job")
    process, processes = job["process"], job["processes"]
    before = [condition.load.shared(one, processes).members % condition.workers for one in range(process)]
    where = Address(job["url"], **job.get("address", {}))
    return LoadState(
        replace(condition, load=condition.load.shared(process, processes)), job["variant"], where, job["seed"], Recorder(),
        process, processes, job.get("own_path", "/"), sum(before) if processes > 1 else None,
    )  # fmt: skip


class Arms:
    """The drives of one job: one, or one for each arm of a duet, which begin at the same instant."""

    def __init__(self, job: dict[str, Any]) -> None:
        asked = job.get("arms") or [{"variant": job["variant"], "url": job["url"], "address": job.get("address", {})}]
        self._turnstiles = Turnstiles([arm["variant"] for arm in asked], job["seed"])
        self.drives: dict[str, Drive] = {}
        for number, arm in enumerate(asked):
            state = state_of({**job, **arm})
            kind = load_user(Path(job["scenario"]), job["user"], arm["variant"] if len(asked) > 1 else "")
            if len(asked) > 1:
                state.place = number, len(asked)
                if not state.condition.load.is_open:
                    kind = arm_of(kind, arm["variant"], self._turnstiles)
            kind.state = state
            environment = Environment(user_classes=[kind], host=arm["url"], catch_exceptions=False)
            self.drives[arm["variant"]] = Drive(kind, state, environment.create_local_runner())
        self._waiting = len(asked)
        self._start: AsyncResult[int] = AsyncResult()

    def stop(self) -> None:
        """End all of them early."""
        for drive in self.drives.values():
            drive.stop()

    def run(self, ready: Callable[[], int]) -> Exception | None:
        """Run them to their end; what the first that failed raised."""
        jobs = [gevent.spawn(self._run, drive, ready) for drive in self.drives.values()]
        gevent.joinall(jobs)
        return next((job.value for job in jobs if job.value is not None), None)

    def _run(self, drive: Drive, ready: Callable[[], int]) -> Exception | None:
        try:
            drive.run(lambda: self._at_the_line(ready))
        except Exception as problem:
            self.stop()
            if not self._start.ready():
                self._start.set(time.monotonic_ns())
            return problem
        return None

    def _at_the_line(self, ready: Callable[[], int]) -> int:
        """The instant of the start, asked for by whoever comes last."""
        self._waiting -= 1
        if not self._waiting:
            self._turnstiles.open = True
            self._start.set(ready())
        start_ns = self._start.get()
        assert start_ns is not None
        return start_ns


def run(job: dict[str, Any]) -> int:
    """Do one job.  Returns the exit code."""
    arms = Arms(job)
    watch = Watch()
    orders = Orders(arms.stop)
    helpers: list[Any] = [gevent.spawn(_progress, list(arms.drives.values())), orders.greenlet]
    gevent.signal_handler(signal.SIGTERM, arms.stop)
    gevent.signal_handler(signal.SIGINT, arms.stop)
    gc.collect()
    gc.freeze()

    def ready() -> int:
        start_ns = orders.ready()
        watch.begin()
        return start_ns

    problem = arms.run(ready)
    error = ""
    if problem is not None:
        error = _told(problem, job["scenario"])
        traceback.print_exception(problem)
    watch.stop()
    gevent.killall(helpers)
    for variant, drive in arms.drives.items():
        out = arm_folder(Path(job["out"]), variant) if job.get("arms") else Path(job["out"])
        out.mkdir(exist_ok=True)
        _leave(out, drive, watch, error)
    say(state="done", error=error)
    return 1 if error else 0


def _told(problem: Exception, scenario: str) -> str:
    """An error in one line, with the line of the scenario (or else the last one) that it comes from."""
    frames = traceback.extract_tb(problem.__traceback__)
    where = next((frame for frame in reversed(frames) if frame.filename == scenario), frames[-1] if frames else None)
    place = f" ({Path(where.filename).name} line {where.lineno})" if where else ""
    return f"{type(problem).__name__}: {problem}{place}"


def _leave(out: Path, drive: Drive, watch: Watch, error: str) -> None:
    """Write what was measured."""
    recorder, counts = drive.state.recorder, drive.counts()
    save(out / "samples.npy", recorder.matrix())
    generator = {
        **counts, "cpu_windows": watch.windows, **watch.seen(), "trace_hash": drive.trace.hash,
        "processes": drive.state.processes,
    }  # fmt: skip
    result = {
        "started_ns": drive.started_ns, "ended_ns": drive.ended_ns, "request_names": recorder.names.all,
        "counts": recorder.counts, "maxima": recorder.maxima, "generator": generator, "error": error,
    }  # fmt: skip
    (out / "load.json").write_text(json.dumps(result))


def main() -> None:
    """Entry point."""
    say(state="imported")
    while (job := LINES.next()) is None:
        if not LINES.read():
            sys.exit(1)
    code = run(job)
    sys.stdout.flush()
    os._exit(code)  # locust and gevent keep threads; everything is written by now


if __name__ == "__main__":
    main()
