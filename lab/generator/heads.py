"""The head of an HTTP/1.1 reply out of its bytes, after RFC 9112 and RFC 9110: status, length of the body, whether the connection ends."""

import re
from collections.abc import Sequence
from typing import NamedTuple

# A body is kept in memory; no experiment needs a larger one, and an endless stream must not take the generator down.
MAX_BODY_BYTES = 256 * 1024 * 1024
# What fits into 64 bits with its sign; int() itself would refuse 4,300 digits.
MAX_DIGITS = 18
PID_HEADER = b"x-lab-pid"
TCHARS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110 section 5.6.2
HEX_DIGITS = b"0123456789abcdefABCDEF"
BLANK = b" \t"
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
    if has_bare_lf(block) or block.count(b"\r") != block.count(b"\n") or b"\0" in block:
        raise BadReply(f"a bare line break or a NUL byte in the head {block[:60]!r}")
    first, _, rest = block.partition(b"\r\n")
    status = _status_of(first)
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    pid = 0
    for line in FOLD.sub(b" ", rest).split(b"\r\n") if rest else ():
        name, value = field_of(line)
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


def has_bare_lf(data: bytes) -> bool:
    """Whether a line ends in LF alone."""
    return data.count(b"\n") != data.count(b"\r\n")


def _status_of(line: bytes) -> int:
    """The status of a status line; the reason, and the space before it, may be missing."""
    if (
        not line.startswith(b"HTTP/1.") or not line[7:8].isdigit() or line[8:9] != b" "
        or not line[9:12].isdigit() or len(line) < 12 or line[12:13] not in (b"", b" ") or line[9:10] == b"0"
    ):  # fmt: skip
        raise BadReply(f"status line {line[:60]!r}")
    return int(line[9:12])


def field_of(line: bytes) -> tuple[bytes, bytes]:
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
