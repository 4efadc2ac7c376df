"""Under what a target is measured, and what is asked of it besides the load.  Part of the words of ``lab.model``, which offers them too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lab.words.loads import Load
from lab.words.surroundings import CeleryWorker, Event, Proxy, Server, Upstream

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Condition:
    """One cell of a sweep: load shape x server configuration x target parameters.

    ``params`` are what predictions and users read and what charts put on an axis; ``env`` is what the target reads.
    ``servers`` gives single variants another server than ``server``, where that is what the lesson is about.
    ``observers`` are what else is watched in the target, by the names of their files in ``lab/target/inside/observers``.
    ``quick`` says whether a quick run includes the cell; ``variants`` limits the arms (empty: all of them).  Conditions with the same
    ``trace`` (else each its own) replay the same arrivals and parameters.  ``cores`` (or as many as there are workers) is how many
    the target must have besides the generator's: where there are fewer, nothing is pinned and they share.  ``duet`` runs all arms of a
    pair at once, the requests dealt to them in random order within the same seconds (docs/verdicts.md): for what a fix costs when idle.
    ``services`` are needed under this condition besides the gotcha's (``lab/services``); where one cannot be had it is skipped.
    ``fault`` is the name of what goes wrong in a condition of the fault matrix (``lab.catalog.faults`` makes these).
    """

    label: str
    load: Load
    duration_s: float = 3.0
    warmup_s: float = 0.0
    server: Server = Server()
    servers: Mapping[str, Server] = field(default_factory=dict)
    params: Mapping[str, Scalar] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    setup_sql: str = ""
    events: tuple[Event, ...] = ()
    upstream: Upstream | None = None
    celery: CeleryWorker | None = None
    proxy: Proxy | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    observers: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    quick: bool = True
    quick_pairs: int | None = None
    control: bool = False
    forced: bool = False
    drain_s: float = 10.0
    trace: str = ""
    cores: int = 1
    duet: bool = False
    fault: str = ""
    services: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a duet of what happens at one instant or to the services, which no arm has for itself."""
        if self.duet and (self.load.bursts or self.events or self.celery):
            raise ValueError(
                f"{self.label}: a duet has no burst, no events and no Celery; run the arms one after another"
            )

    @property
    def workers(self) -> int:
        """Worker processes of the server."""
        return self.server.workers

    @property
    def cores_needed(self) -> int:
        """Cores that the target must have to itself: workers that share one take turns at accepting, and one of them may take all."""
        return max(self.cores, self.workers, *(server.workers for server in self.servers.values()))

    def server_of(self, variant: str) -> Server:
        """The server that a variant runs on."""
        return self.servers.get(variant, self.server)

    @property
    def key(self) -> str:
        """The label as a folder name, unique within a gotcha."""
        return re.sub(r"[^a-z0-9.=]+", "-", self.label.lower()).strip("-")

    def number(self, name: str) -> float:
        """A numeric parameter.  Raises KeyError where the condition has none of that name."""
        return float(self.params[name])


@dataclass(frozen=True)
class Probe:
    """One request with its expected answer, sent to every variant before and after the load.

    ``body`` is compared as JSON where given; ``ignore`` names top-level keys that may differ between variants.
    ``after`` False leaves it out after the load (a limiter has spent its quota by then).
    """

    path: str
    method: str = "GET"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: Any = None
    ignore: tuple[str, ...] = ()
    before: bool = True
    after: bool = True


@dataclass(frozen=True)
class FinalRead:
    """A number read after the load: ``sql`` (first column of the first row), a ``redis`` command, or a ``path`` and the ``pointer`` into its JSON."""

    name: str
    sql: str = ""
    redis: tuple[str, ...] = ()
    path: str = ""
    pointer: str = ""


@dataclass(frozen=True)
class Explained:
    """A request sent once after the load with auto_explain on: rows and buffers that its statements really touched.

    ``paths`` maps a variant to its request path.  ``level`` is where it stands on the sweep's axis.
    """

    name: str
    paths: Mapping[str, str]
    level: float
