"""The slow neighbour: a small asyncio HTTP/1.1 server that answers after a delay, and how the lab starts it.

``GET /anything`` answers ``{"item": "anything", "price": 4200}`` after ``--delay`` seconds (``?delay=`` in the request overrides it);
``GET /__stats`` answers at once with the requests and connections counted so far, and with what POSTs have done: ``effects`` (one for each
POST, or for each ``Idempotency-Key`` where it has one, as a payment or mail provider keeps its books) and ``repeated_effects``, those of a
body that was seen before.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BACKLOG = 2048


class Upstream:
    """Counts requests and connections and answers each after the delay."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.requests = 0
        self.connections = 0
        self.effects = 0
        self._keys: set[bytes] = set()
        self._bodies: set[bytes] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection until it is closed."""
        self.connections += 1
        peer: socket.socket = writer.get_extra_info("socket")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio leaves it unset on some listeners
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _content_length(head)
                body = await reader.readexactly(length) if length else b""
                writer.write(await self._answer(head, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, sent: bytes) -> bytes:
        target = head.split(b" ", 2)[1].decode("latin-1")
        parts = urlsplit(target)
        if parts.path == "/__stats":
            repeated = self.effects - len(self._bodies)
            counts = {
                "requests": self.requests,
                "connections": self.connections,
                "effects": self.effects,
                "repeated_effects": repeated,
            }
            body = json.dumps(counts).encode()
        else:
            self.requests += 1
            if head.startswith(b"POST "):
                self._act(head, sent)
            asked = parse_qs(parts.query).get("delay")
            await asyncio.sleep(float(asked[0]) if asked else self.delay_s)
            body = json.dumps({"item": parts.path.strip("/").split("/")[-1], "price": 4200}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def _act(self, head: bytes, sent: bytes) -> None:
        """What a POST does, once for each key: counted when it arrives, whether or not somebody waits for the answer."""
        key = _header(head, b"idempotency-key")
        if not key or key not in self._keys:
            self.effects += 1
            self._bodies.add(sent)
            self._keys |= {key} if key else set()


def _header(head: bytes, wanted: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == wanted:
            return value.strip()
    return b""


def _content_length(head: bytes) -> int:
    return int(_header(head, b"content-length") or 0)


async def _main(host: str, port: int, delay_s: float) -> None:
    server = await asyncio.start_server(Upstream(delay_s).serve, host, port, backlog=BACKLOG)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.close)
    async with server:
        with suppress(asyncio.CancelledError):
            await server.serve_forever()


@dataclass(frozen=True)
class RunningUpstream:
    """Where it listens."""

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def start_upstream(guard: "Guard", delay_s: float, folder: Path) -> Iterator[RunningUpstream]:
    """An upstream that listens, gone at the end.  Raises ServerError."""
    from lab.ports import PortReservation, is_listening
    from lab.processes import wait_until

    with PortReservation() as reservation:
        command = [
            sys.executable,
            "-m",
            "lab.services.upstream",
            "--port",
            str(reservation.port),
            "--delay",
            str(delay_s),
        ]
        root = Path(__file__).resolve().parent.parent.parent
        child = guard.spawn(command, env={**os.environ}, cwd=root, log_path=folder / "upstream.log", name="upstream")
        try:
            wait_until(lambda: is_listening(reservation.port), 10, child, "the upstream to listen")
            yield RunningUpstream(reservation.port)
        finally:
            child.stop(2.0)


if __name__ != "__main__":  # the server itself starts quicker without
    from lab.services.kind import ServiceKind

    KIND = ServiceKind("upstream", variable="UPSTREAM_URL", drivers=("httpx", "httpx2"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(_main(options.host, options.port, options.delay))
else:
    from lab.processes import Guard
