"""A lean keep-alive HTTP/1.1 client: one connection, one request at a time, five time stamps a request.

It runs on whatever ``socket.socket`` is (gevent's in the Locust child, a plain one in tests).  It never pipelines.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lab.loadgen.framing import BadReply, Head, ReplyParser, parse_head
from lab.model import OUTCOMES

OK, HTTP_ERROR, TIMEOUT, RESET, REFUSED, CENSORED, BAD_FRAMING = range(len(OUTCOMES))
RECEIVE_BYTES = 65_536
monotonic_ns = time.monotonic_ns


class Exchange(NamedTuple):
    """One request and what became of it.  Times are CLOCK_MONOTONIC ns, 0 where it did not happen."""

    sent_ns: int
    first_byte_ns: int
    done_ns: int
    outcome: int
    reused: int
    head: Head
    head_block: bytes
    body: bytes
    problem: str = ""


NO_HEAD = Head(0, 0, True, 0)


_heads: dict[bytes, Head] = {}
"""Heads seen, parsed: servers repeat the same bytes for a second or more, and a look-up costs a twentieth of parsing."""
MAX_HEADS = 512
END_OF_HEAD = b"\r\n\r\n"


def _head_of(block: bytes, to_head: bool) -> Head:
    """``parse_head``, remembered.  Raises BadReply."""
    if to_head:
        return parse_head(block, to_head)
    known = _heads.get(block)
    if known is None:
        if len(_heads) >= MAX_HEADS:
            _heads.clear()
        known = _heads[block] = parse_head(block)
    return known


class Connection:
    """A connection to one server.  ``reconnects`` counts reopened ones: a server may close an idle connection at any time.

    ``cooperative`` is for gevent's sockets: it waits for readability before it reads (an answer is never there at once, so reading
    first would cost a system call and an exception a request), and it leaves timeouts to whoever watches ``deadline_ns`` and calls
    ``expire``, because a timer for each wait would cost more than the wait.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float, *, cooperative: bool = False,
        new_socket: Callable[[], socket.socket] | None = None,
    ) -> None:  # fmt: skip
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._timeout_ns = int(timeout_s * 1e9)
        self._cooperative = cooperative
        self._new_socket = new_socket or (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self._socket: Any = None
        self._send: Callable[[bytes], int]
        self._recv: Callable[[int], bytes]
        self._wait: Callable[[], object]
        self._used = False
        self._expired = False
        self.deadline_ns = 0
        self.reconnects = 0

    def open(self) -> None:
        """Connect if need be.  Raises OSError."""
        if self._socket is not None:
            return
        fresh: Any = self._new_socket()
        try:
            fresh.settimeout(self._timeout_s)
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fresh.connect(self._address)
        except OSError:
            fresh.close()
            raise
        if self._cooperative:
            raw, wait, event = fresh._sock, fresh._wait, fresh._read_event
            fresh.settimeout(None)
            self._send, self._recv, self._wait = raw.send, raw.recv, lambda: wait(event)
        else:
            self._send, self._recv, self._wait = fresh.send, fresh.recv, lambda: None
        self._socket, self._used = fresh, False

    def close(self) -> None:
        """Close; the next exchange opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def expire(self) -> None:
        """End a wait that has passed ``deadline_ns``: the exchange comes back with a timeout."""
        self._expired, self.deadline_ns = True, 0
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def exchange(self, request: bytes, *, to_head: bool = False) -> Exchange:
        """Send one request and read its reply.

        An idle connection that the server has closed meanwhile is reopened once and counted: nothing had been answered on it.
        Never raises for the network: ``outcome`` says what happened.
        """
        reused = self._socket is not None and self._used
        result = self._attempt(request, to_head)
        if reused and result.outcome == RESET and not result.first_byte_ns:
            self.reconnects += 1
            result = self._attempt(request, to_head)
        return result

    def _read_all(self, data: bytes, to_head: bool) -> tuple[Head, bytes, bytes]:
        """The rest of a reply that did not come in one piece.  Raises OSError, BadReply."""
        parser = ReplyParser(to_head)
        while not parser.feed(data):
            data = self._receive()
            if not data:
                if parser.end():
                    break
                raise ConnectionResetError(errno.ECONNRESET, "closed before the end of the reply")
        if parser.rest:
            raise BadReply(f"{len(parser.rest)} bytes after the end of the reply")
        return parser.head, parser.head_block, parser.body

    def _receive(self) -> bytes:
        while True:
            self._wait()
            try:
                return self._recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue

    def _send_all(self, request: bytes) -> None:
        try:
            sent = self._send(request)
        except BlockingIOError:
            sent = 0
        if sent != len(request):
            self._socket.sendall(request[sent:])

    def _attempt(self, request: bytes, to_head: bool) -> Exchange:
        reused = 1 if self._used and self._socket is not None else 0
        sent_ns = first_ns = 0
        try:
            if self._socket is None:
                self.open()
            sent_ns = monotonic_ns()
            self.deadline_ns = sent_ns + self._timeout_ns
            self._send_all(request)
            data = self._receive()
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed before the reply")
            first_ns = monotonic_ns()
            end = data.find(END_OF_HEAD)
            block = data[:end] if end > 0 else b""
            head = _head_of(block, to_head) if end > 0 else NO_HEAD
            # the usual case: the whole reply in one piece; everything else goes through the parser
            if head.length >= 0 and head.status >= 200 and len(data) == end + 4 + head.length:
                body = data[end + 4 :]
                done_ns = first_ns
            else:
                head, block, body = self._read_all(data, to_head)
                done_ns = monotonic_ns()
        except TimeoutError:
            return self._failed(sent_ns, first_ns, TIMEOUT, reused, "timeout")
        except ConnectionRefusedError as error:
            return self._failed(sent_ns, first_ns, REFUSED, reused, str(error))
        except (OSError, BadReply) as error:
            return self._failed(sent_ns, first_ns, TIMEOUT if self._expired else RESET, reused, str(error))
        self.deadline_ns = 0
        self._used = True
        if head.close:
            self.close()
        return Exchange(
            sent_ns, first_ns, done_ns, OK if head.status < 400 else HTTP_ERROR, reused, head, block, body, ""
        )

    def _failed(self, sent_ns: int, first_ns: int, outcome: int, reused: int, problem: str) -> Exchange:
        self.close()
        self._expired, self.deadline_ns = False, 0
        return Exchange(sent_ns, first_ns, monotonic_ns(), outcome, reused, NO_HEAD, b"", b"", problem)
