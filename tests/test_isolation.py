"""Trials fail alone: errors that nobody expected, a full disk, services that die."""

import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.model import (
    Claim,
    ClosedLoad,
    Condition,
    Event,
    Explained,
    FinalRead,
    OpenLoad,
    Probe,
)
from lab.observe.probes import read_pointer, run_probe, send
from lab.redact import keep_secret
from lab.run import arm as arm_module
from lab.run.arm import keep_logs
from lab.run.runner import Live
from lab.services.supervisor import Services
from lab.words.errors import ServerError, StoreError
from lab.words.metrics import Arm
from tests.fakes import gotcha_plan
from tests.small_trials import ITEMS, admin_of, leftovers, perform, run_plan, small_plan, ten_requests

ROOT = Path(__file__).resolve().parent.parent
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make what belongs to somebody else")
NOBODY = 65534

# ---------------------------------------------------------------- trials


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the lab makes its temporary folders; PostgreSQL's account must reach it where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="lab-test-"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_trial_that_breaks_fails_alone_with_its_reason_and_nothing_is_left(tmp_path: Path, temporary: Path) -> None:
    pointer = FinalRead("stock", path="/", pointer="/warehouse/stock")
    plan = run_plan(
        small_plan("pointer", ten_requests(), final_reads=(pointer,)),
        small_plan("boolean", ten_requests(), final_reads=(FinalRead("x", path="/nowhere", pointer="/ok"),)),
        small_plan("late", ten_requests(events=(Event(60.0, "kill", "worker", label="a kill"),))),
        small_plan("nobody", ten_requests(events=(Event(0.0, "kill", "celery_child"),))),
        small_plan("right", ten_requests()),
        small_plan("open", Condition("open", OpenLoad(200.0), duration_s=2.0, user="Reader")),
    )
    with Services((), log_folder=tmp_path / "logs") as services:
        done = perform(plan, tmp_path / "run", services)
        assert leftovers(temporary) == []
        assert services.guard.child_pids() == []
    assert [one.status for one in done] == ["failed"] * 4 + ["ok", "ok"]
    assert "probe_client" in done[5].extra  # the bystander was there: its folder is gone too
    reasons = [one.reason for one in done]
    assert "final read stock: '/warehouse/stock' leads nowhere: no 'warehouse'" in reasons[0]
    assert "final read x: '/ok' holds True, not a number" in reasons[1]
    assert "event a kill was planned 60.0 s after the start and had not happened" in reasons[2]
    assert "there is nobody to signal: celery_child" in reasons[3]


def test_an_error_that_nobody_expected_fails_its_trial_alone(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        KeyError("of a driver"),
        psycopg.OperationalError("the server is gone"),
        OSError(28, "No space left on device"),
    ]

    def probe(*arguments: Any) -> Any:
        if broken:
            raise broken.pop(0)
        return run_probe(*arguments)

    monkeypatch.setattr("lab.run.trial.run_probe", probe)
    plan = run_plan(small_plan("broken", ten_requests()), pairs=4)
    with Services((), log_folder=tmp_path / "logs") as services:
        done = perform(plan, tmp_path / "run", services)
        assert leftovers(temporary) == []
    assert [one.status for one in done] == ["failed", "failed", "failed", "ok"]
    assert [one.reason.partition(":")[0] for one in done[:3]] == ["KeyError", "OperationalError", "OSError"]
    assert all("test_isolation.py:" in one.reason for one in done[:3])


def test_a_disk_that_takes_no_log_keeps_the_trial_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StoreError(f"no space left on the device while writing {path.name}")

    monkeypatch.setattr(arm_module, "write_bytes", full)
    with Services((), log_folder=tmp_path / "logs") as services:
        (record,) = perform(run_plan(small_plan("full", ten_requests())), tmp_path / "run", services)
    assert record.status == "ok"
    assert "server.log was not kept: no space left on the device while writing server.log" in record.extra["notes"]


def test_results_that_cannot_be_written_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, matrix: object) -> None:
        raise StoreError("no space left on the device")

    monkeypatch.setattr(arm_module, "write_samples", full)
    with Services((), log_folder=tmp_path / "logs") as services, pytest.raises(StoreError, match="no space"):
        perform(run_plan(small_plan("full", ten_requests()), pairs=2), tmp_path / "run", services)


def test_logs_are_kept_without_passwords(tmp_path: Path) -> None:
    keep_secret("8S-random-6h")
    (tmp_path / "work" / "load").mkdir(parents=True)
    (tmp_path / "work" / "server.log").write_bytes(b"\xff connecting with 8S-random-6h\n")
    (tmp_path / "work" / "load" / "load.log").write_text("8S-random-6h")
    assert keep_logs(tmp_path / "work", tmp_path / "kept") == []
    assert (tmp_path / "kept" / "server.log").read_bytes() == b"\xff connecting with ***\n"
    assert (tmp_path / "kept" / "load.log").read_text() == "***"


@pytest.mark.services
@pytest.mark.usefixtures("small_app")
def test_no_password_is_in_a_result_a_log_or_an_argument(tmp_path: Path, temporary: Path) -> None:
    plan = run_plan(small_plan("password", ten_requests(setup_sql=ITEMS), services=("postgres", "redis")))
    plan = replace(plan, gotchas=(replace(plan.gotchas[0], probes=(Probe("/address"),)),))
    arguments: list[bytes] = []

    def look(now: Live) -> None:
        arguments.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists())

    with Services({"postgres", "redis"}, log_folder=tmp_path / "run" / "services") as services:
        postgres, redis = admin_of(services), services.redis
        assert redis is not None
        (record,) = perform(plan, tmp_path / "run", services, look)
        secrets = [
            postgres._password,
            postgres._url.split(":")[2].partition("@")[0],
            redis.url.split(":")[2].partition("@")[0],
        ]
    assert record.status == "ok"
    assert ":***@127.0.0.1" in record.probes[0].body
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"server.log", "trial.json", "postgres.log", "redis.log", "load.log"} <= {path.name for path in files}
    assert "connecting to postgresql://" in next(path for path in files if path.name == "server.log").read_text()
    for secret in secrets:
        assert len(secret) > 20
        assert not [path for path in files if secret.encode() in path.read_bytes()]
        assert arguments and not [one for one in arguments if secret.encode() in one]


@pytest.mark.services
@pytest.mark.usefixtures("small_app")
def test_a_postgresql_killed_in_a_trial_fails_that_trial_and_not_the_next(tmp_path: Path, temporary: Path) -> None:
    condition = Condition("two seconds", ClosedLoad(1), duration_s=2.0, user="Reader", setup_sql=ITEMS)
    plan = run_plan(small_plan("killed", condition, services=("postgres",)), pairs=2)
    killed: list[int] = []
    with Services({"postgres"}, log_folder=tmp_path / "run" / "services") as services:

        def kill(now: Live) -> None:
            if now.phase == "load" and not killed:
                killed.extend(admin_of(services).pids())
                os.kill(killed[0], signal.SIGKILL)

        first, second = perform(plan, tmp_path / "run", services, kill)
        assert admin_of(services).pids() != killed
        assert [name.rpartition("-")[0] for name in leftovers(temporary)] == ["gotcha-lab-postgres"]
    assert (first.status, second.status) == ("failed", "ok")
    assert "postgres died (code -9)" in first.reason
    assert "what the target did without it says nothing" in first.reason
    assert (tmp_path / "run" / "services" / "postgres-2.log").exists()
    assert leftovers(temporary) == []


@pytest.mark.services
@pytest.mark.usefixtures("small_app")
def test_rows_read_are_the_loads_alone(tmp_path: Path) -> None:
    claim = Claim(
        "rows",
        "mechanism",
        "ten rows a request",
        Arm("light").rows_read("items"),
        predict=lambda c: 100.0,
        formula="10 n",
        source="test",
    )
    base = gotcha_plan(claim, conditions=(ten_requests(setup_sql=ITEMS),), slug="selftest/rows")
    gotcha = replace(
        base, variants=("light",), services=("postgres",), probes=(Probe("/"), Probe("/")), explained=(Explained("one", {"light": "/"}, 1.0),),
        final_reads=(FinalRead("items", path="/", pointer="/items"), FinalRead("count", sql="SELECT count(*) FROM items"),
                     FinalRead("none", sql="SELECT max(id) FROM items WHERE id > 10")),
    )  # fmt: skip
    with Services({"postgres"}, log_folder=tmp_path / "logs") as services:
        (record,) = perform(run_plan(gotcha), tmp_path / "run", services)
    assert record.status == "ok", record.reason
    assert record.tables == {"items": 100}
    assert {one.query: one.calls for one in record.statements if "items" in one.query} == {
        "SELECT count(*) FROM items": 10
    }
    assert sum(one.rows_visited for one in record.plans) == 10
    assert record.final_reads == {"items": 10.0, "count": 10.0}
    assert "final read none: there is nothing" in record.extra["notes"]


# ---------------------------------------------------------------- services that die


@pytest.mark.services
def test_services_that_died_are_named_and_started_again(tmp_path: Path, temporary: Path) -> None:
    with Services({"postgres", "redis"}, log_folder=tmp_path) as services:
        redis, postgres = services.redis, admin_of(services)
        assert redis is not None
        assert services.problem({"postgres", "redis"}) == ""
        assert services.revive() is False and services.redis is redis
        os.kill(redis.pids()[0], signal.SIGKILL)
        gone(redis.pids()[0])
        assert services.problem({"postgres"}) == ""
        assert "redis died (code -9)" in services.problem({"celery"})
        assert services.revive() is False and services.redis is not redis
        assert services.problem({"redis"}) == ""
        # PostgreSQL ends every connection where one of its processes is killed: its counters and the lab's own connection are lost
        with psycopg.connect(postgres._url) as target:
            os.kill(target.info.backend_pid, signal.SIGKILL)
            gone(target.info.backend_pid)
        assert "cut the lab's own connection" in services.problem({"postgres"})
        assert services.revive() is True
        assert services.problem({"postgres", "redis"}) == ""
        names = sorted(name.rpartition("-")[0] for name in leftovers(temporary))
        assert names == ["gotcha-lab-postgres", "gotcha-lab-redis"]


def gone(pid: int) -> None:
    """Wait until a process has ended; who started it may not have reaped it."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except OSError:
            return
        time.sleep(0.01)


@pytest.mark.services
def test_statements_that_were_forgotten_are_missed(tmp_path: Path) -> None:
    settings = {"pg_stat_statements.max": "100"}
    with Services({"postgres"}, log_folder=tmp_path, postgres_settings=settings) as services:
        postgres = admin_of(services)
        database = postgres.fresh_copy(None)
        postgres.reset_statements(database)
        assert postgres.statements(database) == []
        with psycopg.connect(postgres.url(database), autocommit=True) as target:
            for columns in range(1, 151):
                target.execute(("SELECT " + ", ".join(["1"] * columns)).encode())
        with pytest.raises(ServerError, match="forgot statements"):
            postgres.statements(database)


# ---------------------------------------------------------------- what the lab asks itself


@pytest.mark.parametrize(
    ("body", "pointer", "problem"),
    [
        (b'{"a": {"b": 1}}', "/a/c", "no 'c' in {'b': 1}"),
        (b'{"a": [1]}', "/a/7", "no '7' in [1]"),
        (b'{"a": [1]}', "/a/x", "no 'x' in [1]"),
        (b'{"a": 1}', "/a/b", "no 'b' in 1"),
        (b"null", "/a", "no 'a' in None"),
        (b'{"a": "12"}', "/a", "holds '12', not a number"),
        (b'{"a": true}', "/a", "holds True, not a number"),
        (b"<html>", "/a", "the body is not JSON: b'<html>'"),
        (b"\xff\xfe", "/a", "the body is not JSON"),
    ],
)
def test_a_pointer_that_leads_nowhere_says_where_it_ended(body: bytes, pointer: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_pointer(body, pointer)


def test_a_pointer_finds_its_number() -> None:
    body = b'{"a": [{"b/c": 1.5}, {"~": 2}], "0": 3}'
    assert [read_pointer(body, pointer) for pointer in ("/a/0/b~1c", "/a/1/~0", "/0")] == [1.5, 2.0, 3.0]


def test_a_request_of_the_labs_own_says_so_and_never_raises() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heads: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                heads.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert send(url, "GET", "/items", {"x-key": "7"}).status == 204
        thread.join(10)
        assert b"\r\nx-lab-own: 1\r\n" in heads[0] and b"\r\nx-key: 7\r\n" in heads[0]
        for path in ("/caf\u00e9\u4e16", "/a b", "/a\r\nb"):
            assert send(url, "GET", path).problem
        assert send(url, "GET", "/", {"x-key": "a\nb"}).problem
