"""A lean keep-alive HTTP/1.1 client: one connection, one request at a time, five time stamps a request.

It runs on whatever ``socket.socket`` is (gevent's in the Locust child, a plain one in tests).  It never pipelines, and it sends a
request once: again only where not one byte of it had left.  What it does not speak is refused by ``lab.generator.wire``.
"""

import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from lab.generator.exchange import (
    BAD_FRAMING,
    HTTP_ERROR,
    OK,
    PROBLEM_CLOSED_IDLE,
    PROBLEM_CUT,
    PROBLEM_FRAMING,
    PROBLEM_NO_ACCEPT,
    PROBLEM_NO_ANSWER,
    PROBLEM_NOT_OPENED,
    PROBLEM_REFUSED,
    PROBLEM_TIMEOUT,
    REFUSED,
    RESET,
    TIMEOUT,
    Exchange,
)
from lab.generator.framing import END_OF_HEAD, ReplyParser
from lab.generator.heads import NO_HEAD, BadReply, Head, head_of
from lab.generator.sockets import by_hub, by_poll, connect, decrypting, encrypted, unacknowledged
from lab.generator.wire import resolve

RECEIVE_BYTES = 65_536
monotonic_ns = time.monotonic_ns
new_tuple = tuple.__new__  # a NamedTuple's own constructor is a Python function around it


class Connection:
    """A connection to one server.

    ``reconnects`` counts idle connections that the server had closed, ``unsolicited`` those that had bytes waiting which nobody had
    asked for: both are seen before anything is sent.  ``resent`` counts requests that were sent again because the kernel had taken
    not one byte of them.

    ``cooperative`` is for gevent's sockets: waiting goes through the hub, and timeouts are left to whoever watches ``deadline_ns``
    and calls ``expire``, because a timer for each wait would cost more than the wait.  Otherwise the client watches its own deadline.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float, *, cooperative: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        """With ``tls`` it is encrypted, and the certificate must be for the host.  Raises UsageError where the host has no address."""
        self._host, self._tls = host, tls
        self._addresses = resolve(host, port)
        self._timeout_s = timeout_s
        self._timeout_ns = int(timeout_s * 1e9)
        self._cooperative = cooperative
        self._socket: Any = None
        self._look: Callable[[int], object]
        self._send: Callable[[bytes | memoryview], int]
        self._recv: Callable[[int], bytes]
        self._wait: Callable[[], object]
        self._wait_both: Callable[[], object]
        self._used = 0
        self.opening = False  # from the beginning of a connect until it has succeeded or the exchange is over
        self._expired = False  # the request in flight ran out of time
        self._broken = False  # the connection serves no further request
        self.deadline_ns = 0
        self.broken_off_ns = 0  # when the exchange began to send that a kill has ended; 0 while it was connecting
        self.reconnects = 0
        self.unsolicited = 0
        self.resent = 0

    # ---- open and close

    def open(self) -> None:
        """Connect if need be; a connection that the server has closed meanwhile is reopened.  Raises OSError."""
        try:
            if self._socket is None:
                self._connect()
            elif self._look(0):
                self._renew()
        finally:
            self.opening = False

    def close(self) -> None:
        """Close; the next exchange opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def expire(self) -> None:
        """End a wait that has passed ``deadline_ns``: what has arrived is still read, then the exchange comes back with a timeout.

        Without an exchange in flight it does nothing: the next request is not touched.
        """
        if self.deadline_ns and self._socket is not None:
            self._expired = self._broken = True
            self.deadline_ns = 0
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        self.opening = True
        for address in self._addresses:
            try:
                fresh = connect(*address, self._timeout_s)
                if self._tls is not None:
                    fresh = encrypted(fresh, self._tls, self._host)
                break
            except OSError:
                if address == self._addresses[-1]:
                    raise
        self._addresses = (address,)  # the one that works stays: a host's addresses are not all tried each time
        if self._tls is not None:
            fresh.setblocking(False)
        ends = by_hub(fresh) if self._cooperative else by_poll(fresh, lambda: self.deadline_ns, self.expire)
        if self._tls is not None:
            ends = decrypting(ends, fresh)
        self._look, self._send, self._recv, self._wait, self._wait_both = ends
        self._socket, self._used, self.opening, self._broken = fresh, 0, False, False

    def _renew(self) -> None:
        """The look found something on an idle connection: bytes that nobody asked for, or its end."""
        try:
            waiting = self._recv(1)
        except BlockingIOError:
            return
        except OSError:
            waiting = b""
        if waiting:
            self.unsolicited += 1
        else:
            self.reconnects += 1
        self.close()
        self._connect()

    # ---- one exchange

    def exchange(self, request: bytes, *, to_head: bool = False) -> Exchange:
        """Send one request and read its reply.  Never raises for the network: ``outcome`` says what happened.

        The usual case is written out here, the whole reply in one or two pieces; everything else is ``_read_slowly``.
        """
        sent_ns = first_ns = 0
        try:
            idle = self._socket is not None
            if not idle:
                self._connect()
            elif self._look(0):
                self._renew()
                idle = False
            sent_ns = monotonic_ns()
            self.deadline_ns = sent_ns + self._timeout_ns
            try:
                sent = self._send(request)
            except OSError as error:
                sent = self._send_again(request, idle, error)
            if sent != len(request):
                return self._read_slowly(request, sent, b"", sent_ns, 0, to_head)
            self._wait()
            try:
                data = self._recv(RECEIVE_BYTES)
            except BlockingIOError:
                data = self._receive()
            if not data:
                raise _end_of_file()
            first_ns = done_ns = monotonic_ns()
            end = data.find(END_OF_HEAD)
            if end > 0:
                block = data[:end]
                head = head_of(block, to_head)
                whole = end + 4 + head.length
                if len(data) < whole:  # uvicorn sends head and body apart
                    data += self._receive()
                    done_ns = monotonic_ns()
                if len(data) == whole:  # never so where the length is not known: those are negative
                    return self._answered(sent_ns, first_ns, done_ns, head, block, data[end + 4 :])
            return self._read_slowly(request, sent, data, sent_ns, first_ns, to_head)
        except (OSError, BadReply) as error:
            return self._failed(request, sent_ns, first_ns, error)
        except BaseException:  # a greenlet that is killed: the late answer must not meet the next request
            self.broken_off_ns = sent_ns
            self._let_go()
            raise

    def _send_again(self, request: bytes, idle: bool, error: OSError) -> int:
        """The first send failed, not one byte was taken: on a connection that had been idle it is done again on a new one, once."""
        if isinstance(error, BlockingIOError):
            return 0
        if not idle:
            raise error
        self.close()
        self._connect()
        self.resent += 1
        try:
            return self._send(request)
        except BlockingIOError:
            return 0

    def _receive(self) -> bytes:
        while True:
            self._wait()
            try:
                return self._recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue

    def _read_slowly(
        self, request: bytes, sent: int, data: bytes | None, sent_ns: int, first_ns: int, to_head: bool
    ) -> Exchange:
        """The rest of an exchange that is not over after one or two pieces.  It reads while it sends: a server may answer early."""
        parser = ReplyParser(to_head)
        unsent = memoryview(request)[sent:]
        try:
            while True:
                if data:
                    at_ns, interim = monotonic_ns(), parser.interim
                    first_ns = first_ns or at_ns
                    whole = parser.feed(data)
                    if parser.interim != interim:  # whatever follows it has come with its last byte
                        first_ns = at_ns if parser.started else 0
                    if whole:
                        break
                if unsent:
                    data, unsent = self._send_and_receive(unsent)
                else:
                    data = self._receive()
                if data == b"":
                    if parser.end() and not self._expired:
                        break
                    raise _end_of_file()
            done_ns = monotonic_ns()
            if parser.rest:
                raise BadReply(f"{len(parser.rest)} bytes after the end of the reply")
        except (OSError, BadReply) as error:
            return self._failed(request, sent_ns, first_ns, error)
        if unsent:
            self._broken = True  # answered before the request was finished
        return self._answered(sent_ns, first_ns, done_ns, parser.head, parser.head_block, parser.body)

    def _send_and_receive(self, unsent: memoryview) -> tuple[bytes | None, memoryview]:
        """Send some more and take what has arrived meanwhile (None: nothing).  Raises OSError."""
        self._wait_both()
        try:
            unsent = unsent[self._send(unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # the server takes no more; its answer may be here already
            self._broken = True
            unsent = unsent[:0]
        try:
            return self._recv(RECEIVE_BYTES), unsent
        except BlockingIOError:
            return None, unsent

    # ---- what became of it

    def _answered(self, sent_ns: int, first_ns: int, done_ns: int, head: Head, block: bytes, body: bytes) -> Exchange:
        self.deadline_ns = 0
        reused, self._used = self._used, 1
        if head.close or self._broken:
            self._let_go()
        outcome = OK if 200 <= head.status < 300 else HTTP_ERROR
        return new_tuple(Exchange, (sent_ns, first_ns, done_ns, outcome, reused, head, block, body, ""))

    def _failed(self, request: bytes, sent_ns: int, first_ns: int, error: Exception) -> Exchange:
        done_ns, reused = monotonic_ns(), self._used
        outcome, word = self._outcome_of(request, first_ns, error)
        self._let_go()
        return Exchange(sent_ns, first_ns, done_ns, outcome, reused, NO_HEAD, b"", b"", f"{word}: {error}")

    def _outcome_of(self, request: bytes, first_ns: int, error: Exception) -> tuple[int, str]:
        if self.opening:
            if isinstance(error, TimeoutError):
                return REFUSED, PROBLEM_NO_ACCEPT
            if isinstance(error, ConnectionResetError):  # it was open: a refused handshake is a ConnectionRefusedError
                return RESET, PROBLEM_NO_ANSWER
            return REFUSED, PROBLEM_REFUSED if isinstance(error, ConnectionRefusedError) else PROBLEM_NOT_OPENED
        if isinstance(error, BadReply):
            return BAD_FRAMING, PROBLEM_FRAMING
        if self._expired or isinstance(error, TimeoutError):
            return TIMEOUT, PROBLEM_TIMEOUT
        if first_ns:
            return RESET, PROBLEM_CUT
        idle = self._used and self._socket is not None and unacknowledged(self._socket) >= len(request)
        return RESET, PROBLEM_CLOSED_IDLE if idle else PROBLEM_NO_ANSWER

    def _let_go(self) -> None:
        """The end of a connection, and of whatever was in flight on it."""
        self._expired, self.opening, self.deadline_ns = False, False, 0
        self.close()


def _end_of_file() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, "end of file")
