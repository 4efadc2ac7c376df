"""HTTP/1.1 replies out of bytes, after RFC 9112.  Pure; what arrives may be cut anywhere.

uvicorn sends head and body in two packets: whoever reads once mistakes the rest of one answer for the next (docs/method.md
section 1), so nothing here assumes how bytes are packed.  The reader is strict: where two readers could see two different
messages in the same bytes (a line that ends in LF alone, two lengths, a length beside chunks) it is a bad reply.
"""

import re
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

# A head beyond this is a fault, not a header; h11 and uvicorn stop at 64 KiB as well.  Trailers together have the same bound.
MAX_HEAD_BYTES = 65_536
# A chunk-size line holds a hexadecimal number and perhaps extensions; nginx stops far earlier.
MAX_CHUNK_LINE_BYTES = 4_096
# A body is kept in memory; no experiment needs a larger one, and an endless stream must not take the generator down.
MAX_BODY_BYTES = 256 * 1024 * 1024
# What fits into 64 bits with its sign; int() itself would refuse 4,300 digits.
MAX_DIGITS = 18

PID_HEADER = b"x-lab-pid"
TCHARS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110 section 5.6.2
HEX_DIGITS = b"0123456789abcdefABCDEF"
BLANK = b" \t"
END_OF_HEAD = b"\r\n\r\n"
# RFC 9112 section 5.2: a user agent replaces a folded line's break by a space.
FOLD = re.compile(rb"[ \t]*\r\n[ \t]+")


class BadReply(Exception):
    """The bytes are not an HTTP/1.1 response, or not one to this request."""


class Head(NamedTuple):
    """A response head.  ``length`` is the body's bytes, ``CHUNKED``, ``UNTIL_CLOSE`` or ``INTERIM``; ``pid`` the worker's (0 unknown)."""

    status: int
    length: int
    close: bool
    pid: int


CHUNKED = -1
UNTIL_CLOSE = -2
INTERIM = -3
NO_HEAD = Head(0, 0, True, 0)

_heads: dict[bytes, Head] = {}
"""Heads seen, parsed: servers repeat the same bytes for a second or more, and a look-up costs a twentieth of parsing.

Only replies to requests other than HEAD are in it: the same bytes mean another length there.  It is bounded in number and in bytes.
"""
MAX_HEADS = 512
MAX_REMEMBERED_BYTES = 2_048


def head_of(block: bytes, to_head: bool = False) -> Head:
    """``parse_head``, remembered.  Raises BadReply."""
    if to_head:
        return parse_head(block, True)
    known = _heads.get(block)
    if known is None:
        known = parse_head(block)
        if len(block) <= MAX_REMEMBERED_BYTES:
            if len(_heads) >= MAX_HEADS:
                _heads.clear()
            _heads[block] = known
    return known


def parse_head(block: bytes, to_head: bool = False) -> Head:
    """Parse a head (without the empty line that ends it).  ``to_head``: it answers a HEAD request.  Raises BadReply."""
    if _has_bare_lf(block) or block.count(b"\r") != block.count(b"\n") or b"\0" in block:
        raise BadReply(f"a bare line break or a NUL byte in the head {block[:60]!r}")
    first, _, rest = block.partition(b"\r\n")
    status = _status_of(first)
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    pid = 0
    for line in FOLD.sub(b" ", rest).split(b"\r\n") if rest else ():
        name, value = _field(line)
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"connection":
            options.append(value)
        elif name == PID_HEADER and value.isdigit() and len(value) <= MAX_DIGITS:
            pid = int(value)
    http_1_0 = first.startswith(b"HTTP/1.0")
    length, close = _body_of(status, lengths, codings, http_1_0, to_head)
    wanted = _members(options)
    close = close or b"close" in wanted or (http_1_0 and b"keep-alive" not in wanted)
    return Head(status, length, close, pid)


def _has_bare_lf(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")


def _status_of(line: bytes) -> int:
    """The status of a status line; the reason, and the space before it, may be missing."""
    if (
        not line.startswith(b"HTTP/1.") or not line[7:8].isdigit() or line[8:9] != b" "
        or not line[9:12].isdigit() or len(line) < 12 or line[12:13] not in (b"", b" ") or line[9:10] == b"0"
    ):  # fmt: skip
        raise BadReply(f"status line {line[:60]!r}")
    return int(line[9:12])


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name (in small letters) and value of a header line.  White space before the name or the colon is a fault (RFC 9112 2.2, 5.1)."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, TCHARS):
        raise BadReply(f"header line {line[:60]!r}")
    return name.lower(), value.strip(BLANK)


def _members(values: Sequence[bytes]) -> list[bytes]:
    """The members of a list that may be spread over several fields; empty members do not count (RFC 9110 section 5.6.1.2)."""
    return [member for part in b",".join(values).lower().split(b",") if (member := part.strip(BLANK))]


def _body_of(
    status: int, lengths: Sequence[bytes], codings: Sequence[bytes], http_1_0: bool, to_head: bool
) -> tuple[int, bool]:
    """Length of the body after RFC 9112 section 6.3, and whether it spoils the connection.  Raises BadReply."""
    length = _content_length(lengths)
    if status < 200:
        if status == 101:
            raise BadReply("status 101: an upgrade that nobody asked for")
        return INTERIM, False
    if status == 204:
        return 0, length > 0 or bool(codings)  # a promise of bytes that must not come: nobody knows what follows
    if to_head or status == 304:
        return 0, False
    if codings:
        # each of these is "faulty framing" in RFC 9112 section 6.1; codings but chunked were never asked for
        if lengths or http_1_0 or _members(codings) != [b"chunked"]:
            beside = " beside a content-length" if lengths else " in HTTP/1.0" if http_1_0 else ""
            raise BadReply(f"transfer-encoding {b', '.join(codings)[:60]!r}{beside}")
        return CHUNKED, False
    if length > MAX_BODY_BYTES:
        raise BadReply(f"a body of {length} bytes; the client keeps no more than {MAX_BODY_BYTES}")
    return length, length == UNTIL_CLOSE


def _content_length(values: Sequence[bytes]) -> int:
    """The one length that all fields and list members agree on, ``UNTIL_CLOSE`` without any.  Raises BadReply."""
    if not values:
        return UNTIL_CLOSE
    members = [member.strip(BLANK) for value in values for member in value.split(b",")]
    if not all(member.isdigit() and len(member.lstrip(b"0")) <= MAX_DIGITS for member in members):
        raise BadReply(f"content-length {b', '.join(values)[:60]!r}")
    numbers = {int(member[-MAX_DIGITS:]) for member in members}
    if len(numbers) > 1:
        raise BadReply(f"content-lengths that disagree: {b', '.join(values)[:60]!r}")
    return numbers.pop()


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
        if _has_bare_lf(self._buffer[self._at :]):
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
            _field(line)
        return True

    _STEPS: ClassVar[dict[str, Callable[["ReplyParser"], bool]]] = {
        "head": _read_head, "length": _read_length, "size": _read_chunk_size,
        "chunk": _read_chunk, "trailer": _read_trailer, "close": _read_rest,
    }  # fmt: skip
