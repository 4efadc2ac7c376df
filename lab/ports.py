"""Loopback ports: is one taken, and how one is held until a server has it."""

import socket
import sys
from types import TracebackType
from typing import Self

from lab.words.errors import ServerError


def is_listening(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PortReservation:
    """A free loopback port, held by a bound socket that never listens until the server has taken it.

    Linux lets a server that sets SO_REUSEADDR bind the same port as long as nobody listens, while the kernel hands the port to
    nobody else: no race between finding a port and using it.
    """

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            raise ServerError(f"port {port} is taken: {error.strerror}", "Choose another with --port.") from error
        if port and is_listening(port):
            self._socket.close()
            raise ServerError(f"port {port} is taken: somebody listens on it", "Choose another with --port.")
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
