"""What a target runs on and stands among: servers, events, neighbours.  Part of the words of ``lab.model``, which offers them too."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ServerKind: TypeAlias = Literal["uvicorn", "gunicorn", "gunicorn-uvicorn", "granian"]
LoopKind: TypeAlias = Literal["uvloop", "asyncio"]
HttpKind: TypeAlias = Literal["httptools", "h11"]
Service: TypeAlias = Literal["postgres", "redis", "upstream", "celery"]


@dataclass(frozen=True)
class Server:
    """The server configuration of a condition.  ``gunicorn`` is its native asgi worker, ``options`` are extra arguments."""

    kind: ServerKind = "uvicorn"
    workers: int = 1
    loop: LoopKind = "uvloop"
    http: HttpKind = "httptools"
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that happens to the system during the load, ``at_s`` after its start; stored and shaded on charts.

    ``kill`` and ``term`` send a signal to ``whom``: ``worker`` (the one with the most connections), ``querying`` (the one whose connection
    runs a statement now), ``child`` (a pool's process of the first), ``server`` (the whole tree), ``celery`` (the whole trees),
    ``celery_main`` (without the pool), ``celery_child`` (one pool process).  ``start`` starts the server or the Celery worker again.
    ``sql`` and ``redis`` run ``statement``.
    ``fault`` sets the fault proxy's mode to ``statement``.
    """

    at_s: float
    action: Literal["kill", "term", "start", "sql", "redis", "fault"]
    whom: str = ""
    statement: str = ""
    label: str = ""


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
    """The fault proxy and where it stands: in front of the target, PostgreSQL, Redis or the upstream."""

    where: Literal["target", "postgres", "redis", "upstream"] = "target"
    mode: str = "pass"
