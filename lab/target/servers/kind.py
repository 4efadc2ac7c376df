"""What every server file says of its server."""

from collections.abc import Callable
from dataclasses import dataclass

from lab.model import Server

KEEP_ALIVE_S = 75  # the defaults (uvicorn 5 s, gunicorn 2 s) would make a thinking user pay for reconnects

LOOP_PACKAGES = {"asyncio": "", "uvloop": "uvloop", "zuvloop": "zuvloop", "rloop": "rloop"}
"""The package of each event loop; "" for the standard library's.  zuvloop has wheels for CPython 3.14 and newer only."""

PARSER_PACKAGES = {"httptools": "httptools", "h11": "h11", "zttp": "zttp"}
"""The package of each HTTP parser that a server may be given."""


@dataclass(frozen=True)
class ServerKind:
    """One server.  ``arguments`` gives what follows ``python`` on its command line, for a ``Server``, an application and a port.

    ``loops`` and ``parsers`` are what it can be given; a server without ``parsers`` has ``own_parser``.  ``default_parser`` is what a loop
    comes with where nothing is asked for.  ``package`` is installed besides the loop's and the parser's.  ``replaces`` says whether a
    worker may die without the whole: a process above it goes on, with another in its place or with those that are left.
    """

    name: str
    package: str
    arguments: Callable[[Server, str, int], list[str]]
    loops: tuple[str, ...] = ("uvloop", "asyncio")
    parsers: tuple[str, ...] = ()
    own_parser: str = ""
    default_parser: Callable[[str], str] = lambda loop: "httptools"
    pairs: Callable[[Server], str] = lambda server: ""
    replaces: Callable[[Server], bool] = lambda server: True

    def parser(self, server: Server) -> str:
        """The HTTP parser in use."""
        return self.own_parser or server.http

    def unsupported(self, server: Server) -> str:
        """Why this configuration cannot run at all, or an empty string."""
        if server.loop not in self.loops:
            return f"it runs on {' or '.join(self.loops)}, not on {server.loop}"
        if self.own_parser and server.http != self.default_parser(server.loop):
            return f"it brings its own HTTP parser ({self.own_parser}): http cannot be chosen"
        if self.parsers and server.http not in self.parsers:
            return f"it parses with {' or '.join(self.parsers)}, not with {server.http}"
        return self.pairs(server)

    def requirements(self, server: Server) -> tuple[str, ...]:
        """The packages that this configuration needs besides the application's."""
        parser = "" if self.own_parser else PARSER_PACKAGES[server.http]
        return tuple(one for one in (self.package, LOOP_PACKAGES[server.loop], parser) if one)
