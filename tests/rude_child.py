"""The client on gevent, driven over standard input by ``tests.rude.GeventDriver``.  Started as ``python -m tests.rude_child``."""

import gevent.monkey

gevent.monkey.patch_all()

import base64  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from lab.generator.client import Connection  # noqa: E402
from lab.generator.sockets import by_hub  # noqa: E402
from tests.rude import PATIENCE_S, exchange_to, trick, until_broken  # noqa: E402


class Child:
    def __init__(self) -> None:
        self.connection: Any = None
        self.greenlet: Any = None

    def answer(self, order: dict[str, Any]) -> Any:
        return getattr(self, order.pop("what"))(**order)

    def connect(self, port: int, host: str, timeout_s: float) -> None:
        self.connection = Connection(host, port, timeout_s, cooperative=True)

    def start(self, request: str, to_head: bool) -> None:
        self.greenlet = gevent.spawn(self.connection.exchange, base64.b64decode(request), to_head=to_head)
        gevent.sleep(0)

    def result(self) -> list[Any]:
        self.greenlet.join(PATIENCE_S)
        return exchange_to(self.greenlet.get(block=False))

    def kill(self) -> None:
        self.greenlet.kill()

    def counters(self) -> list[int]:
        return [self.connection.reconnects, self.connection.unsolicited, self.connection.resent]

    def do(self, name: str) -> None:
        trick(self.connection, name)

    def is_watched(self) -> bool:
        return bool(self.connection._socket._read_event.active)

    def is_woken(self, side: str) -> bool:
        ours, theirs = gevent.socket.socketpair()
        with ours, theirs:
            ends = by_hub(ours)
            if side == "read":
                with suppress(BlockingIOError):
                    while True:
                        ends.send(bytes(65_536))
            waiting = gevent.spawn(ends.wait_both)
            gevent.sleep(0)
            if side == "read":
                theirs.send(b"an early answer")
            waiting.join(PATIENCE_S)
            woken = waiting.successful()
            waiting.kill()
        return woken

    def look_lets_others_run(self) -> bool:
        ran: list[int] = []
        gevent.spawn(ran.append, 1)
        self.connection._look(0)
        return bool(ran)

    def until_readable(self) -> None:
        assert select.select([self.connection._socket], [], [], PATIENCE_S)[0]

    def until_broken(self) -> None:
        until_broken(self.connection._socket.fileno())


def main() -> None:
    child, text = Child(), b""
    while True:
        gevent.socket.wait_read(0)
        read = os.read(0, 65_536)
        if not read:
            os._exit(0)
        text += read
        while b"\n" in text:
            line, _, text = text.partition(b"\n")
            sys.stdout.write(json.dumps(child.answer(json.loads(line))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
