"""A little HTTP server in a thread, as rude as a test wants it: it answers late, in another order, never, or closes."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PATIENCE_S = 30.0


@dataclass
class Asked:
    """One request as it came: ``connection`` counts the connections from 0, ``number`` the requests."""

    number: int
    connection: int
    method: str
    path: str
    headers: dict[str, str]

    @property
    def own(self) -> bool:
        """Whether the lab asked for itself."""
        return self.headers.get("x-lab-own") == "1"


@dataclass
class Answer:
    """What to say.  ``close`` ends the connection after it."""

    body: bytes = b"ok"
    status: int = 200
    pid: int = 4242
    close: bool = False

    @property
    def wire(self) -> bytes:
        """The bytes."""
        closing = "Connection: close\r\n" if self.close else ""
        head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.body)}\r\nx-lab-pid: {self.pid}\r\n{closing}\r\n"
        return head.encode() + self.body


Answering = Callable[[Asked], Awaitable[Answer | None]]


@dataclass
class LittleServer:
    """``answering`` says what to do with a request; None is no answer at all."""

    answering: Answering
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def load(self) -> list[Asked]:
        """The load's own requests."""
        return [one for one in self.asked if not one.own]

    def seen(self, at_least: int) -> int:
        """How many requests of the load have come, once so many have: what nobody waits for may be read late."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.load) < at_least and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(self.load)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        connection, self.connections = self.connections, self.connections + 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().rstrip("\r\n").split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(len(self.asked), connection, method, path, headers)
                self.asked.append(asked)
                answer = await self.answering(asked)
                if answer is None:
                    await reader.read()
                    break
                writer.write(answer.wire)
                await writer.drain()
                if answer.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@contextmanager
def little_server(answering: Answering) -> Iterator[LittleServer]:
    """The server on a port of its own, gone at the end."""
    loop = asyncio.new_event_loop()
    server = LittleServer(answering)
    listening = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=2048))
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def at_once(asked: Asked) -> Answer:
    """Answer."""
    return Answer()


async def never(asked: Asked) -> None:
    """Do not answer."""
