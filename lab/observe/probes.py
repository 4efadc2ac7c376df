"""Probes and final reads over HTTP: one request at a time, on the standard library's client, away from the load generator."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lab.model import Probe
from lab.target.address import Address, address_of
from lab.words.record import ProbeSeen

TIMEOUT_S = 30.0
OWN = {"x-lab-own": "1"}
"""Every request of the lab's own says so: the wrapper counts it apart from the load."""
BODY_KEPT = 400


@dataclass(frozen=True)
class Answer:
    """A response: status (0 where there was none), body, and what went wrong instead of one."""

    status: int
    body: bytes
    problem: str = ""


def _connection(address: Address) -> http.client.HTTPConnection:
    if address.context is None:
        return http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    return http.client.HTTPSConnection(address.host, address.port, timeout=TIMEOUT_S, context=address.context)


def send(
    where: str | Address, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> Answer:
    """One request on a new connection.  Never raises: ``problem`` says what happened, a path that cannot be asked included."""
    address = address_of(where)
    try:
        connection = _connection(address)
    except OSError as error:  # certificates that cannot be read
        return Answer(0, b"", f"{type(error).__name__}: {error}")
    sent_headers = {"Connection": "close", **OWN, **address.headers, **(headers or {})}
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        sent_headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, address.base + path, body=data, headers=sent_headers)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(0, b"", f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _compare(probe: Probe, answer: Answer) -> str:
    if answer.problem:
        return f"no answer: {answer.problem}"
    if answer.status != probe.status:
        return f"status {answer.status}, expected {probe.status}: {answer.body[:BODY_KEPT]!r}"
    if probe.body is None:
        return ""
    try:
        got = json.loads(answer.body)
    except ValueError:
        return f"the body is not JSON: {answer.body[:BODY_KEPT]!r}"
    wanted = probe.body
    if isinstance(got, dict) and isinstance(wanted, dict):
        got = {key: value for key, value in got.items() if key not in probe.ignore}
        wanted = {key: value for key, value in wanted.items() if key not in probe.ignore}
    return "" if got == wanted else f"body {got!r}, expected {wanted!r}"


def run_probe(where: str | Address, probe: Probe, when: Literal["before", "after"]) -> ProbeSeen:
    """Send one probe and compare its answer with the expected one."""
    answer = send(where, probe.method, probe.path, probe.headers, probe.json)
    text = answer.body[:BODY_KEPT].decode("utf-8", "replace")
    return ProbeSeen(f"{probe.method} {probe.path}", when, answer.status, _compare(probe, answer), text)


def read_pointer(body: bytes, pointer: str) -> float:
    """The number at a JSON pointer (RFC 6901).  Raises ValueError saying what was there instead."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        raise ValueError(f"the body is not JSON: {body[:BODY_KEPT]!r}") from None
    for part in [_unescaped(one) for one in pointer.split("/") if one]:
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"{pointer!r} leads nowhere: no {part!r} in {value!r:.{BODY_KEPT}}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{pointer!r} holds {value!r:.{BODY_KEPT}}, not a number")
    return float(value)


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
