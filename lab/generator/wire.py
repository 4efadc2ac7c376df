"""What goes out: the address of a target, and requests as bytes.  What the client cannot speak is refused here, with the reason."""

import json as json_module
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from lab.words.errors import UsageError

SCHEMES = {
    "ws": "WebSockets are not supported; give an http:// address",
    "wss": "WebSockets are not supported; give an http:// address",
    "unix": "Unix sockets are not supported; let the server listen on TCP",
    "http+unix": "Unix sockets are not supported; let the server listen on TCP",
}
"""Schemes that somebody may well give, and why each is refused."""

PORTS = {"http": 80, "https": 443}

OWN_FIELDS = {
    "content-length": "the client sets it from the body",
    "transfer-encoding": "the client sends bodies with a Content-Length",
    "te": "the client decodes no transfer coding but chunked",
    "trailer": "the client sends no trailers",
    "expect": "Expect: 100-continue is not supported; the body is sent at once",
    "upgrade": "upgrades (WebSockets, h2c) are not supported",
    "http2-settings": "HTTP/2 is not supported",
}
"""Request headers that would change how the bytes are framed, and why each is refused."""

CONNECTION_OPTIONS = ("close", "keep-alive")
# RFC 9110 5.6.2: what a method and a header's name are made of.
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 5.5: visible characters, latin-1, spaces and tabs; no other control character.
FIELD_VALUE = re.compile(r"[\t -~\x80-\xff]*")
# RFC 9112 3.2.1, origin form.  Everything visible but a fragment: a load may send what a strict URL would not hold.
ORIGIN_FORM = re.compile(r"/[!\"$-~]*")
VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
METHODS_WITH_LENGTH = ("POST", "PUT", "PATCH")  # RFC 9110 8.6: they say "Content-Length: 0" where there is no body
USUAL_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

Address = tuple[socket.AddressFamily, Any]


def check_url(url: str) -> None:
    """Refuse a target that the client cannot speak to, before anything is started.  Raises UsageError with the reason."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{_shown(url)} is no address: {error}") from None
    reason = _refusal(url, parts, port)
    if reason:
        raise UsageError(f"{_shown(url)}: {reason}")
    resolve(str(parts.hostname), port or PORTS[parts.scheme])


def _refusal(url: str, parts: SplitResult, port: int | None) -> str:
    host = parts.hostname or ""
    checks = (
        (parts.scheme in SCHEMES, SCHEMES.get(parts.scheme, "")),
        (parts.scheme not in PORTS, "give an address that begins with http:// or https://"),
        (not url.isascii(), "give the host name in ASCII (xn--...)"),
        (any(not "!" <= letter <= "~" for letter in url), "an address has no spaces or control characters"),
        (not host, "the host is missing"),
        (parts.username is not None, "a user name or password in the address is not supported; send an Authorization header"),
        ("%" in host, "a zone or a percent sign in the host is not supported"),
        (port == 0, "port 0 is no port"),
        (bool(parts.query or parts.fragment), "the address ends after the base path; queries belong to the requests"),
    )  # fmt: skip
    return next((reason for fails, reason in checks if fails), "")


def _shown(url: str) -> str:
    """The URL for a message, without what may be a password."""
    return repr(re.sub(r"//[^/]*@", "//...@", url))


@lru_cache(maxsize=64)
def resolve(host: str, port: int) -> tuple[Address, ...]:
    """The addresses of a host in the order of the resolver, looked up once per process.  Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"host {host!r} has no address: {error}; check the name, or give a number") from None
    return tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))


def build_request(
    method: str, path: str, host: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request as bytes, on a connection that stays open.  Raises ValueError where a part is not HTTP or is not supported.

    A path may hold any letters: what is not ASCII goes out as percent-encoded UTF-8 (RFC 3986 section 2.5).
    """
    if method not in USUAL_METHODS:
        _check_method(method)
    if not ORIGIN_FORM.fullmatch(path):
        path = _encoded(method, path)
    fields = _fields(host, tuple(headers.items()) if headers else ())
    if body is not None or method in METHODS_WITH_LENGTH:
        body = body or b""
        return f"{method} {path} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")


def encode_json(value: Any) -> bytes:
    """A JSON body, compact."""
    return json_module.dumps(value, separators=(",", ":")).encode()


def _check_method(method: str) -> None:
    if not TOKEN.fullmatch(method):
        raise ValueError(f"method {method!r}: a method is one word (RFC 9110 section 9.1)")
    if method == "CONNECT":
        raise ValueError("method CONNECT: tunnels are not supported")


def _encoded(method: str, path: str) -> str:
    encoded = quote(path, safe=VISIBLE_ASCII) if path.isprintable() and " " not in path else path
    if not ORIGIN_FORM.fullmatch(encoded):
        raise ValueError(
            f"request {method} {path!r}: a path starts with / and has no spaces, control characters or fragment; "
            "percent-encode them"
        )
    return encoded


@lru_cache(maxsize=256)
def _fields(host: str, headers: tuple[tuple[str, str], ...]) -> str:
    """The header lines, checked; most loads send the same ones again and again."""
    own_host = any(name.lower() == "host" for name, _ in headers)
    lines = [] if own_host else [("Host", host)]
    lines.extend(headers)
    if sum(name.lower() == "host" for name, _ in lines) > 1:
        raise ValueError("header Host: a request has one (RFC 9112 section 3.2)")
    for name, value in lines:
        _check_field(name, str(value))
    return "".join(f"{name}: {value}\r\n" for name, value in lines)


def _check_field(name: str, value: str) -> None:
    lower = name.lower()
    if not TOKEN.fullmatch(name):
        raise ValueError(f"header {name!r}: a header's name is one word of ASCII letters, digits and dashes")
    if not FIELD_VALUE.fullmatch(value):
        raise ValueError(f"header {name}: {value!r} has line breaks, control characters or letters beyond latin-1")
    if lower in OWN_FIELDS:
        raise ValueError(f"header {name}: {OWN_FIELDS[lower]}")
    if lower == "connection" and value.strip().lower() not in CONNECTION_OPTIONS:
        raise ValueError(f"header Connection: {value!r} is not supported, only close and keep-alive")
