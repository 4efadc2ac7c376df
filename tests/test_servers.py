"""Every server really started, and rude little servers that never listen, die at start or will not go."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from lab import servers
from lab.errors import ServerError
from lab.model import LoopKind, Server, ServerKind
from lab.probes import send
from lab.processes import Guard, PortReservation
from lab.record import SERVER_ROW_BYTES
from lab.servers import command_line, read_and_remove_rows, serving, start_server, unsupported

APP = "lab.selftest.apps:work"


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as held:
        yield held


@pytest.mark.parametrize("kind", get_args(ServerKind))
@pytest.mark.parametrize("loop", get_args(LoopKind))
def test_no_access_log_and_no_proxy_headers_in_any_command(kind: ServerKind, loop: LoopKind) -> None:
    http = "h11" if kind == "gunicorn-uvicorn" and loop == "asyncio" else "httptools"
    server = Server(kind, 2, loop, http)  # type: ignore[arg-type]
    assert unsupported(server) == ""
    command = command_line(server, APP, 1234)
    assert "1234" in " ".join(command)
    if kind == "uvicorn":
        assert {"--no-access-log", "--no-proxy-headers"} <= set(command)
        assert command[command.index("--loop") + 1] == loop
    if kind.startswith("gunicorn"):
        assert "--no-control-socket" in command
        assert "--access-logfile" not in command


def test_a_configuration_that_cannot_run_says_why() -> None:
    assert "worker classes" in unsupported(Server("gunicorn-uvicorn", 1, "uvloop", "h11"))
    assert "parser" in unsupported(Server("granian", 1, "uvloop", "h11"))


@pytest.mark.services
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", get_args(ServerKind))
def test_every_server_starts_answers_and_names_its_workers(
    guard: Guard, tmp_path: Path, kind: ServerKind, workers: int
) -> None:
    with serving(guard, Server(kind, workers), APP, tmp_path, {}) as running:
        pids = running.worker_pids()
        assert len(pids) == workers
        answer = send(running.url, "GET", "/")
        assert (answer.status, answer.body) == (200, b'{"ok":true}')
        seen = running
    assert seen.child.poll() is not None
    rows = read_and_remove_rows(seen)
    assert len(rows) == workers and all(len(data) % SERVER_ROW_BYTES == 0 and data for data in rows)


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
