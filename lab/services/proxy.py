"""A TCP fault proxy: small, seeded, bounded; between client and target, or target and service.

Modes, switched while it runs by a line on its control port (``mode MODE``, ``target HOST:PORT``, ``stats``):

    pass                    forward
    delay:MS                hold every chunk back for MS milliseconds in each direction
    drop_replies:P          forward the request; with probability P cut the connection when its reply comes back
    drop_first_replies:N    cut the next N connections in which a reply comes back
    cut                     close what is open and refuse further bytes
    stall                   accept and read nothing more
    refuse                  close each new connection at once
    swallow                 close what is open and leave attempts to connect without an answer, as a firewall that drops packets does
    answer_500              answer whatever is asked with an HTTP 500 and close
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.words.modes import MODES, mode_of

if TYPE_CHECKING:
    from lab.processes import Guard

CHUNK = 65536
BACKLOG = 1024
FILLERS = 4
"""More than enough for a queue of one, whatever else wants to connect."""
ERROR_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Proxy:
    """The state that all connections share."""

    seed: int
    mode: str = "pass"
    amount: float = 0.0
    target: tuple[str, int] = ("127.0.0.1", 0)
    connections: int = 0
    dropped: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    switched: Callable[[], None] = lambda: None
    """Told after each switch: the listener stops or goes on accepting."""

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.resumed = asyncio.Event()

    def set_mode(self, text: str) -> None:
        """Switch.  Raises ValueError for a text that is no mode."""
        mode = mode_of(text)
        self.mode, self.amount = mode.name, mode.amount
        self.resumed.set()
        self.resumed = asyncio.Event()
        if mode.name in ("cut", "swallow"):
            for writer in list(self.open):
                writer.transport.abort()
        self.switched()

    def drops(self) -> bool:
        """Whether this reply is to be lost."""
        if self.mode == "drop_first_replies" and self.amount >= 1:
            self.amount -= 1
            return True
        return self.mode == "drop_replies" and self.draw.random() < self.amount

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        """Carry bytes one way until the end; ``client`` is who asked, whichever way it is."""
        while chunk := await reader.read(CHUNK):
            while self.mode == "stall":
                await self.resumed.wait()
            if self.mode == "delay":
                await asyncio.sleep(self.amount / 1000)
            if self.mode == "answer_500" and not replies:
                self.dropped += 1
                client.write(ERROR_500)
                await client.drain()
                return
            if replies and self.drops():
                self.dropped += 1
                break
            writer.write(chunk)
            await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection."""
        self.connections += 1
        if self.mode in ("refuse", "cut"):
            writer.transport.abort()
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        for one in (writer, upstream):
            peer: socket.socket = one.get_extra_info("socket")
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open.add(one)
        ways = {
            asyncio.ensure_future(self._pump(reader, upstream, writer, replies=False)),
            asyncio.ensure_future(self._pump(upstream_reader, writer, writer, replies=True)),
        }
        _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for one in (writer, upstream):
            self.open.discard(one)
        upstream.transport.abort()
        if self.mode == "answer_500":
            writer.close()  # what was answered is still on its way
        else:
            writer.transport.abort()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The control connection: one command a line, one answer a line."""
        while line := (await reader.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            answer = "ok"
            try:
                if word == "mode":
                    self.set_mode(rest)
                elif word == "target":
                    host, _, port = rest.rpartition(":")
                    self.target = (host, int(port))
                elif word == "stats":
                    answer = json.dumps({"connections": self.connections, "dropped": self.dropped})
                else:
                    answer = f"unknown command {word!r}"
            except ValueError as error:
                answer = str(error)
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        writer.close()


@dataclass
class Listener:
    """The proxy's listening socket, which can stop answering at all: while the accept queue is full the kernel drops what wants to connect.

    Linux completes handshakes up to the backlog without asking the process, so a backlog of 0 and connections of our own that fill it
    (the kernel takes one more than the backlog) are what "no answer" needs.
    """

    proxy: Proxy
    listening: socket.socket
    accepting: asyncio.Task[None] | None = None
    fillers: list[socket.socket] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    def switched(self) -> None:
        """Stop or go on accepting, as the proxy's mode has it."""
        if self.proxy.mode == "swallow":
            self._stop()
        elif self.accepting is None:
            self._go_on()

    def _stop(self) -> None:
        if self.accepting is not None:
            self.accepting.cancel()
            self.accepting = None
        self.listening.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listening.getsockname())
            self.fillers.append(filler)

    def _go_on(self) -> None:
        for filler in self.fillers:
            filler.close()
        self.fillers.clear()
        self.listening.listen(BACKLOG)
        self.accepting = asyncio.ensure_future(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self.listening)
                accepted.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=accepted)
            except OSError:  # it went before it was met
                continue
            task = asyncio.ensure_future(self.proxy.serve(reader, writer))
            self.serving.add(task)
            task.add_done_callback(self.serving.discard)


async def _main(listen: int, control: int, seed: int, mode: str) -> None:
    proxy = Proxy(seed)
    listener = Listener(proxy, socket.create_server(("127.0.0.1", listen), backlog=BACKLOG))
    listener.listening.setblocking(False)
    proxy.switched = listener.switched
    proxy.set_mode(mode)
    commands = await asyncio.start_server(proxy.control, "127.0.0.1", control)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    listener.listening.close()
    commands.close()


@dataclass
class FaultProxy:
    """The lab's handle on a running proxy."""

    port: int
    control_port: int

    @property
    def url(self) -> str:
        """Its address for HTTP clients."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self, line: str) -> str:
        from lab.words.errors import ServerError

        with socket.create_connection(("127.0.0.1", self.control_port), timeout=5) as connection:
            connection.sendall(f"{line}\n".encode())
            answer = connection.makefile().readline().strip()
        if not answer or answer.startswith("unknown"):
            raise ServerError(f"fault proxy: {answer or 'no answer'}", f"Modes: {', '.join(MODES)}.")
        return answer

    def set_mode(self, mode: str) -> None:
        """Switch the mode.  Raises ServerError for an unknown one."""
        self._command(f"mode {mode}")

    def point_at(self, host: str, port: int) -> None:
        """Choose where connections go."""
        self._command(f"target {host}:{port}")

    def stats(self) -> dict[str, int]:
        """Connections accepted and replies dropped so far."""
        found: dict[str, int] = json.loads(self._command("stats"))
        return found


@contextmanager
def start_proxy(guard: "Guard", folder: Path, *, seed: int, mode: str) -> Iterator[FaultProxy]:
    """A proxy that listens, gone at the end.  Raises ServerError."""
    from lab.ports import PortReservation, is_listening
    from lab.processes import wait_until

    with PortReservation() as listen, PortReservation() as control:
        command = [
            sys.executable, "-m", "lab.services.proxy", "--listen", str(listen.port), "--control", str(control.port),
            "--seed", str(seed), "--mode", mode,
        ]  # fmt: skip
        root = Path(__file__).resolve().parent.parent.parent
        child = guard.spawn(command, env={**os.environ}, cwd=root, log_path=folder / "proxy.log", name="fault proxy")
        try:
            wait_until(
                lambda: is_listening(listen.port) and is_listening(control.port), 10, child, "the proxy to listen"
            )
            yield FaultProxy(listen.port, control.port)
        finally:
            child.stop(2.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag in ("--listen", "--control", "--seed"):
        parser.add_argument(flag, type=int, required=True)
    parser.add_argument("--mode", default="pass")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(options.listen, options.control, options.seed, options.mode))
