"""The parser against bytes cut anywhere and against h11; the client's time stamps; what it refuses to send."""

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.generator import client, framing
from lab.generator import heads as heads_module
from lab.generator.client import RECEIVE_BYTES, Connection
from lab.generator.exchange import OK, REFUSED, RESET
from lab.generator.framing import ReplyParser
from lab.generator.heads import MAX_HEADS, BadReply, head_of
from lab.generator.sockets import by_poll
from lab.generator.wire import build_request, check_url, resolve
from lab.words.errors import UsageError

GET = build_request("GET", "/", "localhost")
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-lab-pid: 77\r\n\r\nhi"

# the same examples each time, and no limit of time for any of them: a busy machine must not fail a test
steady = settings(derandomize=True, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

# ---------------------------------------------------------------- any valid reply, cut anywhere

names = st.sampled_from(["X-Request-Id", "Server", "vary", "Set-Cookie", "x-lab-pid"])
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
blank = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def heads(draw: st.DrawFn, framing_lines: Sequence[str], version: str = "HTTP/1.1") -> bytes:
    lines = [f"{draw(names)}:{draw(blank)}{draw(values)}{draw(blank)}" for _ in range(draw(st.integers(0, 3)))]
    lines += framing_lines
    if draw(st.booleans()):
        lines.append(
            "Connection: " + ", ".join(draw(st.lists(st.sampled_from(["close", "keep-alive", "x"]), min_size=1)))
        )
    if draw(st.booleans()):
        lines.append(f"X-Folded: a\r\n{draw(st.sampled_from([' ', chr(9)]))}b")
    status = draw(st.sampled_from([200, 201, 206, 301, 404, 429, 500, 503]))
    reason = draw(st.sampled_from([" OK", " ", " Not so good"]))
    return "\r\n".join([f"{version} {status}{reason}", *draw(st.permutations(lines))]).encode() + b"\r\n\r\n"


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    out, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, len(body) - at))
        extension = draw(st.sampled_from(["", ";a", ";a=1", ';q="x"']))
        out += (
            f"{size:{draw(st.sampled_from(['x', 'X', '04x']))}}{extension}\r\n".encode()
            + body[at : at + size]
            + b"\r\n"
        )
        at += size
    trailers = draw(st.sampled_from(["", "X-Sum: 1\r\n", "X-Sum: 1\r\nX-More: 2\r\n"]))
    return out + f"0\r\n{trailers}\r\n".encode()


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid reply that says where it ends, and its body."""
    body = draw(st.binary(max_size=60))
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 2])
    )
    if draw(st.booleans()):
        return interim + draw(heads(["Transfer-Encoding: chunked"])) + draw(chunked(body)), body
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.0"]))
    return interim + draw(heads([f"content-length: {len(body)}"], version)) + body, body


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    places = [0, *sorted({place % (len(data) + 1) for place in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(places) if a < b]


def parse(pieces: Sequence[bytes]) -> Any:
    """What the parser makes of the pieces: the reply, or the kind of its failure."""
    parser = ReplyParser()
    try:
        for index, piece in enumerate(pieces):
            if parser.feed(piece):
                rest = parser.rest + b"".join(pieces[index + 1 :])
                return parser.head, parser.head_block, parser.body, rest
    except BadReply:
        return "bad"
    return "unfinished"


@steady
@given(reply=replies(), cuts=st.lists(st.integers(0, 400), max_size=12), more=st.sampled_from([b"", b"more"]))
def test_any_cuts_give_the_same_reply(reply: tuple[bytes, bytes], cuts: list[int], more: bytes) -> None:
    data, body = reply
    whole = parse([data + more])
    assert whole[2:] == (body, more)
    assert parse(cut(data + more, cuts)) == whole
    assert parse([data[index : index + 1] for index in range(len(data))])[:3] == whole[:3]
    assert parse([data[:-1]]) == "unfinished"


@steady
@given(
    reply=replies(), cuts=st.lists(st.integers(0, 400), max_size=6), at=st.integers(0, 400),
    instead=st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"0", b"9", b"f", b";", b","]),
)  # fmt: skip
def test_a_damaged_reply_gives_the_same_verdict_however_it_is_cut(
    reply: tuple[bytes, bytes], cuts: list[int], at: int, instead: bytes
) -> None:
    data = reply[0]
    at %= len(data)
    damaged = data[:at] + instead + data[at + 1 :]
    pieces = cut(damaged, cuts)
    assert parse(pieces) == parse([damaged])


def by_h11(data: bytes) -> tuple[int, bytes, bool]:
    """Status, body and whether the connection ends, by h11."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    status, body = 0, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body, client.their_state is not h11.DONE
        elif event is h11.NEED_DATA:
            raise AssertionError("unfinished")


@steady
@given(reply=replies())
def test_it_reads_what_h11_reads(reply: tuple[bytes, bytes]) -> None:
    head, _, body, rest = parse([reply[0]])
    assert (head.status, body, head.close) == by_h11(reply[0])
    assert rest == b""


@steady
@given(reply=replies(), at=st.integers(0, 400), instead=st.binary(max_size=2))
def test_a_damaged_reply_is_refused_or_read_as_h11_reads_it(
    reply: tuple[bytes, bytes], at: int, instead: bytes
) -> None:
    data = reply[0]
    at %= len(data)
    damaged = data[:at] + instead + data[at + 1 :]
    try:
        expected: Any = by_h11(damaged)
    except h11.RemoteProtocolError:
        expected = "bad"
    except AssertionError:
        expected = "unfinished"
    seen = parse([damaged])
    if isinstance(seen, tuple):
        # h11 refuses more that has no bearing on where a message ends (control characters in values)
        assert expected == "bad" or expected == (seen[0].status, seen[2], seen[0].close)
    if seen == "unfinished":
        assert expected in ("unfinished", "bad")


def test_the_work_for_many_tiny_chunks_is_linear() -> None:
    """64 KiB of chunks of one byte in one piece: a buffer that is copied a chunk would copy 350 MB."""
    parser = ReplyParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    copies = CountingBytes(b"1\r\nx\r\n" * 10_000)
    parser.feed(copies)
    assert len(parser.body) == 10_000
    assert copies.sliced < 10 * len(copies)


class CountingBytes(bytes):
    """Counts the bytes that slices of it copy."""

    sliced = 0

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        self.sliced += len(got) if isinstance(got, bytes) else 1
        return got


def test_a_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (framing, heads_module):
        monkeypatch.setattr(module, "MAX_BODY_BYTES", 10)
    for head, piece in (
        (b"HTTP/1.1 200 OK\r\n\r\n", b"123456"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"6\r\n123456\r\n"),
    ):
        parser = ReplyParser()
        assert not parser.feed(head + piece)
        with pytest.raises(BadReply):
            parser.feed(piece)
    assert not ReplyParser().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    with pytest.raises(BadReply):
        ReplyParser().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")


@pytest.mark.parametrize(
    "value, pid",
    [(b"77", 77), (b" 77 \t", 77), (b"-1", 0), (b"7x", 0), (b"", 0), (b"9" * 18, 10**18 - 1), (b"9" * 30, 0)],
)
def test_a_pid_is_a_number_that_fits(value: bytes, pid: int) -> None:
    assert heads_module.parse_head(b"HTTP/1.1 200 OK\r\nx-lab-pid:" + value).pid == pid


def test_the_heads_that_are_remembered_are_bounded_and_right() -> None:
    heads_module._heads.clear()
    for n in range(3 * MAX_HEADS):
        block = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-lab-pid: %d" % n
        assert head_of(block) == head_of(block) == heads_module.Head(200, 5, False, n)
        assert head_of(block, True).length == 0
        assert head_of(block).length == 5
        assert len(heads_module._heads) <= MAX_HEADS
    head_of(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000)
    assert max(map(len, heads_module._heads)) < 10_000


# ---------------------------------------------------------------- the client over made-up sockets


class Wire:
    """A connection whose bytes come from a list; the instant of each read is kept."""

    def __init__(self, connection: Connection, pieces: Sequence[bytes | OSError]) -> None:
        self.sent: list[bytes] = []
        self.full = 0  # so many times nothing can be sent
        self.read_ns: list[int] = []
        self._pieces: Iterator[bytes | OSError] = iter(pieces)
        inside: Any = connection
        inside._socket = self
        inside._look = self.look
        inside._send, inside._recv = self.send, self.recv
        inside._wait = inside._wait_both = lambda: None

    def look(self, timeout_ms: int) -> list[int]:
        return []

    def send(self, data: bytes) -> int:
        if self.full:
            self.full -= 1
            raise BlockingIOError
        self.sent.append(bytes(data))
        return len(data)

    def recv(self, size: int) -> bytes:
        time.sleep(0)
        piece = next(self._pieces, b"")
        self.read_ns.append(time.monotonic_ns())
        if isinstance(piece, OSError):
            raise piece
        assert len(piece) <= size == RECEIVE_BYTES
        return piece

    def close(self) -> None:
        pass


@steady
@given(reply=replies(), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_the_client_reads_what_the_parser_reads(reply: tuple[bytes, bytes], cuts: list[int]) -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    seen = Wire(connection, cut(reply[0], cuts))
    done = connection.exchange(GET)
    assert (done.head, done.head_block, done.body, b"") == parse([reply[0]])
    assert seen.sent == [GET]
    assert done.problem == ""


@pytest.mark.parametrize("pieces, first", [
    ([SMALL], 0),
    ([SMALL[:-2], SMALL[-2:]], 0),
    ([SMALL[:5], SMALL[5:]], 0),
    ([b"HTTP/1.1 103 x\r\n\r\n", SMALL], 1),
    ([b"HTTP/1.1 103 x\r\n", b"\r\n", SMALL[:3], SMALL[3:]], 2),
    ([b"HTTP/1.1 103 x\r\n\r\nHTTP", SMALL[4:]], 0),
    ([b"HTTP/1.1 103 x\r\n", b"\r\n" + SMALL[:3], SMALL[3:]], 1),
    ([b"HTTP/1.1 103 x\r\n\r\n", b"HTTP/1.1 103 y\r\n\r\n", SMALL], 2),
])  # fmt: skip
def test_the_first_byte_is_the_final_answers(pieces: list[bytes], first: int) -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    seen = Wire(connection, pieces)
    done = connection.exchange(GET)
    later = [*seen.read_ns[first + 1 :], time.monotonic_ns()]
    assert done.outcome == OK
    assert done.sent_ns <= seen.read_ns[first] <= done.first_byte_ns <= later[0]
    assert seen.read_ns[-1] <= done.done_ns


def test_an_end_after_interim_answers_alone_has_no_first_byte() -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    Wire(connection, [b"HTTP/1.1 103 x\r\n\r\n", b""])
    done = connection.exchange(GET)
    assert (done.outcome, done.first_byte_ns) == (RESET, 0)


def test_a_read_that_finds_nothing_is_done_again() -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    Wire(connection, [BlockingIOError(), SMALL[:50], BlockingIOError(), SMALL[50:]])
    assert connection.exchange(GET).body == b"hi"


def test_of_several_addresses_the_one_that_works_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = tuple((socket.AF_INET, ("127.0.0.1", port)) for port in (1, 2, 3))
    tried: list[int] = []

    def connect(family: int, address: tuple[str, int], timeout_s: float) -> socket.socket:
        tried.append(address[1])
        if address[1] in refuse:
            raise ConnectionRefusedError
        return socket.socket()

    monkeypatch.setattr(client, "resolve", lambda host, port: addresses)
    monkeypatch.setattr(client, "connect", connect)
    connection, refuse = Connection("several.example", 1, 1.0), {1}
    for _ in range(2):
        connection.open()
        connection.close()
    assert tried == [1, 2, 2]
    refuse = {1, 2, 3}
    connection = Connection("several.example", 1, 1.0)
    assert connection.exchange(GET).outcome == REFUSED
    assert tried[3:] == [1, 2, 3]


class Mirror:
    """A socket that was given the very port that it connects to: the kernel connects it to itself."""

    def __init__(self) -> None:
        self.closed = False
        self.options: list[tuple[int, ...]] = []

    def connect(self, address: Any) -> None:
        self.address = address

    def getsockname(self) -> Any:
        return self.address

    def settimeout(self, timeout_s: float) -> None: ...

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def close(self) -> None:
        self.closed = True


def test_a_connection_to_itself_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, mirror = Connection("127.0.0.1", 40_000, 5.0), Mirror()
    monkeypatch.setattr(socket, "socket", lambda *kind: mirror)
    assert connection.exchange(GET).outcome == REFUSED
    assert mirror.closed
    assert mirror.options == [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ]  # else small requests wait for acknowledgements


def test_a_look_that_finds_nothing_after_all_keeps_the_connection() -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    seen = Wire(connection, [BlockingIOError(), SMALL])
    connection._look = lambda timeout_ms: [1]
    assert connection.exchange(GET).body == b"hi"
    assert (seen.sent, connection.reconnects, connection.unsolicited) == ([GET], 0, 0)


@pytest.mark.parametrize("again", [False, True])
def test_a_full_send_buffer_is_waited_for(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection("127.0.0.1", 1, 5.0)
    wires = [Wire(connection, [])] if again else []

    def connect() -> None:
        wires.append(Wire(connection, [BlockingIOError(), SMALL]))
        wires[-1].full = 2

    def reset(data: bytes) -> int:
        raise ConnectionResetError

    monkeypatch.setattr(connection, "_connect", connect)
    if again:
        connection._send = reset  # type: ignore[assignment]
    done = connection.exchange(GET)
    assert (done.outcome, done.body, connection.resent) == (OK, b"hi", int(again))
    assert wires[-1].sent == [GET]


@pytest.mark.parametrize("late_ns, calls", [(-1, 1), (-(10**9), 1), (60 * 10**9, 0)])
def test_a_deadline_that_has_passed_counts_though_there_is_more_to_read(late_ns: int, calls: int) -> None:
    """An endless stream is always readable."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"more")
        expired: list[int] = []
        ends = by_poll(ours, lambda: time.monotonic_ns() + late_ns, lambda: expired.append(1))
        ends.wait()
        ends.wait_both()
        assert len(expired) == 2 * calls


# ---------------------------------------------------------------- what goes out


@pytest.mark.parametrize("method, path, headers, body, wanted", [
    ("GET", "/a?b=c&d=%20[1]", None, None, b"GET /a?b=c&d=%20[1] HTTP/1.1\r\nHost: h:81\r\n\r\n"),
    ("GET", "/caf\xe9/\u65e5?q=\u20ac", None, None,
     b"GET /caf%C3%A9/%E6%97%A5?q=%E2%82%AC HTTP/1.1\r\nHost: h:81\r\n\r\n"),
    ("GET", "/%e9\xe9", None, None, b"GET /%e9%C3%A9 HTTP/1.1\r\nHost: h:81\r\n\r\n"),
    ("POST", "/", None, None, b"POST / HTTP/1.1\r\nHost: h:81\r\nContent-Length: 0\r\n\r\n"),
    ("DELETE", "/", None, None, b"DELETE / HTTP/1.1\r\nHost: h:81\r\n\r\n"),
    ("GET", "/", None, b"", b"GET / HTTP/1.1\r\nHost: h:81\r\nContent-Length: 0\r\n\r\n"),
    ("PATCH", "/", {"X-A": "1"}, b"ab", b"PATCH / HTTP/1.1\r\nHost: h:81\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("PROPFIND", "/", {"X": "caf\xe9 \t"}, None, b"PROPFIND / HTTP/1.1\r\nHost: h:81\r\nX: caf\xe9 \t\r\n\r\n"),
    ("GET", "/", {"host": "other", "Connection": "Close"}, None,
     b"GET / HTTP/1.1\r\nhost: other\r\nConnection: Close\r\n\r\n"),
])  # fmt: skip
def test_a_request_as_bytes(
    method: str, path: str, headers: dict[str, str] | None, body: bytes | None, wanted: bytes
) -> None:
    assert build_request(method, path, "h:81", headers, body) == wanted


@pytest.mark.parametrize("method, path, headers, reason", [
    ("GET", "/a b", {}, "spaces"),
    ("GET", "/caf\xe9 b", {}, "spaces"),
    ("GET", "no-slash", {}, "starts with /"),
    ("GET", "", {}, "starts with /"),
    ("GET", "*", {}, "starts with /"),
    ("GET", "http://other/", {}, "starts with /"),
    ("GET", "/a#b", {}, "fragment"),
    ("GET", "/x HTTP/1.1\r\nEvil: 1", {}, "control"),
    ("GET", "/x\n", {}, "control"),
    ("GET", "/x\x7f", {}, "control"),
    ("GET", "/x\x85", {}, "control"),
    ("GET", "/x\ud800", {}, "control"),
    ("GET /x", "/", {}, "method"),
    ("", "/", {}, "method"),
    ("CONNECT", "/", {}, "tunnels"),
    ("GET", "/", {"X": "1\r\nEvil: 2"}, "line breaks"),
    ("GET", "/", {"X": "1\nEvil: 2"}, "line breaks"),
    ("GET", "/", {"X": "1\n"}, "line breaks"),
    ("GET", "/", {"X": "1\x00"}, "control"),
    ("GET", "/", {"X": "\u20ac"}, "latin-1"),
    ("GET", "/", {"X: 1\r\nEvil": "2"}, "one word"),
    ("GET", "/", {"X ": "2"}, "one word"),
    ("GET", "/", {"": "2"}, "one word"),
    ("GET", "/", {"Host": "a", "host": "b"}, "has one"),
    ("POST", "/", {"content-length": "5"}, "from the body"),
    ("POST", "/", {"Transfer-Encoding": "chunked"}, "Content-Length"),
    ("POST", "/", {"Expect": "100-continue"}, "100-continue"),
    ("GET", "/", {"Upgrade": "websocket"}, "upgrades"),
    ("GET", "/", {"Connection": "Upgrade"}, "only close"),
    ("GET", "/", {"TE": "gzip"}, "transfer coding"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_with_the_reason(
    method: str, path: str, headers: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        build_request(method, path, "localhost", headers)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000", "http://127.0.0.1", "http://localhost:1/", "http://[::1]:80", "https://127.0.0.1/api"],
)
def test_an_address_that_the_client_can_speak_to(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url, reason", [
    ("ws://127.0.0.1", "WebSockets"),
    ("http+unix://%2Ftmp%2Fx.sock", "Unix sockets"),
    ("127.0.0.1:8000", "begins with http://"),
    ("localhost", "begins with http://"),
    ("ftp://127.0.0.1", "begins with http://"),
    ("http://", "host is missing"),
    ("http://:8000", "host is missing"),
    ("http://127.0.0.1:0", "port 0"),
    ("http://127.0.0.1:99999", "no address"),
    ("http://127.0.0.1:80a", "no address"),
    ("http://[::1", "no address"),
    ("http://[fe80::1%25eth0]:80", "zone"),
    ("http://127.0.0.1/?a=1", "after the base path"),
    ("http://127.0.0.1/#x", "after the base path"),
    ("http://127.0.0.1 :80", "spaces"),
    ("http://b\xfccher.example", "xn--"),
    ("http://no-such-host.invalid", "has no address"),
])  # fmt: skip
def test_an_address_that_it_cannot_is_refused_before_anything_starts(url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_url(url)


def test_a_refusal_does_not_print_a_password() -> None:
    with pytest.raises(UsageError, match="Authorization header") as refused:
        check_url("http://user:s3cret@127.0.0.1")
    assert "s3cret" not in str(refused.value)


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolve.cache_clear()
    try:
        check_url("http://target.example:9")
        for _ in range(3):
            Connection("target.example", 9, 1.0)
        assert resolve("target.example", 9) == ((socket.AF_INET, ("127.0.0.1", 9)),)
    finally:
        resolve.cache_clear()
    assert asked == ["target.example"]
