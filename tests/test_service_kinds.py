"""Services by their files: what each needs, what is skipped where a program is missing, and PgBouncer for real."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import kombu
import psutil
import pytest

from lab.model import ClosedLoad, Condition
from lab.services import pgbouncer
from lab.services.kind import Counting, Running, ServiceKind, Start, kind_of, kinds, with_needed
from lab.services.supervisor import Services
from lab.store import RunFolder
from lab.words.errors import NotHereError, UsageError
from tests.small_trials import ITEMS, perform, run_plan, small_plan

POOLED = Condition(
    "pooled", ClosedLoad(8, requests=80), duration_s=5.0, user="Reader", services=("pgbouncer",), setup_sql=ITEMS,
    env={"STATEMENT_CACHE_SIZE": "0"},
)  # fmt: skip


class Fake:
    """A service that lives in this process."""

    version, source = "fake 1", "test"

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.dead = name, log, False
        log.append(f"start {name}")

    def pids(self) -> list[int]:
        return []

    def problem(self) -> str:
        return "it died" if self.dead else ""

    def address(self, database: str, lane: int | None) -> str:
        return f"fake://{self.name}/{database}"

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three services: ``front`` stands before ``base``, ``absent`` is not on this machine."""
    log: list[str] = []

    def absent(start: Start) -> Running:
        raise NotHereError("absent is not on the PATH", "Install it.")

    def front(start: Start) -> Running:
        assert "base" in start.up
        return Fake("front", log)

    found: Mapping[str, ServiceKind] = {
        "base": ServiceKind("base", lambda start: Fake("base", log), variable="BASE_URL"),
        "front": ServiceKind("front", front, variable="BASE_URL", needs=("base",), between=True),
        "absent": ServiceKind("absent", absent, needs=("base",)),
    }
    monkeypatch.setattr("lab.services.kind.kinds", lambda: found)
    return log


def test_celery_brings_a_broker_and_takes_the_one_that_is_named() -> None:
    assert with_needed(["celery"]) == ("redis", "celery")
    assert with_needed(["celery", "rabbitmq"])[-1] == "rabbitmq" and "redis" not in with_needed(["celery", "rabbitmq"])
    assert with_needed(["pgbouncer"]) == ("postgres", "pgbouncer")
    with pytest.raises(UsageError, match="there is no service 'mysql'"):
        kind_of("mysql")


def test_every_service_that_a_target_is_told_of_has_a_variable() -> None:
    assert {name for name, kind in kinds().items() if kind.start and not kind.variable} == set()


def test_what_is_missing_is_skipped_with_its_reason_and_the_rest_runs(log: list[str], tmp_path: Path) -> None:
    with Services({"front", "absent"}, log_folder=tmp_path) as services:
        assert sorted(services.up) == ["base", "front"]
        services.require(["front"])
        with pytest.raises(NotHereError, match="not on the PATH"):
            services.require(["absent"])
        assert services.versions == {"base": "fake 1 (test)", "front": "fake 1 (test)"}
    assert log == ["start base", "start front", "stop front", "stop base"]


def test_what_stands_before_a_service_that_died_is_started_again_with_it(log: list[str], tmp_path: Path) -> None:
    with Services({"front"}, log_folder=tmp_path) as services:
        cast(Any, services.up["base"]).dead = True
        assert services.problem(["front"]) == "it died"
        services.revive()
        assert services.problem(["front"]) == ""
        assert log[2:] == ["stop front", "stop base", "start base", "start front"]


def test_a_condition_whose_service_is_not_here_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    gotcha = replace(small_plan("pooled", replace(POOLED, setup_sql="")), services=())
    with Services({"pgbouncer"}, log_folder=tmp_path) as services:
        (record,) = perform(run_plan(gotcha), tmp_path / "run", services)
    assert record.status == "skipped" and "Debian's package is called pgbouncer" in record.reason


@pytest.mark.services
@pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="pgbouncer is not on the PATH: install the package pgbouncer"
)
def test_pgbouncer_stands_between_the_target_and_postgresql(tmp_path: Path, small_app: None) -> None:
    gotcha = replace(small_plan("pooled", POOLED), services=("postgres",))
    with Services({"postgres", "pgbouncer"}, log_folder=tmp_path) as services:
        told = services.up["pgbouncer"].address("d", None)
        own = services.up["postgres"].address("d", None)
        assert told != own and told.split("@")[0] == own.split("@")[0]
        (record,) = perform(run_plan(gotcha), tmp_path / "run", services)
    assert record.status == "ok", record.reason
    assert set(record.versions) == {"postgres", "pgbouncer"} and "PgBouncer" in record.versions["pgbouncer"]
    counted = record.services["pgbouncer"]
    assert counted["queries"] >= 80 and 1 <= counted["server_connections"] <= pgbouncer.POOL_SIZE
    assert record.processes["pgbouncer"].cpu_ns > 0, "its CPU is its own"
    assert sum(one.calls for one in record.statements if "items" in one.query) >= 80
    assert RunFolder(tmp_path / "run").plan.gotchas[0].conditions[0].services == ("pgbouncer",)


@pytest.mark.services
@pytest.mark.skipif(
    shutil.which("rabbitmq-server") is None, reason="rabbitmq-server is not on the PATH: install that package"
)
def test_rabbitmq_keeps_what_it_was_given_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Services({"celery", "rabbitmq"}, log_folder=tmp_path) as services:
        assert set(services.up) == {"rabbitmq"}, "Celery has its broker: no Redis is started"
        broker = services.up["rabbitmq"]
        assert broker.problem() == "" and "RabbitMQ" in services.versions["rabbitmq"]
        with kombu.Connection(broker.address("", None)) as connection:
            queue = connection.SimpleQueue("jobs")
            for number in range(3):
                queue.put({"number": number})
            queue.close()
        assert isinstance(broker, Counting)
        assert broker.readings() == {"messages_left": 3.0, "queues": 1.0}
        with pytest.raises(NotHereError, match="share RabbitMQ's queues"):
            broker.address("", 1)
        pids = broker.pids()
        psutil.Process(pids[0]).kill()
        psutil.wait_procs([psutil.Process(pids[0])], timeout=60)
        assert "rabbitmq died" in broker.problem()
        services.revive()
        assert services.up["rabbitmq"].problem() == "" and services.up["rabbitmq"].pids() != pids
        left = services.up["rabbitmq"].pids()
    assert not [pid for pid in left if psutil.pid_exists(pid)]
