"""The HTTP client against servers as they really are: each case through a plain socket, and through gevent as in production.

The cases come from public reports and from RFC 9112.  Every row says what must become of the request, and what the server saw.
"""

import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lab.generator.exchange import (
    BAD_FRAMING,
    HTTP_ERROR,
    OK,
    PROBLEM_CLOSED_IDLE,
    PROBLEM_CUT,
    PROBLEM_FRAMING,
    PROBLEM_NO_ACCEPT,
    PROBLEM_NO_ANSWER,
    PROBLEM_REFUSED,
    PROBLEM_TIMEOUT,
    REFUSED,
    RESET,
    TIMEOUT,
)  # fmt: skip
from lab.generator.framing import MAX_CHUNK_LINE_BYTES, MAX_HEAD_BYTES
from lab.generator.wire import build_request
from lab.ports import PortReservation
from tests.rude import CLOSE, Driver, GeventDriver, Pieces, Read, Step, Tell, Wait, serving
from tests.rude import RESET as RST

GET = build_request("GET", "/first", "localhost")
NEXT = build_request("GET", "/next", "localhost")
HEAD = build_request("HEAD", "/first", "localhost")
POST = build_request("POST", "/orders", "localhost", body=b'{"n":1}')
UPLOAD = build_request("POST", "/files", "localhost", body=b"x" * (8 * 1024 * 1024))
HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-lab-pid: 77\r\n\r\nhi"
OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def gevent_driver() -> Iterator[GeventDriver]:
    driver = GeventDriver()
    yield driver
    driver.stop()


@pytest.fixture(params=["plain", "gevent"])
def driver(request: pytest.FixtureRequest, gevent_driver: GeventDriver) -> Driver:
    return Driver() if request.param == "plain" else gevent_driver


def ok(*lines: bytes, body: bytes = b"hi", status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines]) + b"\r\n\r\n" + body


class Case(NamedTuple):
    """A reply and what must become of the request.  ``kept``: the next request goes out on the same connection."""

    name: str
    reply: bytes
    outcome: int = OK
    status: int = 200
    body: bytes = b"hi"
    kept: bool = True
    closes: bool = False
    ask: bytes = GET
    whole_only: bool = False  # in pieces the reply is over before the fault arrives


def bad(name: str, reply: bytes, *, closes: bool = False, ask: bytes = GET, whole_only: bool = False) -> Case:
    return Case(name, reply, BAD_FRAMING, 0, b"", False, closes, ask, whole_only)


def cut(name: str, reply: bytes) -> Case:
    return Case(name, reply, RESET, 0, b"", False, True)


CASES = [
    # ---- header white space (RFC 9112 section 5)
    Case("no space after the colon", ok(b"Content-Length:2")),
    Case("spaces and tabs around a value", ok(b"Content-Length: \t 2 \t ")),
    bad("space before the colon", ok(b"Content-Length : 2")),
    Case("a folded line", ok(b"X-Long: a", b"  b", b"Content-Length: 2")),
    Case("a folded framing line", ok(b"Connection: keep-alive,", b"\tclose", b"Content-Length: 2"), kept=False),
    bad("white space after the status line", ok(b" X: 1", b"Content-Length: 2")),
    bad("a header line without a colon", ok(b"Content-Length: 2", b"nothing")),
    bad("a header without a name", ok(b": 2", b"Content-Length: 2")),
    bad("a name that is no token", ok(b"Content(Length): 2", b"Content-Length: 2")),
    Case("names in any case", ok(b"cOnTeNt-LeNgTh: 2")),
    Case("a value in latin-1", ok(b"X-Name: caf\xe9", b"Content-Length: 2")),
    # ---- line ends, NUL, sizes
    bad("line ends in LF alone", ok(b"Content-Length: 2").replace(b"\r\n", b"\n")),
    bad("one line ends in LF alone", ok(b"X: 1\nContent-Length: 3", b"Content-Length: 2")),
    bad("a bare LF and a bare CR", ok(b"X: 1\n2\r3", b"Content-Length: 2")),
    bad("a bare CR in a value", ok(b"X: 1\r2", b"Content-Length: 2")),
    bad("a NUL in a value", ok(b"X: 1\x002", b"Content-Length: 2")),
    bad("an endless head", b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1), whole_only=True),
    bad("a head too large", ok(b"X: " + b"a" * MAX_HEAD_BYTES, b"Content-Length: 2"), whole_only=True),
    Case("a large head", ok(b"X: " + b"a" * 60_000, b"Content-Length: 2"), whole_only=True),
    # ---- status lines
    Case("no reason", ok(b"Content-Length: 2", status=b"HTTP/1.1 200 ")),
    Case("no reason and no space", ok(b"Content-Length: 2", status=b"HTTP/1.1 200")),
    bad("four digits", ok(b"Content-Length: 2", status=b"HTTP/1.1 2000 OK")),
    bad("a status below 100", ok(b"X: 1", body=HI, status=b"HTTP/1.1 099 x")),  # no interim answer either
    bad("a version with a letter", ok(b"Content-Length: 2", status=b"HTTP/1.x 200 OK")),
    bad("two digits and nothing more", ok(b"X: 1", body=HI, status=b"HTTP/1.1 20")),
    bad("two digits", ok(b"Content-Length: 2", status=b"HTTP/1.1 20 OK")),
    bad("two spaces", ok(b"Content-Length: 2", status=b"HTTP/1.1  200 OK")),
    bad("HTTP/2 in words", ok(b"Content-Length: 2", status=b"HTTP/2 200 OK")),
    bad("HTTP/2 frames", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"),
    bad("TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    bad("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
    bad("HTTP/0.9", b"<html>hello</html>"),
    bad("an empty line first", b"\r\n" + HI),
    Case("an unknown status", ok(b"Content-Length: 2", status=b"HTTP/1.1 799 ?"), HTTP_ERROR, 799),
    # ---- which statuses are fine by default
    Case("201", ok(b"Content-Length: 2", status=b"HTTP/1.1 201 Created"), OK, 201),
    Case("300", ok(b"Content-Length: 2", status=b"HTTP/1.1 300 x"), HTTP_ERROR, 300),
    Case("299", ok(b"Content-Length: 2", status=b"HTTP/1.1 299 x"), OK, 299),
    Case("307", ok(b"Content-Length: 0", b"Location: /first/", body=b"", status=b"HTTP/1.1 307 x"), HTTP_ERROR, 307, b""),
    Case("404", ok(b"Content-Length: 2", status=b"HTTP/1.1 404 Not Found"), HTTP_ERROR, 404),
    Case("503", ok(b"Content-Length: 2", status=b"HTTP/1.1 503 x"), HTTP_ERROR, 503),
    # ---- Content-Length (RFC 9112 section 6.3, RFC 9110 section 8.6)
    Case("the same length twice", ok(b"Content-Length: 2", b"Content-Length: 2")),
    Case("the same length in a list", ok(b"Content-Length: 2, 2")),
    Case("leading zeros", ok(b"Content-Length: 0002")),
    bad("lengths that disagree", ok(b"Content-Length: 2", b"Content-Length: 3")),
    bad("a list that disagrees", ok(b"Content-Length: 2, 3")),
    bad("a negative length", ok(b"Content-Length: -2")),
    bad("a plus sign", ok(b"Content-Length: +2")),
    bad("a length in hexadecimal", ok(b"Content-Length: 0x2")),
    bad("a length with an underscore", ok(b"Content-Length: 0_2")),
    bad("an empty length", ok(b"Content-Length:")),
    bad("half a list", ok(b"Content-Length: 2,")),
    bad("a length beyond 64 bits", ok(b"Content-Length: 99999999999999999999")),
    bad("a length that is right in its last digits", ok(b"Content-Length: 10000000000000000000002")),
    Case("5,000 leading zeros", ok(b"Content-Length: " + b"0" * 5_000 + b"2"), whole_only=True),
    bad("a length of 5,000 digits", ok(b"Content-Length: " + b"9" * 5_000), whole_only=True),
    bad("a body larger than memory", ok(b"Content-Length: 999999999999")),
    # ---- Transfer-Encoding (RFC 9112 sections 6.1 and 7)
    Case("chunks", CHUNKED + b"\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", body=b"hello world"),
    Case("tiny chunks", CHUNKED + b"\r\n" + b"1\r\nx\r\n" * 300 + b"0\r\n\r\n", body=b"x" * 300),
    Case("no chunks", CHUNKED + b"\r\n0\r\n\r\n", body=b""),
    Case("chunk extensions", CHUNKED + b'\r\n2;a=1;b="c"\r\nhi\r\n0;last\r\n\r\n'),
    Case("white space after a chunk's size", CHUNKED + b"\r\n2 \t\r\nhi\r\n0\r\n\r\n"),
    Case("white space before a chunk extension", CHUNKED + b"\r\n2 ;a=1\r\nhi\r\n0\r\n\r\n"),
    Case("upper case and leading zeros", CHUNKED + b"\r\n00000A\r\n0123456789\r\n000\r\n\r\n", body=b"0123456789"),
    Case("chunked in capitals", ok(b"Transfer-Encoding: CHUNKED", body=b"2\r\nhi\r\n0\r\n\r\n")),
    Case("chunked with empty members", ok(b"Transfer-Encoding: , chunked,", body=b"2\r\nhi\r\n0\r\n\r\n")),
    Case("trailers", CHUNKED + b"Trailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: 1\r\nContent-Length: 99\r\n\r\n"),
    Case("a folded trailer", CHUNKED + b"\r\n2\r\nhi\r\n0\r\nX: 1,\r\n 2\r\n\r\n"),
    bad("white space before the first trailer", CHUNKED + b"\r\n2\r\nhi\r\n0\r\n X: 1\r\n\r\n"),
    bad("a trailer that is no header", CHUNKED + b"\r\n2\r\nhi\r\n0\r\nnothing\r\n\r\n"),
    bad("trailers too large", CHUNKED + b"\r\n2\r\nhi\r\n0\r\n" + b"X: 12345678\r\n" * 7_000 + b"\r\n", whole_only=True),
    bad("a length beside chunks", CHUNKED + b"Content-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    bad("chunked not last", ok(b"Transfer-Encoding: chunked, gzip", body=b"2\r\nhi\r\n0\r\n\r\n")),
    bad("an unknown coding", ok(b"Transfer-Encoding: br")),
    bad("a coding that was not asked for", ok(b"Transfer-Encoding: gzip, chunked", body=b"2\r\nhi\r\n0\r\n\r\n")),
    bad("chunked in two fields", ok(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    bad("identity", ok(b"Transfer-Encoding: identity", b"Content-Length: 2")),
    bad("chunks in HTTP/1.0", ok(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", status=b"HTTP/1.0 200 OK")),
    bad("a chunk size that is no number", CHUNKED + b"\r\nzz\r\nhi\r\n0\r\n\r\n"),
    bad("a chunk size with 0x", CHUNKED + b"\r\n0x2\r\nhi\r\n0\r\n\r\n"),
    bad("a negative chunk", CHUNKED + b"\r\n-2\r\nhi\r\n0\r\n\r\n"),
    bad("a chunk without a size", CHUNKED + b"\r\n;a=1\r\nhi\r\n0\r\n\r\n"),
    bad("white space before a chunk's size", CHUNKED + b"\r\n 2\r\nhi\r\n0\r\n\r\n"),
    bad("a chunk beyond 64 bits", CHUNKED + b"\r\n10000000000000002\r\nhi\r\n0\r\n\r\n"),
    bad("a chunk larger than memory", CHUNKED + b"\r\nffffffffff\r\nhi\r\n0\r\n\r\n"),
    bad("a chunk that is longer than its size", CHUNKED + b"\r\n1\r\nhi\r\n0\r\n\r\n"),
    bad("no line end after a chunk", CHUNKED + b"\r\n2\r\nhi0\r\n\r\n"),
    bad("chunk lines in LF alone", CHUNKED + b"\r\n2\nhi\n0\n\n"),
    bad("a bare LF in a chunk extension", CHUNKED + b"\r\n2;a\nb\r\nhi\r\n0\r\n\r\n"),
    bad("a bare CR in a chunk extension", CHUNKED + b"\r\n2;a\rb\r\nhi\r\n0\r\n\r\n"),
    bad("a NUL in a chunk extension", CHUNKED + b"\r\n2;a\0b\r\nhi\r\n0\r\n\r\n"),
    bad("two other bytes after a chunk", CHUNKED + b"\r\n2\r\nhiXX0\r\n\r\n"),
    bad("a chunk line too long", CHUNKED + b"\r\n2;" + b"a" * MAX_CHUNK_LINE_BYTES + b"\r\nhi\r\n0\r\n\r\n", whole_only=True),
    # ---- Connection (RFC 9112 section 9.3)
    Case("close", ok(b"Connection: close", b"Content-Length: 2"), kept=False),
    Case("close in a list", ok(b"Connection: x-a, Close", b"Content-Length: 2"), kept=False),
    Case("close, then keep-alive", ok(b"Connection: close", b"Connection: keep-alive", b"Content-Length: 2"), kept=False),
    Case("keep-alive, then close", ok(b"Connection: keep-alive", b"Connection: close", b"Content-Length: 2"), kept=False),
    Case("a token that only begins like close", ok(b"Connection: closed", b"Content-Length: 2")),
    Case("HTTP/1.0", ok(b"Content-Length: 2", status=b"HTTP/1.0 200 OK"), kept=False),
    Case("HTTP/1.0 keep-alive",
         ok(b"Connection: x", b"Connection: Keep-Alive", b"Content-Length: 2", status=b"HTTP/1.0 200 OK")),
    Case("HTTP/1.0 until the end", ok(status=b"HTTP/1.0 200 OK"), kept=False, closes=True),
    Case("a body until the end", ok(b"X: 1", body=b"h" * 70_000), body=b"h" * 70_000, kept=False, closes=True, whole_only=True),
    # ---- replies without a body
    Case("HEAD", ok(b"Content-Length: 2", body=b""), body=b"", ask=HEAD),
    Case("HEAD of chunks", CHUNKED + b"\r\n", body=b"", ask=HEAD),
    Case("HEAD without a length", ok(b"X: 1", body=b""), body=b"", ask=HEAD),
    bad("HEAD with a body", ok(b"Content-Length: 2"), ask=HEAD, whole_only=True),
    Case("204", ok(b"X: 1", body=b"", status=b"HTTP/1.1 204 x"), OK, 204, b""),
    Case("204 of length 0", ok(b"Content-Length: 0", body=b"", status=b"HTTP/1.1 204 x"), OK, 204, b""),
    Case("204 with an encoding", ok(b"Content-Encoding: gzip", body=b"", status=b"HTTP/1.1 204 x"), OK, 204, b""),
    Case("204 that promises bytes", ok(b"Content-Length: 5", body=b"", status=b"HTTP/1.1 204 x"), OK, 204, b"", kept=False),
    Case("204 that promises chunks", ok(b"Transfer-Encoding: chunked", body=b"", status=b"HTTP/1.1 204 x"), OK, 204, b"",
         kept=False),
    bad("204 with a body", ok(b"Content-Length: 2", status=b"HTTP/1.1 204 x"), whole_only=True),
    Case("205", ok(b"Content-Length: 0", body=b"", status=b"HTTP/1.1 205 x"), OK, 205, b""),
    Case("304 with a length", ok(b"Content-Length: 99", body=b"", status=b"HTTP/1.1 304 x"), HTTP_ERROR, 304, b""),
    Case("304 with an encoding", ok(b"Content-Encoding: br", body=b"", status=b"HTTP/1.1 304 x"), HTTP_ERROR, 304, b""),
    Case("304 with chunked", ok(b"Transfer-Encoding: chunked", body=b"", status=b"HTTP/1.1 304 x"), HTTP_ERROR, 304, b""),
    bad("304 with a body", ok(b"Content-Length: 2", status=b"HTTP/1.1 304 x"), whole_only=True),
    # ---- more than one answer
    Case("100 that nobody asked for", b"HTTP/1.1 100 Continue\r\n\r\n" + HI),
    Case("102 and 103", b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HI),
    Case("103 with a length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + HI),
    bad("101", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"),
    bad("bytes after the end", HI + b"more", whole_only=True),
    bad("two answers", HI + HI, whole_only=True),
    bad("bytes after the last chunk", CHUNKED + b"\r\n0\r\n\r\nmore", whole_only=True),
    # ---- the end comes too early
    cut("the end inside the status line", b"HTTP/1.1 2"),
    cut("the end inside the head", b"HTTP/1.1 200 OK\r\nContent-Le"),
    cut("the end inside the body", ok(b"Content-Length: 5")),
    cut("the end inside a chunk", CHUNKED + b"\r\n5\r\nhel"),
    cut("the end before the last chunk", CHUNKED + b"\r\n2\r\nhi\r\n"),
    cut("the end before the last line", CHUNKED + b"\r\n2\r\nhi\r\n0\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("case, size", [
    pytest.param(case, size, id=f"{case.name}{', byte by byte' if size else ''}")
    for case in CASES for size in ((0,) if case.whole_only else (0, 1))
])  # fmt: skip
def test_a_reply_is_what_the_rfc_makes_of_it(driver: Driver, case: Case, size: int) -> None:
    reply = Pieces(case.reply, size) if size else case.reply
    first: list[Step] = [Read(), reply, CLOSE] if case.closes else [Read(), reply, Read(), OTHER]
    with serving(driver, first, [Read(), OTHER]) as server:
        done = driver.exchange(case.ask, to_head=case.ask is HEAD)
        assert (done.outcome, done.head.status, done.body) == (case.outcome, case.status, case.body), done.problem
        assert 0 < done.sent_ns <= done.first_byte_ns <= done.done_ns
        after = driver.exchange(NEXT)
        assert (after.outcome, after.body, after.reused) == (OK, b"other", int(case.kept)), after.problem
        assert driver.counters() == (0, 0, 0)
        if case.outcome in (OK, HTTP_ERROR):
            assert done.problem == ""
        else:
            assert done.problem.startswith(PROBLEM_FRAMING if case.outcome == BAD_FRAMING else PROBLEM_CUT)
    assert server.requests == [case.ask, NEXT]


# ---- what is sent, and how often


def test_a_post_that_was_read_and_never_answered_is_sent_once(driver: Driver) -> None:
    with serving(driver, [Read(), HI, Read(), CLOSE], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        done = driver.exchange(POST)
        assert (done.outcome, done.reused, done.head.status) == (RESET, 1, 0)
        assert done.problem.startswith(PROBLEM_NO_ANSWER)
        assert 0 < done.sent_ns < done.done_ns
        assert driver.exchange(NEXT).outcome == OK
        assert driver.counters() == (0, 0, 0)
    assert server.requests == [GET, POST, NEXT]


def test_a_fresh_connection_that_is_hung_up_is_a_reset_and_not_a_loop(driver: Driver) -> None:
    with serving(driver, [Read(), CLOSE]) as server:
        assert driver.exchange(GET).outcome == RESET
    assert (server.requests, server.connections) == ([GET], 1)


@pytest.mark.parametrize("end", [CLOSE, RST])
def test_a_connection_that_was_closed_while_idle_is_reopened_before_sending(driver: Driver, end: str) -> None:
    with serving(driver, [Read(), HI, Wait("go"), end], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        server.tell("go")
        driver.until_readable() if end == CLOSE else driver.until_broken()
        done = driver.exchange(POST)
        assert (done.outcome, done.body, done.reused) == (OK, b"other", 0)
        assert driver.counters() == (1, 0, 0)
    assert server.requests == [GET, POST]


def test_open_replaces_a_connection_that_was_closed_while_idle(driver: Driver) -> None:
    with serving(driver, [Wait("go"), CLOSE], [Read(), OTHER]) as server:
        driver.do("open")
        server.tell("go")
        driver.until_readable()
        driver.do("open")
        assert driver.counters() == (1, 0, 0)
        assert driver.exchange(GET).reused == 0
        assert driver.counters() == (1, 0, 0)
    assert server.connections == 2


@pytest.mark.parametrize("late", [
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b'{"error":"late"}', HI,
])  # fmt: skip
@pytest.mark.parametrize("closes", [False, True])
def test_bytes_on_an_idle_connection_are_never_the_next_answer(driver: Driver, late: bytes, closes: bool) -> None:
    empty = ok(b"Content-Length: 0", body=b"", status=b"HTTP/1.1 500 x")
    first: list[Step] = [Read(), empty, Wait("go"), late, *([CLOSE] if closes else [])]
    with serving(driver, first, [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == HTTP_ERROR
        server.tell("go")
        driver.until_readable()
        done = driver.exchange(POST)
        assert (done.outcome, done.body, done.reused) == (OK, b"other", 0)
        assert driver.counters() == (0, 1, 0)
    assert server.requests == [GET, POST]


@pytest.mark.parametrize("status", [b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 204 No Content"])
def test_a_late_body_that_must_not_be_there_is_dropped(driver: Driver, status: bytes) -> None:
    with serving(
        driver, [Read(), ok(b"X: 1", body=b"", status=status), Wait("go"), b"body"], [Read(), OTHER]
    ) as server:
        assert driver.exchange(GET).body == b""
        server.tell("go")
        driver.until_readable()
        assert driver.exchange(NEXT).body == b"other"
        assert driver.counters() == (0, 1, 0)


def test_a_request_of_which_nothing_left_is_sent_again(driver: Driver) -> None:
    """The reset arrives between the look and the first byte: the kernel takes nothing."""
    with serving(driver, [Read(), HI, Wait("go"), RST], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        driver.do("blind")
        server.tell("go")
        driver.until_broken()
        done = driver.exchange(POST)
        assert (done.outcome, done.body, done.reused) == (OK, b"other", 0)
        assert driver.counters() == (0, 0, 1)
    assert server.requests == [GET, POST]


def test_a_request_that_left_is_not_sent_again(driver: Driver) -> None:
    """The end arrives between the look and the first byte: the kernel takes all, the server's has nobody to give it to."""
    with serving(driver, [Read(), HI, Wait("go"), CLOSE], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        driver.do("blind")
        server.tell("go")
        driver.until_readable()
        done = driver.exchange(POST)
        assert (done.outcome, done.reused) == (RESET, 1)
        assert done.problem.startswith(PROBLEM_CLOSED_IDLE)
        assert driver.counters() == (0, 0, 0)
    assert server.requests == [GET]


@pytest.mark.parametrize("idle_before", [False, True])
def test_a_fresh_connection_that_is_reset_before_the_first_byte_is_not_tried_again(
    driver: Driver, idle_before: bool
) -> None:
    scripts: list[list[Step]] = [[Read(), HI, Wait("go"), CLOSE]] if idle_before else []
    with serving(driver, *scripts, [RST]) as server:
        if idle_before:
            assert driver.exchange(GET).outcome == OK
            server.tell("go")
            driver.until_readable()
        driver.do("wait for the reset after connecting")
        done = driver.exchange(POST)
        assert (done.outcome, done.problem.partition(":")[0]) == (RESET, PROBLEM_NO_ANSWER)
        assert driver.counters() == (int(idle_before), 0, 0)
    assert server.connections == 1 + idle_before


def test_a_second_failure_is_the_end(driver: Driver) -> None:
    """Sent again once, and the server is gone: the latency counts from the first try."""
    with serving(driver, [Read(), HI, Wait("go"), RST]) as server:
        assert driver.exchange(GET).outcome == OK
        driver.do("blind")
        server.tell("go")
        driver.until_broken()
        server.finish()
        done = driver.exchange(POST)
        assert (done.outcome, driver.counters()) == (REFUSED, (0, 0, 0))
        assert 0 < done.sent_ns < done.done_ns
    assert server.requests == [GET]


# ---- answers before the request is finished

EARLY = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize("end", [[CLOSE], [Wait("end")]], ids=["closes", "reads no further"])
def test_an_early_answer_is_the_answer(driver: Driver, end: list[Step]) -> None:
    with serving(driver, [Read(1000), EARLY, *end], [Read(), OTHER]) as server:
        done = driver.exchange(UPLOAD)
        assert (done.outcome, done.head.status, done.body) == (HTTP_ERROR, 413, b"no"), done.problem
        assert driver.exchange(NEXT).reused == 0
        assert driver.counters() == (0, 0, 0)
        server.tell("end")
    assert server.requests == [NEXT]


def test_an_interim_answer_does_not_stop_an_upload(driver: Driver) -> None:
    with serving(driver, [Read(1000), b"HTTP/1.1 100 Continue\r\n\r\n", Read(), HI, Read(), OTHER]) as server:
        done = driver.exchange(UPLOAD)
        assert (done.outcome, done.body) == (OK, b"hi")
        assert driver.exchange(NEXT).reused == 1
    assert server.requests == [UPLOAD, NEXT]


@pytest.mark.parametrize("end", [CLOSE, RST])
def test_an_upload_that_is_cut_is_a_reset_and_sent_once(driver: Driver, end: str) -> None:
    with serving(driver, [Read(), HI, Read(1000), end], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        done = driver.exchange(UPLOAD)
        assert (done.outcome, done.problem.partition(":")[0]) == (RESET, PROBLEM_NO_ANSWER)
        assert driver.counters() == (0, 0, 0)
    assert server.requests == [GET]


def test_half_an_early_answer_is_a_reset(driver: Driver) -> None:
    with serving(driver, [Read(1000), b"HTTP/1.1 413 x\r\nContent-Length: 9\r\n\r\nno", CLOSE]) as server:
        done = driver.exchange(UPLOAD)
        assert (done.outcome, done.problem.partition(":")[0]) == (RESET, PROBLEM_CUT)
    assert server.requests == []


# ---- time


def test_an_interim_answer_is_waited_through(driver: Driver) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    with serving(driver, [Read(), hints, Tell("hints sent"), Wait("go"), HI]) as server:
        driver.start(GET)
        server.reached("hints sent")
        final_ns = time.monotonic_ns()  # nothing of the final answer exists before
        server.tell("go")
        done = driver.result()
        assert (done.outcome, done.body) == (OK, b"hi")
        assert done.first_byte_ns > final_ns
    assert server.requests == [GET]


def test_no_answer_in_time_is_a_timeout_of_that_request_alone(driver: Driver) -> None:
    with serving(driver, [Read(), Tell("asked")], [Read(), CLOSE], [Read(), OTHER]) as server:
        driver.start(POST)
        server.reached("asked")
        driver.do("expire")
        done = driver.result()
        assert (done.outcome, done.head.status, done.first_byte_ns) == (TIMEOUT, 0, 0)
        assert done.problem.startswith(PROBLEM_TIMEOUT)
        assert driver.exchange(NEXT).outcome == RESET  # and no timeout of its own
        assert driver.exchange(NEXT).body == b"other"
        assert driver.counters() == (0, 0, 0)
    assert server.requests == [POST, NEXT, NEXT]


def test_a_plain_connection_watches_its_own_deadline() -> None:
    driver = Driver()
    with serving(driver, [Read()], timeout_s=0.05) as server:
        assert driver.exchange(GET).outcome == TIMEOUT
    assert server.requests == [GET]


def test_a_server_that_takes_no_bytes_is_a_timeout() -> None:
    driver = Driver()
    with serving(driver, [Wait("end")], timeout_s=0.05) as server:
        done = driver.exchange(UPLOAD)
        assert (done.outcome, done.problem.partition(":")[0]) == (TIMEOUT, PROBLEM_TIMEOUT)
        server.tell("end")
    assert server.requests == []


@pytest.mark.parametrize("reply, outcome, body", [
    (HI, OK, b"hi"),
    (CHUNKED + b"\r\n2\r\nhi\r\n0\r\n\r\n", OK, b"hi"),
    (ok(b"Content-Length: 5"), TIMEOUT, b""),
    (ok(b"X: 1"), TIMEOUT, b""),  # a body until the end: its end is the client's own
    (b"HTTP/1.1 103 x\r\n\r\n", TIMEOUT, b""),
])  # fmt: skip
def test_what_arrived_before_the_expiry_counts(driver: Driver, reply: bytes, outcome: int, body: bytes) -> None:
    with serving(driver, [Read(), OTHER, Read(), reply], [Read(), OTHER, Read(), HI]) as server:
        assert driver.exchange(GET).outcome == OK
        driver.do("expire when readable")
        done = driver.exchange(POST)
        assert (done.outcome, done.body, done.reused) == (outcome, body, 1)
        after = driver.exchange(NEXT)
        assert (after.outcome, after.reused) == (OK, 0)
        assert driver.exchange(NEXT).reused == 1  # the new connection is as good as any
        assert driver.counters() == (0, 0, 0)
    assert server.requests == [GET, POST, NEXT, NEXT]


def test_an_expiry_between_two_requests_touches_neither(driver: Driver) -> None:
    with serving(driver, [Read(), HI, Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == OK
        driver.do("expire")
        done = driver.exchange(NEXT)
        assert (done.outcome, done.body, done.reused) == (OK, b"other", 1)
    assert server.requests == [GET, NEXT]


def test_an_expiry_after_a_failure_touches_no_new_connection(driver: Driver) -> None:
    with serving(driver, [Read(), CLOSE], [Read(), OTHER]) as server:
        assert driver.exchange(GET).outcome == RESET
        driver.do("open")
        driver.do("expire")
        assert driver.exchange(NEXT).body == b"other"
        assert driver.counters() == (0, 0, 0)
    assert (server.requests, server.connections) == ([GET, NEXT], 2)


def test_waiting_on_the_hub_leaves_nothing_behind(gevent_driver: GeventDriver) -> None:
    """A watcher that stays would wake the greenlet from whatever else it waits for later."""
    with serving(gevent_driver, [Read(), HI]):
        assert gevent_driver.exchange(GET).outcome == OK
        assert not gevent_driver.is_watched()


@pytest.mark.parametrize("side", ["read", "write"])
def test_a_client_that_sends_is_woken_from_both_sides(gevent_driver: GeventDriver, side: str) -> None:
    assert gevent_driver.is_woken(side)


def test_the_look_does_not_leave_the_greenlet(gevent_driver: GeventDriver) -> None:
    """With gevent's own poll others would run between the look and the first byte."""
    with serving(gevent_driver, [Read(), HI]):
        assert gevent_driver.exchange(GET).outcome == OK
        assert not gevent_driver.look_lets_others_run()


def test_the_late_answer_of_a_killed_request_never_meets_the_next(gevent_driver: GeventDriver) -> None:
    with serving(gevent_driver, [Read(), Tell("asked"), Wait("go"), HI], [Read(), OTHER]) as server:
        gevent_driver.start(GET)
        server.reached("asked")
        gevent_driver.kill()
        server.tell("go")
        done = gevent_driver.exchange(NEXT)
        assert (done.outcome, done.body, done.reused) == (OK, b"other", 0)
    assert server.requests == [GET, NEXT]


# ---- the ends of a connection are told apart


def test_nobody_listens(driver: Driver) -> None:
    with PortReservation() as reservation:
        driver.connect(reservation.port)
        done = driver.exchange(GET)
    assert (done.outcome, done.problem.partition(":")[0]) == (REFUSED, PROBLEM_REFUSED)
    assert (done.sent_ns, done.reused) == (0, 0)
    assert done.done_ns > 0


def test_a_full_accept_queue(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:  # two are in the queue, the others are not answered
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        driver.connect(listener.getsockname()[1], timeout_s=0.2)
        done = driver.exchange(GET)
        for one in waiting:
            one.close()
    assert (done.outcome, done.problem.partition(":")[0]) == (REFUSED, PROBLEM_NO_ACCEPT)


def test_a_reset_in_the_middle_of_the_body(driver: Driver) -> None:
    with serving(driver, [Read(), ok(b"Content-Length: 9"), Wait("seen"), RST]) as server:
        driver.start(GET)
        server.tell("seen")
        done = driver.result()
        assert (done.outcome, done.problem.partition(":")[0]) == (RESET, PROBLEM_CUT)
        assert done.first_byte_ns > 0
    assert server.requests == [GET]


# ---- the rest


def test_the_same_head_means_another_length_after_head(driver: Driver) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    script: list[Step] = [Read(), block + b"hi", Read(), block, Read(), block + b"yo"]
    with serving(driver, script) as server:
        bodies = [driver.exchange(ask, to_head=ask is HEAD).body for ask in (GET, HEAD, GET)]
        assert bodies == [b"hi", b"", b"yo"]
    assert (server.requests, server.connections) == ([GET, HEAD, GET], 1)


@pytest.mark.parametrize("size", [10, 60_000, 1_000_000])
@pytest.mark.parametrize("apart", [False, True])
def test_bodies_of_any_size_in_one_or_two_packets(driver: Driver, size: int, apart: bool) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    head = ok(b"Content-Length: %d" % size, b"x-lab-pid: 42", body=b"")
    reply: list[Step] = [head, body] if apart else [head + body]
    with serving(driver, [Read(), *reply, Read(), *reply]) as server:
        for reused in (0, 1):
            done = driver.exchange(GET)
            assert (done.outcome, done.body == body, done.head.pid, done.reused) == (OK, True, 42, reused)
    assert server.requests == [GET, GET]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on the loopback here")
def test_ipv6(driver: Driver) -> None:
    ask = build_request("GET", "/", "[::1]:8000")
    with serving(driver, [Read(), HI], host="::1") as server:
        assert driver.exchange(ask).body == b"hi"
    assert b"\r\nHost: [::1]:8000\r\n" in server.requests[0]


def test_a_name_with_two_addresses_finds_the_one_that_listens(driver: Driver) -> None:
    with serving(driver, [Read(), HI]) as server:
        driver.connect(server.port, host="localhost")
        assert driver.exchange(GET).body == b"hi"
