"""A user's own PostgreSQL and Redis: left as they were, refused where somebody's data is, and their work never taken for the target's."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis as Client

from lab.model import (
    Explained,
)
from lab.services import postgres_session
from lab.services.postgres import Postgres
from lab.services.supervisor import Services
from lab.words.errors import LabError, ServiceError
from tests.small_trials import ITEMS, admin_of, perform, run_plan, small_plan, ten_requests

ROOT = Path(__file__).resolve().parent.parent
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make what belongs to somebody else")
NOBODY = 65534

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


@pytest.fixture
def their_url(theirs: Services, monkeypatch: pytest.MonkeyPatch) -> str:
    """Their PostgreSQL, which the lab is told to use."""
    assert theirs.postgres is not None
    monkeypatch.setenv("LAB_POSTGRES_URL", theirs.postgres._url)
    return theirs.postgres._url


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
def test_a_postgresql_of_somebodys_is_left_as_it_was(their_url: str, tmp_path: Path) -> None:
    url, before = their_url, state_of(their_url)
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
    their_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    their_url: str, tmp_path: Path
) -> None:
    url, before = their_url, state_of(their_url)
    killed = Postgres(url, "LAB_POSTGRES_URL")
    killed.prepare()
    killed.fresh_copy(None)
    killed._admin.close()  # as kill -9 does
    with Services({"postgres"}, log_folder=tmp_path) as up:
        assert up.postgres is not None and up.postgres._mark != killed._mark
    assert state_of(url) == before
    alike = (("gotcha_lab_deadbeef", "gotcha_lab_notes"), ("gotcha_lab_notes", "gotcha_lab_0badcafe"))
    with psycopg.connect(url, autocommit=True) as admin:
        for role, database in alike:
            admin.execute(f"CREATE ROLE {role}".encode())
            admin.execute(f"CREATE DATABASE {database} OWNER {role}".encode())
        with pytest.raises(ServiceError, match=r"gotcha_lab_0badcafe.*gotcha_lab_notes"):
            Services({"postgres"}, log_folder=tmp_path).__enter__()
        for role, database in alike:
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
