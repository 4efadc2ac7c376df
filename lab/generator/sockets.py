"""The client's sockets: connecting, the look at an idle connection, waiting by poll or on gevent's hub."""

import errno
import fcntl
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

TIOCOUTQ = 0x5411  # <asm-generic/ioctls.h>: bytes sent that the other side has not acknowledged
NS_PER_MS = 1_000_000
HUB_READ_WRITE = 3  # libev: 1 to read, 2 to write


class Ends(NamedTuple):
    """What can be done with an open socket, as functions: nothing is looked up twice a request.

    ``look(0)`` is true where something is there to read (bytes, the end of the stream, an error); it never waits.  ``send`` and
    ``recv`` never wait either.  ``wait`` returns when there may be something to read, ``wait_both`` to read or to send.
    """

    look: Callable[[int], object]
    send: Callable[[bytes | memoryview], int]
    recv: Callable[[int], bytes]
    wait: Callable[[], object]
    wait_both: Callable[[], object]


def connect(family: int, address: Any, timeout_s: float) -> Any:
    """A socket of whatever kind ``socket.socket`` is, connected.  Raises OSError."""
    fresh: Any = socket.socket(family, socket.SOCK_STREAM)
    try:
        fresh.settimeout(timeout_s)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fresh.connect(address)
        # the kernel may give a connection the very port that nobody listens on: it then talks to itself
        if fresh.getsockname() == address:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        fresh.close()
        raise
    return fresh


def encrypted(fresh: Any, context: ssl.SSLContext, host: str) -> Any:
    """The socket after its TLS handshake, within the time-out that it has.  Raises OSError (ssl.SSLError is one)."""
    try:
        return context.wrap_socket(fresh, server_hostname=host)
    except BaseException:
        fresh.close()
        raise


def decrypting(ends: "Ends", fresh: Any) -> "Ends":
    """The same for an encrypted socket: what its layer wants to wait for is what a plain one would block for.

    The layer reads one record at a time and ``recv`` takes all of it, so that nothing is left there that the file descriptor knows nothing of.
    """

    def send(data: bytes | memoryview) -> int:
        try:
            return int(fresh.send(data))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
            raise BlockingIOError(errno.EAGAIN, "the TLS layer waits") from wants

    def recv(count: int) -> bytes:
        try:
            return bytes(fresh.recv(count))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
            raise BlockingIOError(errno.EAGAIN, "the TLS layer waits") from wants
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    return ends._replace(send=send, recv=recv)


def by_poll(fresh: Any, deadline_ns: Callable[[], int], expire: Callable[[], None]) -> Ends:
    """Waiting by ``select.poll``, which calls ``expire`` when the deadline has passed.

    For plain sockets, and for gevent's where nobody else watches the deadline (``select.poll`` is gevent's there as well).
    """
    fresh.setblocking(False)

    def waiting_for(events: int) -> Callable[[], None]:
        poller = select.poll()
        poller.register(fresh.fileno(), events)

        def wait() -> None:
            left_ns = deadline_ns() - time.monotonic_ns()
            if left_ns <= 0 or not poller.poll(left_ns // NS_PER_MS + 1):
                expire()

        return wait

    return Ends(
        _look(fresh), fresh.send, fresh.recv, waiting_for(select.POLLIN), waiting_for(select.POLLIN | select.POLLOUT)
    )


def by_hub(fresh: Any) -> Ends:
    """Waiting on gevent's hub; the raw socket never blocks.

    ``hub.wait`` does the same as ``wait`` with a Waiter object around it, which costs more than the look does.
    """
    from gevent import getcurrent  # only here: without gevent's sockets the client needs no gevent

    raw, hub, event = getattr(fresh, "_sock", fresh), fresh.hub, fresh._read_event
    start, stop, switch = event.start, event.stop, hub.switch

    def wait() -> None:
        start(getcurrent().switch)
        try:
            switch()
        finally:
            stop()

    def wait_both() -> None:
        both = hub.loop.io(raw.fileno(), HUB_READ_WRITE)
        try:
            hub.wait(both)
        finally:
            both.close()

    return Ends(_look(fresh), raw.send, raw.recv, wait, wait_both)


def _look(fresh: Any) -> Callable[[int], object]:
    """A registered poll object: one system call, no exception where nothing is there.

    Peeking (MSG_PEEK) would raise BlockingIOError each time, and waits on a socket with a timeout.
    """
    # where gevent has patched select it must be the system's: the look must not leave the greenlet
    monkey = sys.modules.get("gevent.monkey")
    poller: Any = (monkey.get_original("select", "poll") if monkey else select.poll)()
    poller.register(fresh.fileno(), select.POLLIN)
    poll: Callable[[int], object] = poller.poll
    return poll


def unacknowledged(connection: Any) -> int:
    """Bytes that were sent and that the other side's kernel has not acknowledged (Linux; elsewhere unknown, 0)."""
    if sys.platform != "linux":
        return 0
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), TIOCOUTQ, bytes(4)))[0])
