"""What a target runs on and stands among: servers, events, neighbours.  Part of the words of ``lab.model``, which offers them too."""

from dataclasses import dataclass
from typing import Literal

from lab.words.modes import PASS, mode_of


@dataclass(frozen=True)
class Server:
    """The server configuration of a condition: a server by its name (``lab.target.servers``), its event loop and HTTP parser.

    ``gunicorn`` is its native asgi worker, ``options`` are extra arguments.
    """

    kind: str = "uvicorn"
    workers: int = 1
    loop: str = "uvloop"
    http: str = "httptools"
    options: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The server without its workers, what is not the default said: "uvicorn", "uvicorn asyncio", "uvicorn h11"."""
        usual = ("uvloop", "httptools")
        return " ".join([self.kind, *(one for one in (self.loop, self.http) if one not in usual)])


@dataclass(frozen=True)
class App:
    """An ASGI application and where it is: ``module`` is ``package.module:attribute``.

    Without a ``folder`` it is one of this repository.  An application of the user's is imported from its folder, by its own interpreter
    (``python``, a path; "" for the lab's).  ``factory``: the attribute is called to get the application.
    """

    module: str
    folder: str = ""
    python: str = ""
    factory: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happens to the system during the load, ``at_s`` after its start; stored and shaded on charts.

    ``kill`` and ``term`` send a signal to ``whom``: ``worker`` (the one with the most connections), ``querying`` (the one whose connection
    runs a statement now), ``child`` (a pool's process of the first), ``server`` (the whole tree), ``celery`` (the whole trees),
    ``celery_main`` (without the pool), ``celery_child`` (one pool process).  ``start`` starts the server or the Celery worker again.
    ``sql`` and ``redis`` run ``statement``.
    ``fault`` sets the fault proxy's mode to ``statement`` (a value of ``lab.words.modes``).
    """

    at_s: float
    action: Literal["kill", "term", "start", "sql", "redis", "fault"]
    whom: str = ""
    statement: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a fault that is no mode of the proxy."""
        if self.action == "fault":
            mode_of(self.statement)


@dataclass(frozen=True)
class Upstream:
    """The slow neighbour that a target calls: a real HTTP server of the lab that answers after ``delay_s``."""

    delay_s: float = 0.0


@dataclass(frozen=True)
class CeleryWorker:
    """A Celery worker of the variant's own ``celery_app``, started and supervised like a server."""

    concurrency: int = 1
    workers: int = 1
    pool: str = "prefork"
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proxy:
    """The fault proxy, where it stands (in front of the target, PostgreSQL, Redis or the upstream) and how it begins."""

    where: Literal["target", "postgres", "redis", "upstream"] = "target"
    mode: str = PASS

    def __post_init__(self) -> None:
        """Raises ValueError for what is no mode."""
        mode_of(self.mode)
