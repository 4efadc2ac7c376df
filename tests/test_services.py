"""Real PostgreSQL and Valkey, the proxy and the upstream."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis as Client

from lab.observe.probes import send
from lab.services.proxy import start_proxy
from lab.services.supervisor import Services
from lab.services.upstream import start_upstream
from lab.words.errors import ServerError, ServiceError, UsageError

pytestmark = pytest.mark.services

DATASET = """
CREATE TABLE orders (id bigint PRIMARY KEY, created_at timestamptz NOT NULL);
INSERT INTO orders SELECT i, timestamptz '2026-01-01' + i * interval '1 second' FROM generate_series(1, 5000) AS i;
CREATE INDEX ON orders (created_at, id);
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services({"postgres", "redis"}, log_folder=tmp_path_factory.mktemp("logs")) as up:
        yield up


@pytest.fixture(scope="module")
def template(services: Services, tmp_path_factory: pytest.TempPathFactory) -> str:
    assert services.postgres is not None
    path = tmp_path_factory.mktemp("data") / "dataset.sql"
    path.write_text(DATASET)
    return services.postgres.build_template(path)


def test_versions_and_sources_are_known(services: Services) -> None:
    assert services.versions["postgres"].startswith("PostgreSQL 18")
    assert services.versions["redis"].startswith("valkey")


def test_each_copy_is_its_own(services: Services, template: str) -> None:
    postgres = services.postgres
    assert postgres is not None
    one, two = postgres.fresh_copy(template), postgres.fresh_copy(template)
    postgres.execute(one, "DELETE FROM orders WHERE id <= 1000")
    assert postgres.scalar(one, "SELECT count(*) FROM orders") == 4000
    assert postgres.scalar(two, "SELECT count(*) FROM orders") == 5000
    postgres.drop(one)
    postgres.drop(two)
    with pytest.raises(ServerError):
        postgres.scalar(one, "SELECT 1")


def test_targets_do_not_get_the_superusers_reserved_connections(services: Services, template: str) -> None:
    postgres = services.postgres
    assert postgres is not None
    role = postgres.scalar(
        template, "SELECT current_user || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    assert role.startswith("gotcha_lab_") and role.endswith(" false")


def test_an_offset_visits_offset_plus_limit_rows_exactly(services: Services, template: str) -> None:
    postgres = services.postgres
    assert postgres is not None and postgres.explainer is not None
    explainer = postgres.explainer
    database = postgres.fresh_copy(template)
    with psycopg.connect(postgres.url(database), autocommit=True) as connection:
        connection.execute("SELECT 1")
        explainer.begin()
        connection.execute("SELECT * FROM orders ORDER BY created_at DESC, id DESC LIMIT 50 OFFSET 1234").fetchall()
        (plan,) = explainer.collect()
        assert (plan.rows_visited, plan.rows_returned) == (1284, 50)
        connection.execute("SELECT 1")
        explainer.begin()
        assert explainer.collect() == []
    postgres.drop(database)


def test_statements_count_the_targets_queries_and_not_the_labs(services: Services, template: str) -> None:
    postgres = services.postgres
    assert postgres is not None
    database = postgres.fresh_copy(template)
    postgres.reset_statements(database)
    with psycopg.connect(postgres.url(database), autocommit=True) as connection:
        for _ in range(7):
            connection.execute("SELECT count(*) FROM orders")
        postgres.activity(database)
        found = {one.query: one.calls for one in postgres.statements(database)}
        assert found == {"SELECT count(*) FROM orders": 7}
        assert postgres.activity(database) == {"idle": 1}
    assert postgres.table_rows_read(database)["orders"] >= 7 * 5000
    postgres.drop(database)


def test_a_broken_dataset_is_named_with_postgresqls_message(services: Services, tmp_path: Path) -> None:
    assert services.postgres is not None
    path = tmp_path / "dataset.sql"
    path.write_text("CREATE TABLE orders (id nonsense);")
    with pytest.raises(ServiceError, match="nonsense"):
        services.postgres.build_template(path)


def test_a_full_disk_is_not_the_datasets_fault(services: Services, tmp_path: Path) -> None:
    assert services.postgres is not None
    dataset = tmp_path / "dataset.sql"
    dataset.write_text("DO $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$")
    with pytest.raises(ServiceError, match="No space left") as caught:
        services.postgres.build_template(dataset)
    assert "make room" in caught.value.hint and "Mend" not in caught.value.hint
    with pytest.raises(ServerError) as seen:
        services.postgres.execute("postgres", dataset.read_text())
    assert "make room" in seen.value.hint


def test_redis_counts_commands_without_the_labs_own(services: Services) -> None:
    redis = services.redis
    assert redis is not None
    redis.flush()
    with Client.from_url(redis.url) as target:
        target.ping()
        redis.begin_counting()
        for index in range(5):
            target.set(f"key:{index}", "x")
        target.ping()
        target.info("server")
        target.client_id()
        redis.command("GET", "key:1")
        redis.command("CLIENT", "LIST")
        redis.memory_bytes()
        # PING and INFO are the lab's own commands too: its own are left out by number, the target's stay
        assert redis.commandstats() == {"set": 5, "ping": 1, "info": 1, "client|id": 1}
        assert redis.commandstats() == {"set": 5, "ping": 1, "info": 1, "client|id": 1}
    with pytest.raises(ServerError, match="NOSUCH"):
        redis.command("NOSUCH")


def test_services_need_a_known_mode(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Services({"redis"}, mode="cloud", log_folder=tmp_path)


def test_a_url_that_nobody_answers_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(ServiceError, match="does not answer") as caught, Services({"redis"}, log_folder=tmp_path):
        pass
    assert "LAB_REDIS_URL" in caught.value.hint


def test_a_named_server_is_used_and_left_running(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert services.redis is not None and services.postgres is not None
    monkeypatch.setenv("LAB_REDIS_URL", services.redis.url.replace("/0", "/9"))
    with Services({"redis"}, log_folder=tmp_path) as other:
        assert other.redis is not None
        assert other.redis.source == "LAB_REDIS_URL"
        assert other.redis.pids() == []
    services.redis.command("PING")


def test_the_upstream_answers_after_its_delay_and_counts(services: Services, tmp_path: Path) -> None:
    with start_upstream(services.guard, 0.05, tmp_path) as upstream:
        begin = time.monotonic()
        answer = send(upstream.url, "GET", "/items/7")
        assert answer.body == b'{"item": "7", "price": 4200}'
        assert time.monotonic() - begin >= 0.05
        assert b'"requests": 1' in send(upstream.url, "GET", "/__stats").body


def test_the_proxy_passes_drops_replies_and_refuses(services: Services, tmp_path: Path) -> None:
    with (
        start_upstream(services.guard, 0.0, tmp_path) as upstream,
        start_proxy(services.guard, tmp_path, seed=1, mode="pass") as proxy,
    ):
        proxy.point_at("127.0.0.1", upstream.port)
        assert send(proxy.url, "GET", "/items/1").status == 200
        proxy.set_mode("drop_first_replies:2")
        assert [send(proxy.url, "GET", "/items/2").status for _ in range(3)] == [0, 0, 200]
        # the request had reached the server each time: that is what makes a retry dangerous
        assert b'"requests": 4' in send(upstream.url, "GET", "/__stats").body
        assert proxy.stats()["dropped"] == 2
        proxy.set_mode("refuse")
        assert send(proxy.url, "GET", "/items/3").problem
        with pytest.raises(ServerError, match="unknown mode"):
            proxy.set_mode("explode")


def test_the_proxy_delays_in_both_directions(services: Services, tmp_path: Path) -> None:
    with (
        start_upstream(services.guard, 0.0, tmp_path) as upstream,
        start_proxy(services.guard, tmp_path, seed=1, mode="delay:40") as proxy,
    ):
        proxy.point_at("127.0.0.1", upstream.port)
        begin = time.monotonic()
        assert send(proxy.url, "GET", "/items/1").status == 200
        assert time.monotonic() - begin >= 0.08
        proxy.set_mode("stall")
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as waiting:
            waiting.sendall(b"GET /items/2 HTTP/1.1\r\nHost: x\r\n\r\n")
            waiting.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.recv(100)
