"""Passwords of the services stay out of everything that is kept: records, logs, reasons.

A password that the lab made is random and replaced wherever it stands.  One that a user chose may be a common word, so it is replaced only
where an address holds it.
"""

import json
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "***"
_made: set[str] = set()
_addresses: set[str] = set()
_queries: set[str] = set()


def keep_secret(password: str) -> str:
    """Mask this password of ours from now on; returns it."""
    _made.add(password)
    return password


def keep_secret_in(url: str) -> None:
    """Mask the password of an address that the user gave, as it stands there and as programs may print it."""
    parts = urlsplit(url)
    if parts.password:
        _addresses.update(_forms(parts.password))
    for name, value in parse_qsl(parts.query):  # both libpq and redis-py take it from there too
        if name == "password":
            _queries.update(_forms(quote(value)))


def _forms(password: str) -> tuple[str, str, str]:
    return password, unquote(password), quote(unquote(password), safe="")


def redacted(text: str) -> str:
    """The text without passwords."""
    for password in _made:
        text = text.replace(password, MASK)
    for password in _addresses:
        for form in (password, json.dumps(password)[1:-1]):
            text = text.replace(f":{form}@", f":{MASK}@")
    for password in _queries:
        text = text.replace(f"password={password}", f"password={MASK}")
    return text


def redacted_bytes(data: bytes) -> bytes:
    """The same for what a file holds; bytes that are no text stay as they are."""
    return redacted(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
