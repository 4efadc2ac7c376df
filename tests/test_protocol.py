"""Between the orchestrator and its generators: what a user class prints or reads is no part of it, and what breaks is told with its cause."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.generator.engine import GRACE_S, LoadChild, job_of, understood
from lab.locate import ROOT
from lab.model import ClosedLoad, Condition, Journey, OpenLoad
from lab.processes import Guard
from lab.words.errors import LoadError
from tests.generator import HEAD, drive, generator
from tests.little_server import Answer, Asked, at_once, little_server

TALKATIVE = """
import os
import subprocess
import sys

print(5)
print('{"state": "done"}')


class Talkative(LabUser):
    def on_start(self):
        print("{")
        os.write(1, b"by hand\\n")
        subprocess.run(["echo", "from a child"], check=True)
        self.count("read", len(sys.stdin.read()))

    @task
    def read(self):
        print('{"state": "running"}')
        sys.stdout.write("half a line")
        self.get("/")
"""


def test_what_a_user_class_prints_is_in_the_log(tmp_path: Path) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, TALKATIVE, server.url, Condition("c", ClosedLoad(2, requests=4)))
    assert load.outcomes() == {"ok": 4}
    assert load.measured.observed == {"read": 0}, "there is nothing to read"
    log = (tmp_path / "load" / "load.log").read_text()
    assert log.splitlines()[:2] == ["5", '{"state": "done"}']
    assert log.count('{"state": "running"}') == 4 and log.count("half a line") == 4
    assert "by hand" in log and "from a child" in log


@pytest.mark.parametrize(("line", "state"), [
    ('{"state": "ready"}\n', "ready"),
    ('{"state": "running", "elapsed_s": 1, "rate_rps": 2, "p99_s": 0.1, "in_flight": 3, "errors": 0}\n', "running"),
    ('{"state": "running", "elapsed_s": 1}\n', "unreadable"),
    ('{"state": "running", "elapsed_s": "1", "rate_rps": 2, "p99_s": 0.1, "in_flight": 3, "errors": 0}\n', "unreadable"),
    ('{"state": "nowhere"}\n', "unreadable"),
    ('{"state": ["ready"]}\n', "unreadable"),
    ('{"stat', "unreadable"),
    ("5\n", "unreadable"),
    ("[]\n", "unreadable"),
    ("null\n", "unreadable"),
    ("\n", "unreadable"),
])  # fmt: skip
def test_a_line_that_is_no_message_is_one_that_says_so(line: str, state: str) -> None:
    assert understood(line)["state"] == state


@pytest.mark.parametrize(("bytes_out", "said"), [
    (b"5\\n", "'5'"),
    (b'{"state": "ready"}\\n{"st', "'{\"st'"),
    (b"\\377\\376\\n", "codec"),
])  # fmt: skip
def test_whatever_a_generator_says_the_orchestrator_only_fails_the_load(
    tmp_path: Path, bytes_out: bytes, said: str
) -> None:
    script = f"""printf '{{"state": "imported"}}\\n'; read -r job; printf '{bytes_out.decode()}'; read -r start"""
    with Guard() as guard:
        child = guard.spawn(
            ["/bin/sh", "-c", script],
            env={**os.environ},
            cwd=tmp_path,
            log_path=tmp_path / "log",
            name="load",
            pipes=True,
        )
        with pytest.raises(LoadError) as raised:
            LoadChild([child], tmp_path).run({"processes": 1}, 5.0, lambda at_ns: None, lambda message: None)
    assert said in str(raised.value)


def test_a_generator_that_is_gone_takes_no_orders(tmp_path: Path) -> None:
    with Guard() as guard:
        script = """printf '{"state": "imported"}\\n'; exec 0<&-; sleep 0.3; echo why >&2; exit 4"""
        child = guard.spawn(
            ["/bin/sh", "-c", script],
            env={**os.environ},
            cwd=tmp_path,
            log_path=tmp_path / "log",
            name="load",
            pipes=True,
        )
        with pytest.raises(LoadError) as raised:
            LoadChild([child], tmp_path).run(
                {"processes": 1, "long": "x" * 10**6}, 5.0, lambda at_ns: None, lambda message: None
            )
    assert "(code 4)" in str(raised.value) and "why" in str(raised.value)


BROKEN = """
class InOnStart(LabUser):
    def on_start(self):
        self.get("/").json()


class InInit(LabUser):
    def __init__(self, environment):
        super().__init__(environment)
        raise LookupError("no tariff")


class InTask(LabUser):
    @task
    def read(self):
        raise LookupError("no tariff")


class InBurst(LabUser):
    def before_burst(self, k):
        raise LookupError("no tariff")

    def journey(self):
        raise LookupError("no tariff")
"""


@pytest.mark.parametrize(("user", "shape", "cause", "line"), [
    ("InOnStart", ClosedLoad(3), "JSONDecodeError: Expecting value", 'self.get("/").json()'),
    ("InOnStart", OpenLoad(10.0, connections=3), "JSONDecodeError: Expecting value", 'self.get("/").json()'),
    ("InInit", ClosedLoad(3), "LookupError: no tariff", 'raise LookupError("no tariff")'),
    ("InTask", OpenLoad(10.0), "LookupError: no tariff", 'raise LookupError("no tariff")'),
    ("InTask", ClosedLoad(3, requests=10), "LookupError: no tariff", 'raise LookupError("no tariff")'),
    ("InBurst", Journey(2), "LookupError: no tariff", 'raise LookupError("no tariff")'),
])  # fmt: skip
def test_what_a_user_class_raises_is_told_with_its_line(
    tmp_path: Path, user: str, shape: ClosedLoad, cause: str, line: str
) -> None:
    with little_server(at_once) as server:
        load = drive(tmp_path, BROKEN, server.url, Condition("c", shape, duration_s=600.0, user=user), fails=True)
    assert load.measured.error.startswith(cause)
    name, _, number = load.measured.error.rpartition("(")[2].rstrip(")").partition(" line ")
    assert name == "users.py"
    assert (HEAD + BROKEN).splitlines()[int(number) - 1].strip() == line
    assert "Traceback" in (tmp_path / "load" / "load.log").read_text()
    load.assert_counted()


def test_a_scenario_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with little_server(at_once) as server, pytest.raises(LoadError) as raised:
        drive(tmp_path, "import nothing_of_that_name\n", server.url, Condition("c", ClosedLoad(1)))
    assert "No module named 'nothing_of_that_name'" in str(raised.value)


HOLDING = """
from gevent.monkey import get_original


class Holding(LabUser):
    @task
    def read(self):
        get_original("time", "sleep")(600)
"""


def test_a_generator_that_says_nothing_any_more_is_given_up(tmp_path: Path) -> None:
    """A user class that holds the whole process."""
    with little_server(at_once) as server, generator(tmp_path, HOLDING) as child, pytest.raises(LoadError) as raised:
        job = job_of(tmp_path / "users.py", Condition("c", ClosedLoad(1)), "naive", server.url, 1)
        child.run(job, 8.0 - GRACE_S, lambda at_ns: None, lambda message: None)
    assert "did not finish in time" in str(raised.value)


# ---- what is expected


EXPECTING = """
class Expecting(LabUser):
    def journey(self):
        for status in (200, 204, 206, 304, 307, 404, 500):
            assert self.get(f"/{status}", name="usual", level=status).status == status
            reply = self.get(f"/{status}", name="expected", level=status, expect=(304, 404))
            assert (reply.status, reply.error) == (status, "")
        self.post("/404", name="any", level=404, expect=range(200, 600), json={"a": 1})
"""


async def by_path(asked: Asked) -> Answer:
    status = int(asked.path[1:])
    return Answer(b"" if status in (204, 304) else b"ok", status)


def test_a_status_is_what_the_request_expects_or_an_error(tmp_path: Path) -> None:
    with little_server(by_path) as server:
        load = drive(tmp_path, EXPECTING, server.url, Condition("c", Journey()))
    ok: dict[str, list[int]] = {"usual": [], "expected": [], "any": []}
    for name, level, status, outcome in zip(
        *(load.column(one) for one in ("name_id", "level", "status", "outcome")), strict=True
    ):
        assert level == status and outcome in (0, 1)
        if outcome == 0:
            ok[load.measured.request_names[name]].append(int(level))
    assert ok == {"usual": [200, 204, 206], "expected": [304, 404], "any": [404]}


BY_HAND = """
class ByHand(LabUser):
    asked = 0

    @task
    def read(self):
        type(self).asked += 1
        assert self.get("/200", name="usual").status == 200
        assert self.get("/404", name="expected", expect=(404,)).status == 404
        self.get("/404", name="failure")
        self.get("/200", name="failure", expect=(404,))
        assert self.rng.random() < 1 and self.number == 0 and self.arrival == -1
        if self.asked == 3:
            self.environment.runner.quit()
"""


def test_a_scenario_is_an_ordinary_locustfile(tmp_path: Path) -> None:
    """By hand requests are Locust's own, so that its web page shows them."""
    (tmp_path / "users.py").write_text(HEAD + BY_HAND)
    with little_server(by_path) as server:
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(tmp_path / "users.py"),
            "--headless",
            "-u",
            "1",
            "-H",
            server.url,
            "--json",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    seen = {entry["name"]: (entry["num_requests"], entry["num_failures"]) for entry in json.loads(done.stdout)}
    assert seen == {"usual": (3, 0), "expected": (3, 0), "failure": (6, 6)}


def test_by_hand_what_is_not_supported_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "users.py").write_text(HEAD + BY_HAND)
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(tmp_path / "users.py"),
        "--headless",
        "-u",
        "1",
        "-t",
        "1s",
        "-H",
        "ws://127.0.0.1:1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "WebSockets are not supported" in done.stderr
