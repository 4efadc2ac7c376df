"""The command line of each server, and a target's server from start to stop."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab.errors import ServerError
from lab.model import Server
from lab.processes import Child, Guard, PortReservation, is_listening, wait_until
from lab.record import SERVER_ROW_BYTES

PROJECT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
KEEP_ALIVE_S = 75  # the defaults (uvicorn 5 s, gunicorn 2 s) would make a thinking user pay for reconnects


def unsupported(server: Server) -> str:
    """Why this configuration cannot run at all, or an empty string."""
    if server.kind == "granian" and server.http != "httptools":
        return "granian has its own HTTP parser in Rust: http cannot be chosen"
    if server.kind == "gunicorn-uvicorn" and (server.loop, server.http) not in (
        ("uvloop", "httptools"), ("asyncio", "h11"),
    ):  # fmt: skip
        return "uvicorn-worker has two worker classes: uvloop with httptools, and asyncio with h11"
    if server.kind == "gunicorn" and server.http != "httptools":
        return "gunicorn's asgi worker has its own HTTP parser: http cannot be chosen"
    return ""


def command_line(server: Server, app: str, port: int, python: str = sys.executable) -> list[str]:
    """The command that serves ``app`` on 127.0.0.1:``port``: no access log, no proxy headers (both change what is measured)."""
    where, workers = f"127.0.0.1:{port}", str(server.workers)
    match server.kind:
        case "uvicorn":
            command = [
                "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), "--workers", workers,
                "--loop", server.loop, "--http", server.http, "--no-access-log", "--no-proxy-headers",
                "--log-level", "warning", "--timeout-keep-alive", str(KEEP_ALIVE_S),
            ]  # fmt: skip
        case "gunicorn":
            command = [
                "-m", "gunicorn", app, "-k", "asgi", "-b", where, "-w", workers, "--asgi-loop", server.loop,
                "--no-control-socket", "--log-level", "warning", "--keep-alive", str(KEEP_ALIVE_S),
            ]  # fmt: skip
        case "gunicorn-uvicorn":
            worker = "UvicornWorker" if server.loop == "uvloop" else "UvicornH11Worker"
            command = [
                "-m", "gunicorn", app, "-k", f"uvicorn_worker.{worker}", "-b", where, "-w", workers,
                "--no-control-socket", "--log-level", "warning", "--keep-alive", str(KEEP_ALIVE_S),
                "--forwarded-allow-ips", "",
            ]  # fmt: skip
        case "granian":
            command = [
                "-m", "granian", app, "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port),
                "--workers", workers, "--loop", server.loop, "--no-access-log", "--log-level", "warning",
            ]  # fmt: skip
    return [python, *command, *server.options]


def http_parser(server: Server) -> str:
    """The HTTP parser in use, for the record."""
    return {"gunicorn": "gunicorn", "granian": "hyper"}.get(server.kind, server.http)


@dataclass
class RunningServer:
    """A target's server that answers on ``port``."""

    child: Child
    port: int
    command: tuple[str, ...]
    log_path: Path
    observe_dir: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def worker_pids(self) -> tuple[int, ...]:
        """Pids of the workers that have come up, oldest row file first: the wrapper wrote their first row."""
        files = sorted(self.observe_dir.glob("*.rows"), key=lambda path: path.stat().st_ctime_ns)
        return tuple(int(path.stem) for path in files if psutil.pid_exists(int(path.stem)))


def start_server(
    guard: Guard, server: Server, target: str, folder: Path, env: Mapping[str, str], *,
    python: str = sys.executable, observe: bool = True, name: str = "server", port: int = 0,
) -> RunningServer:  # fmt: skip
    """Start ``target`` (``targets.topic.gotcha.variant:app``) and wait until every worker is up and the port answers.

    ``port`` 0 takes a free one.  Logs go to ``folder/server.log``.  Raises ServerError with the log's tail where it dies, hangs or never listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    observe_dir = folder / "observe"
    observe_dir.mkdir(exist_ok=True)
    problem = unsupported(server)
    if problem:
        raise ServerError(f"{server.kind}: {problem}", "Choose another server configuration.")
    with PortReservation(port) as reservation:
        app = "lab.asgi:app" if observe else target
        command = command_line(server, app, reservation.port, python)
        full_env = {
            **os.environ, **env, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1",
            "LAB_TARGET": target, "LAB_OBSERVE_DIR": str(observe_dir),
        }  # fmt: skip
        log_path = folder / f"{name}.log"
        child = guard.spawn(command, env=full_env, cwd=PROJECT, log_path=log_path, name=name)
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


@contextmanager
def serving(
    guard: Guard, server: Server, target: str, folder: Path, env: Mapping[str, str], *,
    python: str = sys.executable, observe: bool = True,
) -> Iterator[RunningServer]:  # fmt: skip
    """``start_server``, stopped at the end however the block ends.  The observations' folder is the caller's to read and remove."""
    running = start_server(guard, server, target, folder, env, python=python, observe=observe)
    try:
        yield running
    finally:
        running.child.stop(STOP_TIMEOUT_S)


def read_and_remove_rows(running: RunningServer) -> list[bytes]:
    """The raw rows of every worker, whole rows only (a killed worker may have written part of one)."""
    rows = [path.read_bytes() for path in sorted(running.observe_dir.glob("*.rows"))]
    shutil.rmtree(running.observe_dir, ignore_errors=True)
    return [data[: len(data) - len(data) % SERVER_ROW_BYTES] for data in rows]


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
