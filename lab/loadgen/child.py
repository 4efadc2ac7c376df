"""The Locust child: the one process of the lab that imports locust.  Started as ``python -m lab.loadgen.child``.

It says ``{"state": "imported"}``, reads one job (a line of JSON) from standard input, says ``ready`` when every user is connected,
reads the instant of the start (so that several processes start at the same one), runs the load as a Locust run, says ``running`` and
``done``, and leaves ``samples.npy`` and ``load.json`` in the job's folder.  End of file on standard input means that the lab is gone:
it leaves at once.
"""

import gevent.monkey

gevent.monkey.patch_all()

import gc  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.event import AsyncResult  # noqa: E402
from locust.env import Environment  # noqa: E402

from lab.codec import from_json  # noqa: E402
from lab.loadgen.drive import Drive  # noqa: E402
from lab.loadgen.recorder import Recorder, save  # noqa: E402
from lab.loadgen.sharing import share_of  # noqa: E402
from lab.loadgen.users import LabUser, LoadState  # noqa: E402
from lab.model import Condition  # noqa: E402

PROGRESS_S = 0.5
JITTER_LATE_S = 0.005  # analysis.gates: jitter_p99_s


def say(**message: Any) -> None:
    """One line to the orchestrator."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def load_user(scenario: Path, name: str) -> type[LabUser]:
    """The user class of a scenario file.  Raises ValueError where it is not clear which."""
    spec = importlib.util.spec_from_file_location(f"scenarios.{scenario.parent.name}.{scenario.stem}", scenario)
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
    """What the orchestrator says after the job: the instant of the start; and that it is gone, whereupon this process leaves."""

    def __init__(self) -> None:
        self._start: AsyncResult[int] = AsyncResult()
        self._text = b""
        self.greenlet = gevent.spawn(self._listen)

    def _listen(self) -> None:
        while True:
            gevent.socket.wait_read(0)
            read = os.read(0, 4096)
            if not read:
                os._exit(1)
            self._text += read
            if not self._start.ready() and b"\n" in self._text:
                self._start.set(int(json.loads(self._text.partition(b"\n")[0])["start_ns"]))

    def ready(self) -> int:
        """Say that everybody stands at the line; the instant at which to start."""
        say(state="ready")
        start_ns = self._start.get()
        assert start_ns is not None
        return start_ns


def _progress(state: LoadState, drive: Drive) -> None:
    row = 0
    while True:
        gevent.sleep(PROGRESS_S)
        new, p99_s, errors = state.recorder.since(row)
        row += new
        say(
            state="running",
            elapsed_s=drive.elapsed_s,
            rate_rps=new / PROGRESS_S,
            p99_s=p99_s,
            in_flight=state.in_flight,
            errors=errors,
        )


def run(job: dict[str, Any]) -> int:
    """Do one job.  Returns the exit code."""
    condition = from_json(Condition, json.dumps(job["condition"]), "the job")
    process, processes = job["process"], job["processes"]
    condition = replace(condition, load=share_of(condition.load, process, processes))
    kind = load_user(Path(job["scenario"]), job["user"])
    state = LoadState(condition, job["variant"], job["url"], job["seed"], Recorder(), process, processes)
    kind.state = state
    environment = Environment(user_classes=[kind], host=job["url"], catch_exceptions=False)
    runner = environment.create_local_runner()
    drive = Drive(kind, state, runner)
    watch = Watch()
    orders = Orders()
    helpers: list[Any] = [gevent.spawn(_progress, state, drive), orders.greenlet]
    gevent.signal_handler(signal.SIGTERM, drive.stop)
    gevent.signal_handler(signal.SIGINT, drive.stop)
    gc.collect()
    gc.freeze()
    error = ""

    def ready() -> int:
        start_ns = orders.ready()
        watch.begin()
        return start_ns

    try:
        drive.run(ready)
    except Exception as problem:
        last = traceback.extract_tb(problem.__traceback__)[-1]
        error = f"{type(problem).__name__}: {problem} ({Path(last.filename).name} line {last.lineno})"
        traceback.print_exc()
    watch.stop()
    gevent.killall(helpers)
    out = Path(job["out"])
    save(out / "samples.npy", state.recorder.matrix())
    generator = {
        "planned": drive.planned, "sent": drive.sent, "reconnects": drive.reconnects,
        "cpu_windows": watch.windows, **watch.seen(), "in_flight_s": state.in_flight_ns / 1e9,
        "trace_hash": drive.trace_hash, "processes": processes,
    }  # fmt: skip
    result = {
        "started_ns": drive.started_ns, "ended_ns": drive.ended_ns, "request_names": state.recorder.names.all,
        "counts": state.recorder.counts, "maxima": state.recorder.maxima, "generator": generator, "error": error,
    }  # fmt: skip
    (out / "load.json").write_text(json.dumps(result))
    say(state="done")
    return 1 if error else 0


def main() -> None:
    """Entry point."""
    say(state="imported")
    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    code = run(json.loads(line))
    sys.stdout.flush()
    os._exit(code)  # locust and gevent keep threads; everything is written by now


if __name__ == "__main__":
    main()
