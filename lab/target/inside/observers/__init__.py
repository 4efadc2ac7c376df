"""What a condition may have watched besides: one file each, named by ``Condition.observers``.

A file has ``prepare()``, called before the application is imported, and ``wrap(app)``, which gives the application that is served.  An observer
costs what it costs, so no claim about times is made where one is on.  What it counts for a request stands in a header of the answer, where
the scenario's user class reads it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


class PerRequest:
    """A count for each request, and the header that tells it."""

    def __init__(self, header: str) -> None:
        self._header = header.encode()
        self._current: ContextVar[list[int] | None] = ContextVar(header, default=None)

    def add(self, n: int = 1) -> None:
        """Count for the request that is being answered in this context; nothing where there is none."""
        count = self._current.get()
        if count is not None:
            count[0] += n

    def wrap(self, app: Application) -> Application:
        """An application whose answers name the count up to their first byte."""

        async def counted(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            count = [0]

            async def stamped(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    # A new message: an app may send the same one for each request.
                    message = {**message, "headers": [*message.get("headers", ()), (self._header, b"%d" % count[0])]}
                await send(message)

            token = self._current.set(count)
            try:
                await app(scope, receive, stamped)
            finally:
                self._current.reset(token)

        return counted
