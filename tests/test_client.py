"""The HTTP client against rude little servers, and its framing against bytes cut anywhere."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.loadgen.client import HTTP_ERROR, OK, REFUSED, RESET, TIMEOUT, Connection
from lab.loadgen.framing import BadReply, ReplyParser, build_request
from lab.processes import PortReservation

GET = build_request("GET", "/", "localhost")
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-lab-pid: 77\r\n\r\nhi"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
)
REPLIES = {
    SMALL: (200, b"hi"),
    CHUNKED: (200, b"hello world"),
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, b""),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n": (304, b""),
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + SMALL: (200, b"hi"),
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\ncontent-length: 0\r\n\r\n": (302, b""),
}


@given(reply=st.sampled_from(list(REPLIES)), cuts=st.lists(st.integers(1, 120), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_reply(reply: bytes, cuts: list[int]) -> None:
    parser = ReplyParser()
    at, done = 0, False
    for cut in [*cuts, len(reply)]:
        piece = reply[at : at + cut]
        at += len(piece)
        if piece and not done:
            done = parser.feed(piece)
    if at < len(reply) and not done:
        done = parser.feed(reply[at:])
    assert done
    assert (parser.head.status, parser.body) == REPLIES[reply]
    assert parser.rest == b""


@pytest.mark.parametrize("garbage", [
    b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
])  # fmt: skip
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadReply):
        ReplyParser().feed(garbage)


def test_a_request_cannot_be_split_by_its_parts() -> None:
    for path in ("/a b", "no-slash", "/x\r\nEvil: 1"):
        with pytest.raises(ValueError):
            build_request("GET", path, "localhost")
    with pytest.raises(ValueError):
        build_request("GET", "/", "localhost", {"X": "1\r\nY: 2"})


@contextmanager
def server(behave: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """A server that calls ``behave`` with each connection and its number, on a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        for number in range(50):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(connection, number), daemon=True).start()

    def guarded(connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            behave(connection, number)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def answer_each(reply: bytes, pieces: int = 1) -> Callable[[socket.socket, int], None]:
    def behave(connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(65536):
            step = max(1, len(reply) // pieces)
            for at in range(0, len(reply), step):
                connection.sendall(reply[at : at + step])

    return behave


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_replies_in_pieces_are_never_mixed_up(pieces: int) -> None:
    with server(answer_each(SMALL, pieces)) as port:
        connection = Connection("127.0.0.1", port, 5.0)
        for index in range(20):
            done = connection.exchange(GET)
            assert (done.outcome, done.head.status, done.body, done.head.pid, done.reused) == (
                OK,
                200,
                b"hi",
                77,
                int(index > 0),
            )
            assert 0 < done.sent_ns <= done.first_byte_ns <= done.done_ns
        assert connection.reconnects == 0


def test_an_idle_connection_that_was_closed_is_reopened_and_counted() -> None:
    def once(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.sendall(SMALL)

    with server(once) as port:
        connection = Connection("127.0.0.1", port, 5.0)
        assert [connection.exchange(GET).outcome for _ in range(3)] == [OK, OK, OK]
        assert connection.reconnects == 2


def test_a_server_that_always_hangs_up_is_a_reset_and_not_a_loop() -> None:
    def hang_up(connection: socket.socket, number: int) -> None:
        connection.recv(65536)

    with server(hang_up) as port:
        assert Connection("127.0.0.1", port, 5.0).exchange(GET).outcome == RESET


def test_a_reply_that_ends_too_early_is_a_reset() -> None:
    def half(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    with server(half) as port:
        done = Connection("127.0.0.1", port, 5.0).exchange(GET)
        assert (done.outcome, done.head.status) == (RESET, 0)
        assert done.first_byte_ns > 0


def test_a_server_that_never_answers_is_a_timeout() -> None:
    def silent(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.recv(65536)

    with server(silent) as port:
        assert Connection("127.0.0.1", port, 0.2).exchange(GET).outcome == TIMEOUT


def test_nobody_listening_is_refused() -> None:
    with PortReservation() as reservation:
        assert Connection("127.0.0.1", reservation.port, 1.0).exchange(GET).outcome == REFUSED


def test_an_error_status_is_an_answer() -> None:
    with server(answer_each(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")) as port:
        done = Connection("127.0.0.1", port, 5.0).exchange(GET)
        assert (done.outcome, done.head.status) == (HTTP_ERROR, 429)


def test_bytes_after_the_reply_are_a_fault_of_the_server() -> None:
    with server(answer_each(SMALL + b"more")) as port:
        assert Connection("127.0.0.1", port, 5.0).exchange(GET).outcome == RESET
