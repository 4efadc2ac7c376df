"""How many paths the router compares for a request, in ``x-lab-matches``: counts every match of a compiled path."""

import importlib
import re
from typing import Any

from . import PerRequest

COUNT = PerRequest("x-lab-matches")
wrap = COUNT.wrap


class CountedPath:
    """A compiled path that counts how often it is compared."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def match(self, path: str) -> re.Match[str] | None:
        """Compare, and count it for the request that is being routed."""
        COUNT.add()
        return self._pattern.match(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)


def prepare() -> None:
    """From here on every path that Starlette or FastAPI compiles is counted.  To be called before either is imported by the target."""
    routing = importlib.import_module(
        "starlette.routing"
    )  # by name: the lab itself knows no framework, the target's process does
    compile_path = routing.compile_path

    def counted(path: str) -> tuple[Any, ...]:
        pattern, *rest = compile_path(path)
        return (CountedPath(pattern), *rest)

    setattr(routing, "compile_path", counted)  # noqa: B010
