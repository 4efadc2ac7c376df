"""The servers, one file each: a file here with a ``SERVER`` is a server, nothing else lists them."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from lab.target.servers.kind import LOOP_PACKAGES, PARSER_PACKAGES, ServerKind
from lab.words.errors import UsageError

LOOPS = tuple(LOOP_PACKAGES)
PARSERS = tuple(PARSER_PACKAGES)


@cache
def kinds() -> dict[str, ServerKind]:
    """Every server by its name, in the order of their files."""
    modules = (import_module(f"{__name__}.{one.name}") for one in iter_modules(__path__))
    return {one.SERVER.name: one.SERVER for one in modules if hasattr(one, "SERVER")}


def kind_of(name: str) -> ServerKind:
    """The server of that name.  Raises UsageError that names those that there are."""
    if name not in kinds():
        raise UsageError(f"there is no server {name!r}", f"Servers: {', '.join(kinds())}.")
    return kinds()[name]
