"""Targets that the lab has not started, and applications that are not of this repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lab.generator.client import Connection
from lab.generator.exchange import BAD_FRAMING, HTTP_ERROR, OK, REFUSED
from lab.generator.wire import build_request, check_url
from lab.model import App, ClosedLoad, Condition, Event, OpenLoad
from lab.observe.probes import send
from lab.ports import PortReservation, is_listening
from lab.processes import Guard, wait_until
from lab.run.runner import run_trials
from lab.run.trial import RealExecutor
from lab.services.supervisor import Services
from lab.store import RunFolder
from lab.target.address import Address
from lab.target.remote import check_possible
from lab.words.errors import NotHereError, UsageError
from tests.small_trials import records, run_plan, small_plan, ten_requests

OUTSIDE = """
import os
import sys

import lab_settings  # beside it, not the lab's


async def answer(scope, receive, send):
    assert scope["type"] == "http"
    body = b"%s %s %s" % (
        lab_settings.WORD, dict(scope["headers"]).get(b"x-tenant", b"none"), b"lab" if "lab" in sys.modules else b"alone",
    )
    if scope["path"].startswith("/missing"):
        await send({"type": "http.response.start", "status": 404, "headers": []})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Shop:
    @staticmethod
    def create():
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                while True:
                    message = await receive()
                    await send({"type": message["type"] + ".complete"})
                    if message["type"] == "lifespan.shutdown":
                        return
            await answer(scope, receive, send)
        return app
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with an application of somebody's own; it has a package ``tests``, as ours has."""
    folder = tmp_path / "shop"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "__init__.py").write_text("")
    (folder / "lab_settings.py").write_text("import tests\nassert 'shop' in tests.__file__\nWORD = b'shop'\n")
    (folder / "outside.py").write_text(OUTSIDE)
    return folder


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on the PATH: it makes the certificate of this test")
    key, found = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(found)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return key, found


@contextmanager
def running(shop: Path, *options: str) -> Iterator[int]:
    """The shop under uvicorn, started by somebody else; its port."""
    with Guard() as guard, PortReservation() as reservation:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "outside:Shop.create",
            "--factory",
            "--port",
            str(reservation.port),
            *options,
        ]
        env = {**os.environ, "PYTHONPATH": str(shop)}
        child = guard.spawn(command, env=env, cwd=shop, log_path=shop / "uvicorn.log", name="shop")
        wait_until(lambda: is_listening(reservation.port), 60, child, "the shop to listen")
        yield reservation.port
        child.stop(5.0)


def test_an_address_knows_its_parts() -> None:
    plain = Address("http://10.0.0.1:8000/")
    assert (plain.host, plain.port, plain.base, plain.tls, plain.context) == ("10.0.0.1", 8000, "", False, None)
    public = Address("https://shop.example/api/v2/")
    assert (public.host, public.port, public.base, public.authority) == ("shop.example", 443, "/api/v2", "shop.example")
    assert Address("https://a.example", ca="/nowhere.pem").url
    with pytest.raises(OSError, match="No such file"):
        _ = Address("https://a.example", ca="/nowhere.pem").context


def test_an_address_with_a_base_path_is_taken_one_with_a_query_is_not() -> None:
    check_url("https://127.0.0.1/api")
    with pytest.raises(UsageError, match="queries belong to the requests"):
        check_url("http://127.0.0.1/api?a=1")


@pytest.mark.services
def test_the_client_speaks_tls_and_trusts_whom_it_is_told_to(shop: Path, certificate: tuple[Path, Path]) -> None:
    key, signed = certificate
    with running(shop, "--ssl-keyfile", str(key), "--ssl-certfile", str(signed)) as port:
        request = build_request("GET", "/", f"localhost:{port}")
        trusting = Address(f"https://localhost:{port}", ca=str(signed))
        connection = Connection("localhost", port, 30.0, tls=trusting.context)
        seen = [connection.exchange(request) for _ in range(5)]
        assert [one.outcome for one in seen] == [OK] * 5, [one.problem for one in seen]
        assert [one.reused for one in seen] == [0, 1, 1, 1, 1] and seen[0].body.startswith(b"shop")
        strict = Connection("localhost", port, 30.0, tls=Address(f"https://localhost:{port}").context)
        refused = strict.exchange(request)
        assert refused.outcome == REFUSED and "certificate verify failed" in refused.problem
        careless = Connection("localhost", port, 30.0, tls=Address(f"https://localhost:{port}", verify=False).context)
        assert careless.exchange(request).outcome == OK
        plain = Connection("localhost", port, 30.0).exchange(request)
        assert plain.outcome not in (OK, HTTP_ERROR), "a server that speaks TLS does not answer in plain text"
        assert plain.outcome <= BAD_FRAMING
        assert send(trusting, "GET", "/").status == 200
        assert "certificate verify failed" in send(f"https://localhost:{port}", "GET", "/").problem


@pytest.mark.services
@pytest.mark.parametrize(
    "load", [ClosedLoad(3, requests=30), OpenLoad(100.0, connections=4)], ids=lambda one: one.shape
)
def test_a_remote_target_is_measured_without_its_processes(
    tmp_path: Path, shop: Path, certificate: tuple[Path, Path], load: ClosedLoad | OpenLoad
) -> None:
    key, signed = certificate
    condition = Condition("load", load, duration_s=1.0, user="Reader")
    gotcha = replace(small_plan("remote", condition), probes=())
    plan = run_plan(gotcha)
    with (
        running(shop, "--ssl-keyfile", str(key), "--ssl-certfile", str(signed)) as port,
        Services(set(), log_folder=tmp_path) as services,
    ):
        where = Address(f"https://localhost:{port}/base", {"x-tenant": "t1"}, ca=str(signed))
        run = RunFolder(tmp_path / "run")
        run.write_plan(plan)
        run_trials(plan, run, RealExecutor(services, remote={"light": where}), lambda progress: None)
        (record,) = records(run, plan)
    assert record.status == "ok", record.reason
    trial = run.trial(gotcha.slug, condition.key, 0, "light")
    samples = pq.read_table(trial.path / "samples.parquet")
    assert len(samples) >= 30 and set(samples["status"].to_pylist()) == {200}
    assert "server" not in record.processes, "its CPU is not known, and that is not 0"
    assert record.server_pids == () and record.command == ()
    assert not (trial.path / "server.parquet").exists()


def test_what_needs_the_processes_is_refused_with_the_reason() -> None:
    killed = ten_requests(events=(Event(0.5, "kill", "worker"),))
    with pytest.raises(
        NotHereError, match="an event that signals or starts a server needs a target that the lab starts"
    ):
        check_possible(killed)
    check_possible(ten_requests(events=(Event(0.5, "sql", statement="SELECT 1"),)))
    with pytest.raises(NotHereError, match="other library versions"):
        check_possible(ten_requests(packages={"fastapi": "0.117.1"}))


@pytest.mark.services
@pytest.mark.parametrize(("module", "factory"), [("outside:Shop.create", True), ("outside:missing", False)])
def test_an_application_outside_the_repository_is_a_target(
    tmp_path: Path, shop: Path, module: str, factory: bool
) -> None:
    condition = ten_requests()
    gotcha = small_plan("own", condition, apps={"light": App(module, str(shop), sys.executable, factory)})
    plan = run_plan(replace(gotcha, probes=()))
    with Services(set(), log_folder=tmp_path) as services:
        run = RunFolder(tmp_path / "run")
        run.write_plan(plan)
        run_trials(plan, run, RealExecutor(services), lambda progress: None)
        (record,) = records(run, plan)
    if not factory:
        assert record.status == "failed" and "no attribute 'missing'" in record.reason
        return
    assert record.status == "ok", record.reason
    assert record.processes["server"].cpu_ns > 0 and len(record.server_pids) == 1
    assert (run.trial(gotcha.slug, condition.key, 0, "light").path / "server.parquet").exists()
    assert run.plan.gotchas[0].apps["light"].folder == str(shop)
