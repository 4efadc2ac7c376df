"""HTTP/1.1 on bytes: requests out, replies in.  Pure; what arrives may be cut anywhere.

Framing follows RFC 9112 section 6.3.  uvicorn sends head and body in two packets: whoever reads once mistakes the rest of
one answer for the next (method.md section 1), so nothing here assumes how bytes are packed.
"""

import json as json_module
from collections.abc import Mapping
from typing import Any, NamedTuple

# A head beyond this is a fault, not a header; h11 and uvicorn stop at 64 KiB as well.
MAX_HEAD_BYTES = 65_536
# A chunk-size line holds a hexadecimal number and perhaps extensions; nginx stops far earlier.
MAX_CHUNK_LINE_BYTES = 4_096

PID_HEADER = b"x-lab-pid"


class BadReply(Exception):
    """The bytes are not an HTTP/1.1 response."""


class Head(NamedTuple):
    """A response head.  ``length`` is the body's bytes, ``CHUNKED`` or ``UNTIL_CLOSE``; ``pid`` the worker's (0 unknown)."""

    status: int
    length: int
    close: bool
    pid: int


CHUNKED = -1
UNTIL_CLOSE = -2


def build_request(
    method: str, path: str, host: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request as bytes, on a connection that stays open.  Raises ValueError where a part would break the framing."""
    lines = [f"{method} {path} HTTP/1.1"]
    names = {name.lower() for name in headers} if headers else set()
    if "host" not in names:
        lines.append(f"Host: {host}")
    if headers:
        lines.extend(f"{name}: {value}" for name, value in headers.items())
    if body is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body or b'')}")
    head = "\r\n".join(lines)
    if (
        head.count("\n") != len(lines) - 1
        or head.count("\r") != len(lines) - 1
        or " " in path
        or not path.startswith("/")
    ):
        raise ValueError(
            f"request {method} {path!r}: a path starts with / and has no spaces, a header has no line breaks"
        )
    return head.encode("latin-1") + b"\r\n\r\n" + (body or b"")


def encode_json(value: Any) -> bytes:
    """A JSON body, compact."""
    return json_module.dumps(value, separators=(",", ":")).encode()


def parse_head(block: bytes, to_head: bool = False) -> Head:
    """Parse a head (without the empty line that ends it).  ``to_head``: it answers a HEAD request.  Raises BadReply."""
    first, _, rest = block.partition(b"\r\n")
    if len(first) < 12 or not first.startswith(b"HTTP/1.") or not first[9:12].isdigit() or first[8:9] != b" ":
        raise BadReply(f"status line {first[:60]!r}")
    status = int(first[9:12])
    length, chunked, pid = UNTIL_CLOSE, False, 0
    close = first.startswith(b"HTTP/1.0")
    for line in rest.split(b"\r\n") if rest else ():
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadReply(f"header line {line[:60]!r}")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            if not value.isdigit() or (length >= 0 and int(value) != length):
                raise BadReply(f"content-length {value[:60]!r}")
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = value.lower().rpartition(b",")[2].strip() == b"chunked"
            if not chunked:
                raise BadReply(f"transfer-encoding {value[:60]!r}")
        elif name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
            close = b"close" in tokens or (close and b"keep-alive" not in tokens)
        elif name == PID_HEADER and value.isdigit():
            pid = int(value)
    if to_head or status in (204, 304) or status < 200:
        length = 0
    elif chunked:
        length = CHUNKED
    return Head(status, length, close or length == UNTIL_CLOSE, pid)


class ReplyParser:
    """One response out of pieces: ``feed`` bytes until it says True, then read ``head``, ``head_block``, ``body``.

    ``rest`` is what arrived beyond the response; without pipelining anything there is a fault of the server.
    """

    __slots__ = ("_body", "_buffer", "_left", "_phase", "_size", "_to_head", "head", "head_block")

    def __init__(self, to_head: bool = False) -> None:
        self._buffer = b""
        self._body: list[bytes] = []
        self._phase = "head"
        self._left = 0
        self._size = 0
        self._to_head = to_head
        self.head = Head(0, 0, True, 0)
        self.head_block = b""

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self._body)

    @property
    def rest(self) -> bytes:
        """Bytes after the end of the response."""
        return self._buffer if self._phase == "done" else b""

    @property
    def started(self) -> bool:
        """Whether anything has arrived."""
        return bool(self._buffer) or self._phase != "head"

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True when the response is complete.  Raises BadReply."""
        self._buffer = self._buffer + data if self._buffer else data
        step = {"head": self._read_head, "length": self._read_length, "size": self._read_chunk_size,
                "chunk": self._read_chunk, "trailer": self._read_trailer, "close": self._read_rest}  # fmt: skip
        while self._phase != "done":
            if not step[self._phase]():
                return False
        return True

    def end(self) -> bool:
        """The server closed the connection: True if that completes the response."""
        if self._phase == "close":
            self._phase = "done"
        return self._phase == "done"

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadReply(f"a head of more than {MAX_HEAD_BYTES} bytes")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise BadReply(f"status line {self._buffer[:60]!r}")
            return False
        self.head_block = self._buffer[:end]
        self._buffer = self._buffer[end + 4 :]
        self.head = parse_head(self.head_block, self._to_head)
        if self.head.status < 200 and self.head.status != 101:
            return bool(self._buffer)  # an interim answer (100, 103): the real one follows
        self._left = self.head.length
        self._phase = {CHUNKED: "size", UNTIL_CLOSE: "close", 0: "done"}.get(self._left, "length")
        return True

    def _take(self, phase_after: str) -> bool:
        piece = self._buffer[: self._left]
        self._buffer = self._buffer[len(piece) :]
        self._left -= len(piece)
        if piece:
            self._body.append(piece)
        if self._left:
            return False
        self._phase = phase_after
        return True

    def _read_length(self) -> bool:
        return self._take("done")

    def _read_rest(self) -> bool:
        if self._buffer:
            self._body.append(self._buffer)
            self._buffer = b""
        return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0 or end > MAX_CHUNK_LINE_BYTES:
            if len(self._buffer) > MAX_CHUNK_LINE_BYTES:
                raise BadReply(f"a chunk line of more than {MAX_CHUNK_LINE_BYTES} bytes")
            return None
        line = self._buffer[:end]
        self._buffer = self._buffer[end + 2 :]
        return line

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise BadReply(f"chunk size {line[:60]!r}")
        self._size = self._left = int(digits, 16)
        self._phase = "chunk" if self._left else "trailer"
        return True

    def _read_chunk(self) -> bool:
        if self._left and not self._take("chunk"):
            return False
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadReply(f"a chunk of {self._size} bytes is followed by {self._buffer[:2]!r}")
        self._buffer = self._buffer[2:]
        self._phase = "size"
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._phase = "done"
        return True
