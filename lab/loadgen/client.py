"""A lean keep-alive HTTP/1.1 client: one connection, one request at a time, five time stamps a request.

It runs on whatever ``socket.socket`` is (gevent's in the Locust child, a plain one in tests).  It never pipelines.
"""

import errno
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from lab.loadgen.framing import BadReply, Head, ReplyParser
from lab.model import OUTCOMES

OK, HTTP_ERROR, TIMEOUT, RESET, REFUSED, CENSORED = range(len(OUTCOMES))
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


class Connection:
    """A connection to one server.  ``reconnects`` counts reopened ones: a server may close an idle connection at any time."""

    def __init__(
        self, host: str, port: int, timeout_s: float, new_socket: Callable[[], socket.socket] | None = None
    ) -> None:
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._new_socket = new_socket or (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self._socket: socket.socket | None = None
        self._used = False
        self.reconnects = 0

    def open(self) -> None:
        """Connect if need be.  Raises OSError."""
        if self._socket is not None:
            return
        fresh = self._new_socket()
        try:
            fresh.settimeout(self._timeout_s)
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fresh.connect(self._address)
        except OSError:
            fresh.close()
            raise
        self._socket, self._used = fresh, False

    def close(self) -> None:
        """Close; the next exchange opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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

    def _attempt(self, request: bytes, to_head: bool) -> Exchange:
        reused = int(self._used and self._socket is not None)
        sent_ns = first_ns = 0
        parser = ReplyParser(to_head)
        try:
            self.open()
            assert self._socket is not None
            peer = self._socket
            sent_ns = monotonic_ns()
            peer.sendall(request)
            while True:
                data = peer.recv(RECEIVE_BYTES)
                if not first_ns and data:
                    first_ns = monotonic_ns()
                if not data:
                    if parser.end():
                        break
                    raise ConnectionResetError(errno.ECONNRESET, "closed before the end of the reply")
                if parser.feed(data):
                    break
        except TimeoutError:
            return self._failed(sent_ns, first_ns, TIMEOUT, reused, "timeout")
        except ConnectionRefusedError as error:
            return self._failed(sent_ns, first_ns, REFUSED, reused, str(error))
        except (OSError, BadReply) as error:
            return self._failed(sent_ns, first_ns, RESET, reused, str(error))
        done_ns = monotonic_ns()
        self._used = True
        head = parser.head
        if head.close or parser.rest:
            self.close()
        outcome = OK if head.status < 400 else HTTP_ERROR
        return Exchange(sent_ns, first_ns, done_ns, outcome, reused, head, parser.head_block, parser.body)

    def _failed(self, sent_ns: int, first_ns: int, outcome: int, reused: int, problem: str) -> Exchange:
        self.close()
        return Exchange(sent_ns, first_ns, monotonic_ns(), outcome, reused, NO_HEAD, b"", b"", problem)
