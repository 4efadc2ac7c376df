"""HTTP/1.1 replies out of bytes, after RFC 9112.  Pure; what arrives may be cut anywhere.

uvicorn sends head and body in two packets: whoever reads once mistakes the rest of one answer for the next (docs/method.md
section 1), so nothing here assumes how bytes are packed.  The reader is strict: where two readers could see two different
messages in the same bytes (a line that ends in LF alone, two lengths, a length beside chunks) it is a bad reply.
"""

from collections.abc import Callable
from typing import ClassVar

from lab.generator.heads import (
    BLANK,
    CHUNKED,
    HEX_DIGITS,
    INTERIM,
    MAX_BODY_BYTES,
    NO_HEAD,
    UNTIL_CLOSE,
    BadReply,
    field_of,
    has_bare_lf,
    head_of,
)

# A head beyond this is a fault, not a header; h11 and uvicorn stop at 64 KiB as well.  Trailers together have the same bound.
MAX_HEAD_BYTES = 65_536
# A chunk-size line holds a hexadecimal number and perhaps extensions; nginx stops far earlier.
MAX_CHUNK_LINE_BYTES = 4_096

END_OF_HEAD = b"\r\n\r\n"


class ReplyParser:
    """One final response out of pieces: ``feed`` bytes until it says True, then read ``head``, ``head_block``, ``body``.

    Interim answers (100, 102, 103) are skipped.  ``rest`` is what arrived beyond the response; without pipelining anything
    there is a fault of the server.
    """

    __slots__ = (
        "_at",
        "_body",
        "_buffer",
        "_left",
        "_phase",
        "_room",
        "_to_head",
        "_trailer_room",
        "head",
        "head_block",
        "interim",
    )

    def __init__(self, to_head: bool = False) -> None:
        self._buffer = b""
        self._at = 0
        self._body: list[bytes] = []
        self._phase = "head"
        self._left = 0
        self._room = MAX_BODY_BYTES
        self._trailer_room = MAX_HEAD_BYTES
        self._to_head = to_head
        self.head = NO_HEAD
        self.head_block = b""
        self.interim = 0  # interim answers that have been skipped

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self._body)

    @property
    def rest(self) -> bytes:
        """Bytes after the end of the response."""
        return self._buffer[self._at :] if self._phase == "done" else b""

    @property
    def started(self) -> bool:
        """Whether a byte of the final answer has arrived; interim answers do not count."""
        return self._phase != "head" or bool(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True when the response is complete.  Raises BadReply."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._phase != "done":
            if not self._STEPS[self._phase](self):
                self._buffer = self._buffer[self._at :]
                self._at = 0
                return False
        return True

    def end(self) -> bool:
        """The server closed the connection: True if that completes the response."""
        if self._phase == "close":
            self._phase = "done"
        return self._phase == "done"

    def _read_head(self) -> bool:
        end = self._buffer.find(END_OF_HEAD, self._at)
        size = (end if end >= 0 else len(self._buffer)) - self._at
        if size > MAX_HEAD_BYTES:
            raise BadReply(f"a head of more than {MAX_HEAD_BYTES} bytes")
        if end < 0:
            self._check_unfinished_head()
            return False
        self.head_block = self._buffer[self._at : end]
        self._at = end + len(END_OF_HEAD)
        self.head = head_of(self.head_block, self._to_head)
        if self.head.length == INTERIM:
            self.interim += 1
            return self._at < len(self._buffer)  # the real one follows
        self._left = self.head.length
        self._phase = {CHUNKED: "size", UNTIL_CLOSE: "close", 0: "done"}.get(self._left, "length")
        return True

    def _check_unfinished_head(self) -> None:
        """What can never become a head is refused at once: nobody waits for the rest of it."""
        begin = self._buffer[self._at : self._at + 7]
        if not b"HTTP/1.".startswith(begin):
            raise BadReply(f"status line {self._buffer[self._at : self._at + 60]!r}")
        if has_bare_lf(self._buffer[self._at :]):
            raise BadReply("a line of the head ends in LF alone")

    def _take(self, size: int) -> int:
        """Move up to ``size`` bytes to the body; how many there were."""
        piece = self._buffer[self._at : self._at + size]
        if piece:
            self._at += len(piece)
            self._room -= len(piece)
            if self._room < 0:
                raise BadReply(f"a body of more than {MAX_BODY_BYTES} bytes")
            self._body.append(piece)
        return len(piece)

    def _read_length(self) -> bool:
        self._left -= self._take(self._left)
        if self._left:
            return False
        self._phase = "done"
        return True

    def _read_rest(self) -> bool:
        self._take(len(self._buffer))
        return False

    def _line(self, room: int) -> bytes | None:
        end = self._buffer.find(b"\n", self._at)
        if (end if end >= 0 else len(self._buffer)) - self._at > room:
            raise BadReply(f"a chunk line or trailer of more than {room} bytes")
        if end < 0:
            return None
        line = self._buffer[self._at : end]
        self._at = end + 1
        if line.find(b"\r") != len(line) - 1 or not line or b"\0" in line:
            raise BadReply(f"the end of line {line[:60]!r}")
        return line[:-1]

    def _read_chunk_size(self) -> bool:
        line = self._line(MAX_CHUNK_LINE_BYTES)
        if line is None:
            return False
        digits = line.partition(b";")[0].rstrip(BLANK)
        if not digits or digits.translate(None, HEX_DIGITS):
            raise BadReply(f"chunk size {line[:60]!r}")
        self._left = int(digits, 16)
        if self._left > self._room:
            raise BadReply(f"a body of more than {MAX_BODY_BYTES} bytes")
        self._phase = "chunk" if self._left else "trailer"
        return True

    def _read_chunk(self) -> bool:
        if self._left:
            self._left -= self._take(self._left)
            if self._left:
                return False
        after = self._buffer[self._at : self._at + 2]
        if not b"\r\n".startswith(after):
            raise BadReply(f"a chunk is followed by {after!r}")
        if len(after) < 2:
            return False
        self._at += 2
        self._phase = "size"
        return True

    def _read_trailer(self) -> bool:
        line = self._line(self._trailer_room)
        if line is None:
            return False
        folded = line[:1] in (b" ", b"\t") and self._trailer_room < MAX_HEAD_BYTES
        self._trailer_room -= len(line)
        if not line:
            self._phase = "done"
        elif not folded:
            field_of(line)
        return True

    _STEPS: ClassVar[dict[str, Callable[["ReplyParser"], bool]]] = {
        "head": _read_head, "length": _read_length, "size": _read_chunk_size,
        "chunk": _read_chunk, "trailer": _read_trailer, "close": _read_rest,
    }  # fmt: skip
