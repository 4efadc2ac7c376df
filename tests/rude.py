"""A small server that misbehaves by a script, and two ways to drive the client against it: here, and in a child with gevent."""

import base64
import json
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from lab.generator.client import Connection
from lab.generator.exchange import Exchange

ROOT = Path(__file__).parent.parent
# Only where something hangs: every wait of the tests ends by then.
PATIENCE_S = 30.0


class Read(NamedTuple):
    """Read one request to its end, or only so many bytes of it."""

    size: int = 0


class Pieces(NamedTuple):
    """Send in packets of so many bytes."""

    data: bytes
    size: int = 1


class Wait(NamedTuple):
    """Wait until the test says so (``server.tell``)."""

    name: str


class Tell(NamedTuple):
    """Say that this point is reached (``server.reached``)."""

    name: str


CLOSE = "close"  # FIN; RST where bytes were not read
RESET = "reset"  # RST
Step = Read | Pieces | Wait | Tell | bytes | str
Script = Sequence[Step]


class RudeServer:
    """Plays one script a connection, the last one for all further ones; then it reads on until the client closes.

    ``requests`` are the complete requests that arrived, in whatever state the connection was.
    """

    def __init__(self, scripts: Sequence[Script], host: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._scripts = scripts
        self._events: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # no upload fits into it unread
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _event(self, name: str) -> threading.Event:
        return self._events.setdefault(name, threading.Event())

    def tell(self, name: str) -> None:
        self._event(name).set()

    def reached(self, name: str) -> None:
        assert self._event(name).wait(PATIENCE_S), name

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._guarded, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, connection: socket.socket, script: Script) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE_S)
        with connection, suppress(OSError):
            self._play(connection, script)

    def _play(self, connection: socket.socket, script: Script) -> None:
        buffer = bytearray()
        for step in script:
            match step:
                case Read(size):
                    self._read(connection, buffer, size)
                case Pieces(data, size):
                    for at in range(0, len(data), size):
                        connection.sendall(data[at : at + size])
                case Wait(name):
                    assert self._event(name).wait(PATIENCE_S), name
                case Tell(name):
                    self._event(name).set()
                case bytes():
                    connection.sendall(step)
                case _:
                    if step == RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
        while self._read(connection, buffer, 0):
            pass

    def _read(self, connection: socket.socket, buffer: bytearray, size: int) -> bool:
        while (size and len(buffer) < size) or (not size and not self._whole(buffer)):
            data = connection.recv(65_536)
            if not data:
                return False
            buffer += data
        return True

    def _whole(self, buffer: bytearray) -> bool:
        """Take one complete request off the buffer."""
        head, end, _ = bytes(buffer[:65_536]).partition(b"\r\n\r\n")
        if not end:
            return False
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        size = len(head) + 4 + length
        if len(buffer) < size:
            return False
        self.requests.append(bytes(buffer[:size]))
        del buffer[:size]
        return True

    def finish(self) -> None:
        """Stop accepting and let every script end; the client has closed by now."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE_S)
        for event in list(self._events.values()):
            event.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class Driver:
    """The client's side, in this process.  ``start`` and ``result`` split an exchange, so that something can happen in between."""

    mode = "plain"

    def __init__(self) -> None:
        self._connection: Connection
        self._thread: threading.Thread
        self._done: list[Exchange] = []

    def connect(self, port: int, timeout_s: float = PATIENCE_S, host: str = "127.0.0.1") -> None:
        self._connection = Connection(host, port, timeout_s)

    def start(self, request: bytes, to_head: bool = False) -> None:
        self._done = []
        self._thread = threading.Thread(
            target=lambda: self._done.append(self._connection.exchange(request, to_head=to_head))
        )
        self._thread.start()

    def result(self) -> Exchange:
        self._thread.join(PATIENCE_S)
        return self._done[0]

    def exchange(self, request: bytes, to_head: bool = False) -> Exchange:
        self.start(request, to_head)
        return self.result()

    def counters(self) -> tuple[int, int, int]:
        """Reconnects, unsolicited, resent."""
        return self._connection.reconnects, self._connection.unsolicited, self._connection.resent

    def do(self, what: str) -> None:
        """One of the ``TRICKS``, or a method of the connection."""
        trick(self._connection, what)

    def until_readable(self) -> None:
        """Return when something has arrived on the idle connection."""
        assert select.select([self._connection._socket], [], [], PATIENCE_S)[0]

    def until_broken(self) -> None:
        """Return when the idle connection has been reset."""
        until_broken(self._connection._socket.fileno())

    def shut(self) -> None:
        self._connection.close()


def trick(connection: Any, what: str) -> None:
    """Change the connection so that a race has a known outcome."""
    if what == "blind":  # the server's end arrives between the look and the first byte
        connection._look = lambda timeout_ms: []
    elif what == "expire when readable":  # the answer is in the kernel, the watch strikes, then it is read
        wait = connection._wait

        def wait_and_expire() -> None:
            wait()
            connection.expire()

        connection._wait = wait_and_expire
    elif what == "wait for the reset after connecting":  # the server hangs up before the first byte
        connect = connection._connect

        def connect_and_wait() -> None:
            connect()
            until_broken(connection._socket.fileno())

        connection._connect = connect_and_wait
    else:
        getattr(connection, what)()


def until_broken(descriptor: int) -> None:
    """Return when the connection has been reset."""
    monkey = sys.modules.get("gevent.monkey")
    poller = (monkey.get_original("select", "poll") if monkey else select.poll)()
    poller.register(descriptor, 0)  # POLLERR and POLLHUP are always reported
    assert poller.poll(PATIENCE_S * 1000)


class GeventDriver(Driver):
    """The same in a child process, where the client runs as it does in production: gevent, cooperative."""

    mode = "gevent"

    def __init__(self) -> None:
        super().__init__()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.rude_child"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, what: str, **options: Any) -> Any:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps({"what": what, **options}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "the child died"
        return json.loads(line)

    def connect(self, port: int, timeout_s: float = PATIENCE_S, host: str = "127.0.0.1") -> None:
        self._ask("connect", port=port, host=host, timeout_s=timeout_s)

    def start(self, request: bytes, to_head: bool = False) -> None:
        self._ask("start", request=base64.b64encode(request).decode(), to_head=to_head)

    def result(self) -> Exchange:
        return exchange_from(self._ask("result"))

    def counters(self) -> tuple[int, int, int]:
        reconnects, unsolicited, resent = self._ask("counters")
        return reconnects, unsolicited, resent

    def do(self, what: str) -> None:
        self._ask("do", name=what)

    def until_readable(self) -> None:
        self._ask("until_readable")

    def until_broken(self) -> None:
        self._ask("until_broken")

    def shut(self) -> None:
        self._ask("do", name="close")

    def kill(self) -> None:
        """Kill the greenlet that waits for its answer, as the drive does at the end of a load."""
        self._ask("kill")

    def is_watched(self) -> bool:
        """Whether the hub still watches the idle connection."""
        return bool(self._ask("is_watched"))

    def is_woken(self, side: str) -> bool:
        """Whether a wait for both sides ends where only this one is ready."""
        return bool(self._ask("is_woken", side=side))

    def look_lets_others_run(self) -> bool:
        """Whether another greenlet ran during a look."""
        return bool(self._ask("look_lets_others_run"))

    def stop(self) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(PATIENCE_S)
        self._child.stdout.close()


def exchange_to(done: Exchange) -> list[Any]:
    """An exchange as JSON."""
    plain: list[Any] = list(done)
    plain[6], plain[7] = (base64.b64encode(part).decode() for part in (done.head_block, done.body))
    return plain


def exchange_from(plain: list[Any]) -> Exchange:
    from lab.generator.heads import Head

    sent_ns, first_ns, done_ns, outcome, reused, head, block, body, problem = plain
    return Exchange(
        sent_ns,
        first_ns,
        done_ns,
        outcome,
        reused,
        Head(*head),
        base64.b64decode(block),
        base64.b64decode(body),
        problem,
    )


@contextmanager
def serving(
    driver: Driver, *scripts: Script, timeout_s: float = PATIENCE_S, host: str = "127.0.0.1"
) -> Iterator[RudeServer]:
    """A rude server with the driver's connection to it; at the end both are closed and all that arrived has been counted."""
    server = RudeServer(scripts, host)
    try:
        driver.connect(server.port, timeout_s, host)
        yield server
    finally:
        driver.shut()
        server.finish()
