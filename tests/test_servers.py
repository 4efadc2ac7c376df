"""Every server really started, and rude little servers that never listen, die at start or will not go."""

import os
import subprocess
import sys
import time
import urllib.request
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lab.model import Server
from lab.observe.probes import send
from lab.ports import PortReservation
from lab.processes import Guard
from lab.target import running as servers
from lab.target.inside.rows import (
    GOES_ON,
    ROW_NS,
    SERVER_COLUMNS,
    SERVER_ROW_BYTES,
    SHUT_DOWN,
    SILENT,
    TICK_COLUMNS,
    TICK_NS,
    UNWRITTEN,
)
from lab.target.running import (
    RunningServer,
    command_line,
    read_and_remove_rows,
    serving,
    start_server,
    unsupported,
    wait_for_rows,
)
from lab.target.servers import kind_of, kinds
from lab.words.errors import ServerError, UsageError

APP = "lab.selftest.apps:work"


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as held:
        yield held


CONFIGURED = [Server(kind.name, 2, loop, kind.default_parser(loop)) for kind in kinds().values() for loop in kind.loops]


@pytest.mark.parametrize("server", CONFIGURED, ids=lambda one: one.named)
def test_no_access_log_and_no_proxy_headers_in_any_command(server: Server) -> None:
    assert unsupported(server) == ""
    kind, loop = server.kind, server.loop
    command = command_line(server, APP, 1234)
    assert "1234" in " ".join(command)
    if kind == "uvicorn":
        assert {"--no-access-log", "--no-proxy-headers"} <= set(command)
        assert command[command.index("--loop") + 1].partition(":")[0] == loop
    if kind.startswith("gunicorn"):
        assert "--no-control-socket" in command
        assert "--access-logfile" not in command


def test_a_configuration_that_cannot_run_says_why() -> None:
    assert "worker classes" in unsupported(Server("gunicorn-uvicorn", 1, "uvloop", "h11"))
    assert "parser" in unsupported(Server("granian", 1, "uvloop", "h11"))
    assert "not on zuvloop" in unsupported(Server("hypercorn", 1, "zuvloop"))
    with pytest.raises(UsageError, match="there is no server 'waitress'"):
        unsupported(Server("waitress"))


def test_what_a_configuration_needs_is_known_before_it_starts() -> None:
    assert kind_of("uvicorn").requirements(Server("uvicorn", 1, "rloop", "zttp")) == ("uvicorn", "rloop", "zttp")
    assert kind_of("granian").requirements(Server("granian", 1, "asyncio")) == ("granian",)


def test_a_name_says_what_is_not_the_default() -> None:
    assert Server().named == "uvicorn"
    assert Server("uvicorn", 2, "asyncio", "h11").named == "uvicorn asyncio h11"
    assert len({one.named for one in CONFIGURED}) == len(CONFIGURED)


@pytest.mark.services
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", kinds())
def test_every_server_starts_answers_and_names_its_workers(
    guard: Guard, tmp_path: Path, kind: str, workers: int
) -> None:
    with serving(guard, Server(kind, workers), APP, tmp_path, {}) as running:
        pids = running.worker_pids()
        assert len(pids) == workers
        answer = send(running.url, "GET", "/")  # the lab's own
        assert (answer.status, answer.body) == (200, b'{"ok":true}')
        for _ in range(2):
            with urllib.request.urlopen(f"{running.url}/", timeout=30) as response:
                assert response.read() == b'{"ok":true}' and int(response.headers["x-lab-pid"]) in pids
        asked_ns = time.monotonic_ns()
        assert wait_for_rows(running, asked_ns, 60) == ()
        seen = running
    assert seen.child.poll() is not None
    of_worker = [matrix(data) for data in read_and_remove_rows(seen)]
    assert sorted(int(rows["pid"][0]) for rows in of_worker) == sorted(pids)
    # The group gets the signal, as under systemd: hypercorn's workers leave it to their master, and end without a farewell.
    last = GOES_ON if kind == "hypercorn" else SHUT_DOWN
    for rows in of_worker:
        assert (rows["start_ns"][1:] == rows["t_ns"][:-1]).all() and rows["t_ns"][-1] >= asked_ns
        assert (np.sum([rows[name] for name in TICK_COLUMNS], axis=0) == rows["t_ns"] - rows["start_ns"]).all()
        assert rows["ending"].tolist() == [GOES_ON] * (len(rows["ending"]) - 1) + [last]
    totals = {name: sum(int(rows[name][-1]) for rows in of_worker) for name in ("requests", "answered", "own")}
    assert totals == {"requests": 2, "answered": 2, "own": 1}


@pytest.mark.services
def test_workers_of_a_preloaded_app_are_named_by_their_own_pids(guard: Guard, tmp_path: Path) -> None:
    server = Server("gunicorn", 2, options=("--preload",))
    with serving(guard, server, APP, tmp_path, {}) as running:
        pids = running.worker_pids()
        assert len(pids) == 2 and running.child.pid not in pids
        named = set()
        for _ in range(20):
            with urllib.request.urlopen(f"{running.url}/", timeout=30) as answer:
                named.add(int(answer.headers["x-lab-pid"]))
        assert named <= set(pids)


def matrix(data: bytes) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Raw rows, by column."""
    rows = np.frombuffer(data, dtype=np.int64).reshape(-1, len(SERVER_COLUMNS))
    return {name: rows[:, at] for at, name in enumerate(SERVER_COLUMNS)}


def row(**columns: int) -> bytes:
    """One raw row."""
    return array("q", [columns.get(name, 0) for name in SERVER_COLUMNS]).tobytes()


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes that live until the test ends them."""
    found = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    yield found
    for process in found:
        process.kill()
        process.communicate()


def of_files(folder: Path) -> RunningServer:
    """A server of which only the wrapper's files are looked at."""
    return RunningServer(None, 0, (), folder / "log", folder)  # type: ignore[arg-type]


def test_workers_are_those_that_have_come_up_and_live_oldest_first(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    first, second = (process.pid for process in sleepers)
    running = of_files(tmp_path)
    (tmp_path / f"{second}.rows").write_bytes(b"")
    assert running.worker_pids() == ()  # opened, and not up yet
    (tmp_path / f"{second}.rows").write_bytes(row(start_ns=2000, t_ns=2000))
    (tmp_path / f"{first}.rows").write_bytes(row(start_ns=1000, t_ns=1000))
    assert running.worker_pids() == (first, second)
    with (tmp_path / f"{first}.rows").open("ab") as file:  # the first is written to last, and is still the oldest
        file.write(row(start_ns=1000, t_ns=3000))
    assert running.worker_pids() == (first, second)
    (tmp_path / f"{second}.rows").rename(tmp_path / f"{second}.lost")
    assert running.worker_pids() == (first, second)
    sleepers[0].kill()
    while psutil.Process(first).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert running.worker_pids() == (second,)  # dead, though nobody has buried it


def test_the_lab_waits_until_every_live_workers_rows_reach_the_loads_end(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (process.pid for process in sleepers)
    for pid in (first, second):
        (tmp_path / f"{pid}.rows").write_bytes(row(start_ns=1000, t_ns=1000))
    (tmp_path / "1.rows").write_bytes(row(start_ns=1000, t_ns=9000))
    polls = []

    def later(seconds: float) -> None:
        """What the workers write while the lab waits: first one, with a part of its next row, then the other."""
        polls.append(seconds)
        pid = (first, second)[len(polls) - 1]
        with (tmp_path / f"{pid}.rows").open("ab") as file:
            file.write(row(start_ns=1000, t_ns=5000) + b"part")

    monkeypatch.setattr(time, "sleep", later)
    running = of_files(tmp_path)
    assert wait_for_rows(running, 5000, 600) == ()
    assert len(polls) == 2 and running.silent == {}


def test_a_worker_whose_loop_did_not_come_back_gets_a_row_that_says_how_long(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    pid = sleepers[0].pid
    came_back, now = sleepers[1].pid, time.monotonic_ns()
    last_ns = now - 3_000_000_000
    for one in (pid, came_back):
        data = row(
            start_ns=last_ns - 100,
            t_ns=last_ns,
            pid=one,
            requests=9,
            answered=4,
            in_flight=8,
            threads_borrowed=3,
            tick_00_ns=100,
        )
        (tmp_path / f"{one}.rows").write_bytes(data + b"half a row")
    running = of_files(tmp_path)
    assert set(wait_for_rows(running, now, 0)) == {pid, came_back}
    given_up_ns = running.silent[pid]
    data = row(start_ns=last_ns, t_ns=given_up_ns + 50, pid=came_back)
    with (tmp_path / f"{came_back}.rows").open("r+b") as file:
        file.truncate(SERVER_ROW_BYTES)
        file.seek(0, os.SEEK_END)
        file.write(data)
    rows = {int(one["pid"][0]): one for one in map(matrix, read_and_remove_rows(running))}
    assert not tmp_path.exists()
    assert rows[came_back]["ending"].tolist() == [GOES_ON, GOES_ON]  # after all; its own row tells of the block
    silent = {name: int(column[1]) for name, column in rows[pid].items()}
    assert (silent["start_ns"], silent["t_ns"], silent["ending"]) == (last_ns, given_up_ns, SILENT)
    assert sum(silent[name] for name in TICK_COLUMNS) == given_up_ns - last_ns
    # A healthy loop writes within ROW_NS: only what is beyond that is known to be a block.
    assert silent["loop_lag_max_ns"] == given_up_ns - last_ns - ROW_NS == silent[TICK_COLUMNS[-1]] - TICK_NS
    assert (silent["requests"], silent["answered"], silent["in_flight"], silent["threads_borrowed"]) == (9, 4, 5, -1)


def test_rows_that_could_not_be_written_end_with_one_that_says_so_and_nobody_waits_for_them(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    pid = sleepers[0].pid
    (tmp_path / f"{pid}.lost").write_bytes(row(start_ns=1, t_ns=50, pid=pid, requests=9) + b"part")
    (tmp_path / "2.lost").write_bytes(b"")
    running = of_files(tmp_path)
    assert wait_for_rows(running, time.monotonic_ns(), 600) == ()
    rows = {int(one["pid"][-1]): one for one in map(matrix, read_and_remove_rows(running))}
    assert rows[pid]["ending"].tolist() == [GOES_ON, UNWRITTEN]
    assert rows[pid]["start_ns"].tolist() == [1, 50] and rows[pid]["requests"].tolist() == [9, 9]
    assert rows[2]["ending"].tolist() == [UNWRITTEN]


RUDE = {
    "never_listens": "import time\ntime.sleep(60)\n",
    "dies_at_start": "raise SystemExit('no database')\n",
    "breaks_at_start": "raise RuntimeError('typo in the settings')\n",
}


@pytest.mark.services
@pytest.mark.parametrize(
    ("name", "expected"), [("dies_at_start", "no database"), ("breaks_at_start", "typo in the settings")]
)
def test_a_target_that_dies_at_start_is_an_error_with_its_last_words(
    guard: Guard, tmp_path: Path, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "code"
    package.mkdir()
    (package / f"rude_{name}.py").write_text(RUDE[name])
    monkeypatch.setattr(servers, "PROJECT", servers.PROJECT)
    env = {"PYTHONPATH": str(package)}
    monkeypatch.setattr(
        servers, "command_line", lambda server, app, port, python: [python, str(package / f"rude_{name}.py")]
    )
    with pytest.raises(ServerError, match=expected):
        start_server(guard, Server(), f"rude_{name}:app", tmp_path / "work", env)


@pytest.mark.services
def test_a_target_that_never_listens_is_given_up_and_stopped(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "rude.py"
    script.write_text(RUDE["never_listens"])
    monkeypatch.setattr(servers, "START_TIMEOUT_S", 1.0)
    monkeypatch.setattr(servers, "command_line", lambda server, app, port, python: [python, str(script)])
    with pytest.raises(ServerError, match="waited"):
        start_server(guard, Server(), "rude:app", tmp_path / "work", {})
    assert guard.child_pids() == []


@pytest.mark.services
def test_a_port_that_is_taken_is_named(guard: Guard, tmp_path: Path) -> None:
    with (
        serving(guard, Server(), APP, tmp_path / "first", {}) as running,
        pytest.raises(ServerError, match=f"port {running.port} is taken"),
    ):
        start_server(guard, Server(), APP, tmp_path / "second", {}, port=running.port)
    with PortReservation() as reservation:
        assert reservation.port > 0
