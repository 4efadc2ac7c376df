"""The bystander asks at planned instants whatever the answers do, and tells of each: against servers that answer late, badly or never."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import lab.observe.bystander as probe_client
from lab.generator.schedule import trace_of
from lab.model import Claim, ClosedLoad, Condition, OpenLoad, Probe, Stage, StagedLoad
from lab.observe.bystander import Asked, Bystander, Witness, ask_until_told, beside, bystander_of, instants_ns, report
from lab.processes import Guard
from lab.words.errors import LoadError
from lab.words.metrics import naive
from tests.fakes import gotcha_plan

S = 1_000_000_000
MS = 1_000_000
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Answer = Callable[[socket.socket, int], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server with a thread for each connection; ``answer`` gets the connection and the request's number.  Its heads are kept."""
    heads: list[bytes] = []
    lock = threading.Lock()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(connection: socket.socket) -> None:
        with connection:
            buffer = b""
            while data := received(connection):
                buffer += data
                if buffer.endswith(b"\r\n\r\n"):
                    with lock:
                        number = len(heads)
                        heads.append(buffer)
                    buffer = b""
                    try:
                        answer(connection, number)
                    except OSError:
                        return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:  # closed from either side
        return b""


@contextmanager
def told_to_end() -> Iterator[tuple[int, Callable[[], None]]]:
    """A file descriptor and what ends it."""
    reading, writing = os.pipe()
    try:
        yield reading, lambda: os.close(writing)
    finally:
        os.close(reading)


def ask(url: str, count: int, gap_ns: int = MS) -> list[Asked]:
    """Ask ``count`` times, then end."""
    with told_to_end() as (told, end):
        start_ns = time.monotonic_ns()

        def instants() -> Iterator[int]:
            for number in range(count):
                yield start_ns + number * gap_ns
            end()
            yield start_ns + 3600 * S

        return ask_until_told(url, "/thing", instants(), told)


def test_it_never_waits_for_an_answer_before_it_asks_again() -> None:
    """Nobody is answered until all ten have asked: one that waits would never get there."""
    everybody = threading.Barrier(10)

    def answer(connection: socket.socket, number: int) -> None:
        everybody.wait(300)
        connection.sendall(GOOD)

    with server(answer) as (url, heads):
        asked = ask(url, 10)
    assert [one.outcome for one in asked] == ["ok"] * 10
    assert len(heads) == 10
    assert max(one.sent_ns for one in asked) < min(one.done_ns for one in asked), "all were in flight at one time"


def test_its_requests_name_themselves_as_the_labs_own() -> None:
    with server(lambda connection, number: connection.sendall(GOOD)) as (url, heads):
        asked = ask(url, 3)
    assert all(head.startswith(b"GET /thing HTTP/1.1\r\n") and b"x-lab-own: 1\r\n" in head for head in heads)
    assert len(heads) == 3 and all(one.planned_ns <= one.sent_ns <= one.done_ns for one in asked)


RUDE: dict[str, Answer] = {
    "reset": lambda connection, number: connection.close(),
    "http_error": lambda connection, number: connection.sendall(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
    "bad_framing": lambda connection, number: connection.sendall(b"SMTP hello\r\n\r\n"),
}


@pytest.mark.parametrize("outcome", RUDE)
def test_what_fails_is_told_and_those_that_come_after_are_asked(outcome: str) -> None:
    def answer(connection: socket.socket, number: int) -> None:
        (RUDE[outcome] if number % 2 else lambda c, n: c.sendall(GOOD))(connection, number)

    with server(answer) as (url, heads):
        asked = ask(url, 6)
    assert sorted(one.outcome for one in asked) == sorted(["ok", outcome] * 3)
    assert len(heads) == 6
    seen = report(asked, Condition("one", OpenLoad(1.0), duration_s=3600), asked[0].planned_ns, 2**62)["probe_client"]
    assert (seen["planned"], seen["answered"], seen["failed"]) == (6, 3, 3)


def test_a_server_that_is_not_there_refuses_each() -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        asked = ask(f"http://127.0.0.1:{bound.getsockname()[1]}", 3)
    assert [(one.outcome, one.done_ns) for one in asked] == [("refused", 0)] * 3


def test_a_server_that_never_answers_leaves_them_censored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_client, "DRAIN_S", 0.2)
    with server(lambda connection, number: None) as (url, _):
        asked = ask(url, 4)
    assert [(one.outcome, one.done_ns) for one in asked] == [("censored", 0)] * 4


def test_a_request_that_takes_too_long_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_client, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(probe_client, "DRAIN_S", 30.0)
    with server(lambda connection, number: None) as (url, _):
        asked = ask(url, 2)
    assert [(one.outcome, one.done_ns) for one in asked] == [("timeout", 0)] * 2


def test_what_was_planned_before_the_end_and_not_asked_is_told_too() -> None:
    """It was late, and now there is no load any more: it must not meet an idle server."""
    now = time.monotonic_ns()
    with server(lambda connection, number: connection.sendall(GOOD)) as (url, heads), told_to_end() as (told, end):
        end()
        asked = ask_until_told(url, "/", iter([now - 3 * MS, now - 2 * MS, now + 3600 * S]), told)
    assert asked == [Asked(now - 3 * MS, 0, 0, "censored"), Asked(now - 2 * MS, 0, 0, "censored")]
    assert heads == []


# ---------------------------------------------------------------- the plan and the report


def test_the_schedule_is_poisson_seeded_and_another_than_the_loads() -> None:
    instants = list(instants_ns(5 * S, 10.0, 7))
    assert instants == list(instants_ns(5 * S, 10.0, 7)) == sorted(instants)
    assert instants[:3] != list(instants_ns(5 * S, 10.0, 8))[:3]
    loads = trace_of(OpenLoad(10.0), 1.0, 7).offsets_ns[0]
    assert abs(instants[0] - 5 * S - loads) > 1000, "else each of its requests would meet one of the load's"
    assert all(5 * S < one < 5 * S + 600 * S for one in instants)
    gaps = [later - earlier for earlier, later in pairwise(instants)]
    mean = sum(gaps) / len(gaps)
    # 6,000 gaps: the mean within 5 standard errors of 100 ms, and an exponential's standard deviation is its mean.
    assert abs(mean / (S / 10) - 1) < 5 / 6000**0.5
    assert abs((sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 / mean - 1) < 0.1


def test_the_report_is_of_the_loads_window_and_drops_nobody() -> None:
    condition = Condition("one", OpenLoad(100.0), duration_s=4.0, warmup_s=1.0)
    asked = [
        Asked(10 * S + 999 * MS, 11 * S, 12 * S, "ok"),  # in the warm-up
        Asked(11 * S, 11 * S + 2 * MS, 11 * S + 12 * MS, "ok"),
        Asked(12 * S, 12 * S + 1 * MS, 12 * S + 500 * MS, "http_error"),
        Asked(13 * S, 13 * S + 40 * MS, 0, "timeout"),
        Asked(14 * S, 0, 0, "censored"),
        Asked(14 * S + 900 * MS, 14 * S + 900 * MS, 14 * S + 930 * MS, "ok"),
        Asked(15 * S, 15 * S, 15 * S + MS, "ok"),  # arrivals have ended
    ]
    assert report(asked, condition, 10 * S, 60 * S) == {
        "probe_client_s": [0.010, 0.030],
        "probe_client": {
            "planned": 5, "answered": 2, "failed": 3, "late_s": 0.040, "times_s": [0.010, None, None, None, 0.030],
            "outcomes": ["ok", "http_error", "timeout", "censored", "ok"],
        },
    }  # fmt: skip
    assert report(asked, condition, 10 * S, 12 * S + MS)["probe_client"]["planned"] == 2, "the load broke off"
    prolonged = report(asked, condition, 10 * S, 60 * S, warmup_s=3.0)["probe_client"]
    assert prolonged["outcomes"] == ["timeout", "censored", "ok", "ok"]
    nothing = report([], condition, 0, S)["probe_client"]
    assert (nothing["planned"], nothing["late_s"], nothing["times_s"]) == (0, None, [])


def test_a_staged_loads_window_is_as_long_as_its_stages() -> None:
    condition = Condition("one", StagedLoad((Stage(10.0, 1.0), Stage(20.0, 2.0))), duration_s=9.0)
    asked = [Asked(at * S // 2, at * S // 2, at * S // 2 + 1, "ok") for at in range(10)]
    assert report(asked, condition, 0, 60 * S)["probe_client"]["planned"] == 6


def test_no_bystander_where_a_count_must_be_exact() -> None:
    condition, other = Condition("one", OpenLoad(1000.0), 5.0), Condition("two", OpenLoad(1000.0), 5.0)
    law = Claim("c", "harm", "s", naive.requests_ok, lambda c: 1.0, formula="1", source="x", tolerance=0.0)
    plan = replace(gotcha_plan(law, conditions=(condition,)), probes=(Probe("/health"),))
    assert bystander_of(plan, condition) == Bystander()
    assert bystander_of(replace(plan, claims=(replace(plan.claims[0], tolerance=0.1),)), condition).path == "/health"
    assert bystander_of(plan, other) == Bystander("/health", 15.0)
    assert bystander_of(plan, Condition("three", ClosedLoad(1000), 5.0)) == Bystander()


# ---------------------------------------------------------------- the process


def test_it_stands_beside_a_load_from_the_beginning_to_the_end() -> None:
    enough = threading.Event()

    def answer(connection: socket.socket, number: int) -> None:
        if number == 20:
            enough.set()
        connection.sendall(GOOD)

    with server(answer) as (url, heads), Guard() as guard:
        with beside(guard, url, Bystander("/thing", 200.0), 5) as witness:
            before = len(heads)
            start_ns = time.monotonic_ns()
            witness.begin(start_ns)
            assert enough.wait(300)
        planned = [one.planned_ns for one in witness.asked]
        assert before == 0, "it asks nothing before the load"
        assert planned == list(instants_ns(start_ns, 200.0, 5))[: len(planned)], "the plan, without a gap"
        assert len(heads) == sum(one.outcome == "ok" for one in witness.asked) >= 20
        assert guard.child_pids() == []


def test_without_a_path_there_is_nobody() -> None:
    with Guard() as guard, beside(guard, "http://127.0.0.1:1", Bystander(), 5) as witness:
        witness.begin(1)
        assert guard.child_pids() == []
    assert witness.report(Condition("one", OpenLoad(1.0)), 0, 1) == {}


def test_a_load_that_never_begins_is_no_trouble() -> None:
    with Guard() as guard, beside(guard, "http://127.0.0.1:1", Bystander("/", 10.0), 5) as witness:
        pass
    assert witness.asked == []


def test_a_bystander_that_breaks_says_so() -> None:
    """A path that cannot be asked for ends it with its reason."""
    with Guard() as guard, pytest.raises(LoadError, match=r"bystander says nothing.*path"):
        stand_beside(guard, "http://127.0.0.1:1", Bystander("no path", 10.0))
    with Guard() as guard, pytest.raises(LoadError, match="does not start"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        stand_beside(guard, "http://127.0.0.1:1", Bystander("/", 10.0))


def test_a_bystander_that_is_killed_says_so() -> None:
    def kill(witness: Witness) -> None:
        assert witness.child is not None
        witness.child.process.kill()
        witness.child.process.wait()

    with Guard() as guard, pytest.raises(LoadError, match="bystander says nothing"):
        stand_beside(guard, "http://127.0.0.1:1", Bystander("/", 10.0), kill)


def stand_beside(
    guard: Guard, url: str, who: Bystander, then: Callable[[Witness], None] = lambda witness: None
) -> None:
    with beside(guard, url, who, 5) as witness:
        witness.begin(time.monotonic_ns())
        then(witness)


def test_what_it_prints_is_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the module's own words: ready, then one list."""
    source = tmp_path / "told"
    source.write_bytes(b"")
    with source.open("rb") as told, monkeypatch.context() as patch:
        real = os.read
        patch.setattr(os, "read", lambda fd, size: real(told.fileno(), size) if fd == 0 else real(fd, size))
        probe_client.main("http://127.0.0.1:1", "/", 5.0, 1)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "ready" and json.loads(second) == []
