"""An answer as a user class sees it."""

import json as json_module
from typing import Any, NamedTuple

from lab.generator.exchange import HTTP_ERROR, Exchange
from lab.model import OUTCOMES

new_tuple = tuple.__new__  # a NamedTuple's own constructor is a Python function around it


class Reply(NamedTuple):
    """An answer.  ``status`` is 0 and ``error`` one of ``OUTCOMES`` where there was none."""

    status: int
    body: bytes
    head: bytes
    error: str
    latency_s: float

    def header(self, name: str) -> str:
        """A header's value, empty where it is missing."""
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == wanted:
                return value.strip().decode("latin-1")
        return ""

    def json(self) -> Any:
        """The body as JSON.  Raises ValueError."""
        return json_module.loads(self.body)


def reply_of(done: Exchange, begin_ns: int) -> Reply:
    """What became of a request that was begun at ``begin_ns``."""
    error = "" if done.outcome <= HTTP_ERROR else OUTCOMES[done.outcome]
    values = (done.head.status, done.body, done.head_block, error, (done.done_ns - begin_ns) / 1e9)
    return new_tuple(Reply, values)
