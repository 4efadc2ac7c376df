"""How many paths the router compares for a request: counts every match of a compiled path.  Runs in the target's process, before its app is imported.

Each answer names its count in the ``x-lab-matches`` header.  Counting costs more than matching, so a condition asks for it (``count_matches``)
and claims nothing about times.
"""

import importlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_counts: ContextVar[list[int] | None] = ContextVar("lab_matches", default=None)


class CountedPath:
    """A compiled path that counts how often it is compared."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def match(self, path: str) -> re.Match[str] | None:
        """Compare, and count it for the request that is being routed."""
        count = _counts.get()
        if count is not None:
            count[0] += 1
        return self._pattern.match(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)


def count_paths() -> None:
    """From here on every path that Starlette or FastAPI compiles is counted.  To be called before either is imported by the target."""
    routing = importlib.import_module(
        "starlette.routing"
    )  # by name: the lab itself knows no framework, the target's process does
    compile_path = routing.compile_path

    def counted(path: str) -> tuple[Any, ...]:
        pattern, *rest = compile_path(path)
        return (CountedPath(pattern), *rest)

    setattr(routing, "compile_path", counted)  # noqa: B010


class Counted:
    """An ASGI app that adds the count to each answer of the app inside."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass the request on with a count of its own."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        count = [0]

        async def stamped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                # A new message: an app may send the same one for each request.
                message = {**message, "headers": [*message.get("headers", ()), (b"x-lab-matches", b"%d" % count[0])]}
            await send(message)

        token = _counts.set(count)
        try:
            await self._app(scope, receive, stamped)
        finally:
            _counts.reset(token)
