"""A target's server from start to stop."""

import os
import shutil
import sys
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lab.model import App, Server
from lab.ports import PortReservation, is_listening
from lab.processes import Child, Guard, wait_until
from lab.target.address import Address
from lab.target.inside.rowfile import LOST
from lab.target.inside.rows import (
    GOES_ON,
    NOT_WATCHED,
    ROW_NS,
    SERVER_COLUMNS,
    SERVER_ROW_BYTES,
    SILENT,
    TICK_COLUMNS,
    TICK_NS,
    TICKS,
    UNWRITTEN,
)
from lab.target.servers import kind_of
from lab.words.errors import NotHereError

PROJECT = Path(__file__).resolve().parent.parent.parent
ALIAS = "gotcha_lab_inside"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
ROWS_LIMIT_S = 10.0  # docs/method.md: a loop that does not come back for so long after the load is said to be silent
ROWS_POLL_S = 0.02


def unsupported(server: Server) -> str:
    """Why this configuration cannot run at all, or an empty string.  Raises UsageError for a server that there is not."""
    return kind_of(server.kind).unsupported(server)


def command_line(server: Server, app: str, port: int, python: str = sys.executable) -> list[str]:
    """The command that serves ``app`` on 127.0.0.1:``port``."""
    return [python, *kind_of(server.kind).arguments(server, app, port), *server.options]


def http_parser(server: Server) -> str:
    """The HTTP parser in use, for the record."""
    return kind_of(server.kind).parser(server)


@dataclass
class RunningServer:
    """A target's server that answers on ``port``.  ``silent`` maps a worker whose loop did not come back to when the lab gave it up."""

    child: Child
    port: int
    command: tuple[str, ...]
    log_path: Path
    observe_dir: Path
    silent: dict[int, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        """The same with everything that belongs to an address."""
        return Address(self.url)

    def roots(self) -> list[int]:
        """The process at the root of its tree."""
        return [self.child.pid]

    def problem(self) -> str:
        """How it ended, or an empty string."""
        return "" if self.child.poll() is None else f"the server died: {self.child.log_tail(5)}"

    def settle(self, seconds: float) -> None:
        """See ``wait_for_quiet``."""
        wait_for_quiet(seconds, self)

    def wait_for_rows(self, until_ns: int) -> None:
        """See ``wait_for_rows``."""
        wait_for_rows(self, until_ns)

    def stop(self) -> list[bytes]:
        """Stop it, and take the rows of its workers."""
        self.child.stop(STOP_TIMEOUT_S)
        return read_and_remove_rows(self)

    def worker_pids(self) -> tuple[int, ...]:
        """Pids of the workers that have come up and live, oldest first: the wrapper wrote their first row, or the disk took none."""
        began = {path: _first_start_ns(path) for path in _row_files(self.observe_dir)}
        up = sorted((at_ns, int(path.stem)) for path, at_ns in began.items() if at_ns or path.suffix == LOST)
        return tuple(pid for _, pid in up if _lives(pid))


def _row_files(observe_dir: Path) -> list[Path]:
    return sorted(path for path in observe_dir.glob("*") if path.suffix in (".rows", LOST))


def _lives(pid: int) -> bool:
    """Whether a process is there and not merely unburied."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _whole_rows(path: Path) -> bytes:
    """A killed worker may have written part of its last row; a file may be renamed between the look and the reading."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: len(data) - len(data) % SERVER_ROW_BYTES]


def _first_start_ns(path: Path) -> int:
    """When the worker came up; 0 where its first row is not there yet."""
    return _row(_whole_rows(path)[:SERVER_ROW_BYTES]).get("start_ns", 0)


def _row(data: bytes) -> dict[str, int]:
    return dict(zip(SERVER_COLUMNS, array("q", data), strict=False))


def start_server(
    guard: Guard, server: Server, target: str | App, folder: Path, env: Mapping[str, str], *,
    python: str = sys.executable, observe: bool = True, name: str = "server", port: int = 0,
) -> RunningServer:  # fmt: skip
    """Start ``target`` (an App, or the module of one of ours) and wait until every worker is up and the port answers.

    ``port`` 0 takes a free one.  Logs go to ``folder/server.log``.  Raises ServerError with the log's tail where it dies, hangs or never listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    observe_dir = folder / "observe"
    observe_dir.mkdir(exist_ok=True)
    problem = unsupported(server)
    if problem:
        raise NotHereError(f"{server.kind}: {problem}", "Choose another server configuration.")
    with PortReservation(port) as reservation:
        app = target if isinstance(target, App) else App(target)
        served = f"{_wrapper(app)}.asgi:app" if observe else app.module
        command = command_line(server, served, reservation.port, python)
        full_env = {
            **os.environ, **env, "PYTHONPATH": _import_path(app, folder), "PYTHONUNBUFFERED": "1", "LAB_TARGET": app.module,
            "LAB_TARGET_FACTORY": "1" if app.factory else "", "LAB_OBSERVE_DIR": str(observe_dir),
        }  # fmt: skip
        log_path = folder / f"{name}.log"
        child = guard.spawn(command, env=full_env, cwd=Path(app.folder or PROJECT), log_path=log_path, name=name)
        running = RunningServer(child, reservation.port, tuple(command), log_path, observe_dir)
        try:
            wait_until(lambda: is_listening(running.port), START_TIMEOUT_S, child, f"{server.kind} to listen")
            if observe:
                wait_until(
                    lambda: len(running.worker_pids()) >= server.workers, START_TIMEOUT_S, child,
                    f"{server.workers} workers of {server.kind} to start",
                )  # fmt: skip
        except BaseException:
            child.stop(STOP_TIMEOUT_S)
            raise
    return running


def _wrapper(app: App) -> str:
    """The wrapper's package: under another name beside an application of the user's, which sees nothing else of the lab."""
    return ALIAS if app.folder else "lab.target.inside"


def _import_path(app: App, folder: Path) -> str:
    """Where modules are looked for."""
    if not app.folder:
        return str(PROJECT)
    alone = folder / "inside"
    alone.mkdir(exist_ok=True)
    link = alone / ALIAS
    if not link.is_symlink():
        link.symlink_to(PROJECT / "lab" / "target" / "inside")
    return os.pathsep.join(filter(None, (app.folder, str(alone), os.environ.get("PYTHONPATH", ""))))


@contextmanager
def serving(
    guard: Guard, server: Server, target: str | App, folder: Path, env: Mapping[str, str], *,
    python: str = sys.executable, observe: bool = True,
) -> Iterator[RunningServer]:  # fmt: skip
    """``start_server``, stopped at the end however the block ends.  The observations' folder is the caller's to read and remove."""
    running = start_server(guard, server, target, folder, env, python=python, observe=observe)
    try:
        yield running
    finally:
        running.child.stop(STOP_TIMEOUT_S)


def wait_for_rows(running: RunningServer, until_ns: int, limit_s: float = ROWS_LIMIT_S) -> tuple[int, ...]:
    """Wait until the rows of every live worker reach ``until_ns`` (CLOCK_MONOTONIC): a row tells of the time before it.

    Gives the workers whose loop has not come back within ``limit_s``; their rows will say so.  To be called when the load has ended and
    before anything else is asked of the server.
    """
    deadline = time.monotonic() + limit_s
    while True:
        late = [pid for pid in running.worker_pids() if _covered_ns(running.observe_dir, pid) < until_ns]
        if not late or time.monotonic() >= deadline:
            break
        time.sleep(ROWS_POLL_S)
    running.silent |= dict.fromkeys(late, time.monotonic_ns())
    return tuple(late)


def _covered_ns(observe_dir: Path, pid: int) -> int:
    """Until when a worker's rows tell; forever where they cannot be written, for nobody need wait for them."""
    path = observe_dir / f"{pid}.rows"
    rows = _whole_rows(path)
    if not path.exists():
        return sys.maxsize
    return _row(rows[-SERVER_ROW_BYTES:]).get("t_ns", 0)


def read_and_remove_rows(running: RunningServer) -> list[bytes]:
    """The raw rows of every worker, whole rows only; a last row is added where a worker could not write, or its loop did not come back."""
    rows = [
        _closed(path, _whole_rows(path), running.silent.get(int(path.stem), 0))
        for path in _row_files(running.observe_dir)
    ]
    shutil.rmtree(running.observe_dir, ignore_errors=True)
    return rows


def _closed(path: Path, rows: bytes, given_up_ns: int) -> bytes:
    """The rows, and what the lab knows of the time after the last one."""
    last = _row(rows[-SERVER_ROW_BYTES:]) or dict.fromkeys(SERVER_COLUMNS, 0)
    since_ns = last["t_ns"]
    if path.suffix == LOST:
        known = {"ending": UNWRITTEN}
    elif rows and last["ending"] == GOES_ON and given_up_ns - since_ns > ROW_NS:
        # A healthy loop would have written within ROW_NS: the ticks up to then are given to it, the one after them never came.
        ticks = [TICK_NS] * (TICKS - 1) + [given_up_ns - since_ns - (TICKS - 1) * TICK_NS]
        known = {"ending": SILENT, "t_ns": given_up_ns, "loop_lag_max_ns": ticks[-1] - TICK_NS}
        known |= zip(TICK_COLUMNS, ticks, strict=True)
    else:
        return rows
    unknown = dict.fromkeys(("threads_borrowed", "pool_checked_out", "pool_waiting"), NOT_WATCHED)
    level = {"in_flight": last["requests"] - last["answered"]}
    row = last | dict.fromkeys((*TICK_COLUMNS, "loop_lag_max_ns"), 0) | unknown | level
    row |= {"pid": int(path.stem), "start_ns": since_ns} | known
    return rows + array("q", [row[name] for name in SERVER_COLUMNS]).tobytes()


def wait_for_quiet(seconds: float, running: RunningServer) -> None:
    """Let the server's own background work of a start settle, at most ``seconds``: until its CPU use drops below 5 % of a core."""
    process = psutil.Process(running.child.pid)
    deadline = time.monotonic() + seconds
    tree = [process, *process.children(recursive=True)]
    before = sum(sum(one.cpu_times()[:2]) for one in tree if one.is_running())
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = sum(sum(one.cpu_times()[:2]) for one in tree if one.is_running())
        if now - before < 0.0025:
            return
        before = now
