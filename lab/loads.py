"""Load shapes: what is sent, when.  Part of the words of ``lab.model``, which offers them too."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class ClosedLoad:
    """``users`` who each send, wait for the answer, think, and send again.

    With ``requests`` the load ends after that many requests in total instead of after the condition's duration.
    ``reconnect`` opens a new TCP connection for every request.  ``spread`` (here and in the other shapes) spreads the connections evenly
    over the server's workers before the load starts: reopened until each worker has its share, bounded and recorded.
    """

    users: int
    think_s: float = 0.0
    requests: int | None = None
    reconnect: bool = False
    spread: bool = False
    shape: Literal["closed"] = "closed"

    def __post_init__(self) -> None:
        if self.spread and self.reconnect:
            raise ValueError(
                "ClosedLoad: spread deals the connections over the workers, reconnect gives them up; take one"
            )


@dataclass(frozen=True)
class OpenLoad:
    """Requests planned at instants that do not depend on the answers.

    They are handed to ``connections`` that are open at the start; where none is free a further one is opened.
    """

    rate_per_s: float
    arrivals: Literal["poisson", "uniform"] = "poisson"
    connections: int = 128
    spread: bool = False
    shape: Literal["open"] = "open"


@dataclass(frozen=True)
class Stage:
    """One step of a ``StagedLoad``."""

    rate_per_s: float
    duration_s: float


@dataclass(frozen=True)
class StagedLoad:
    """An open load whose rate changes in steps (overload and recovery)."""

    stages: tuple[Stage, ...]
    arrivals: Literal["poisson", "uniform"] = "poisson"
    connections: int = 256
    spread: bool = False
    shape: Literal["staged"] = "staged"


@dataclass(frozen=True)
class Burst:
    """``requests`` released at one instant on connections that are already open; ``repeats`` bursts, ``every_s`` apart."""

    requests: int
    repeats: int = 1
    every_s: float = 0.0
    spread: bool = False
    shape: Literal["burst"] = "burst"


@dataclass(frozen=True)
class Journey:
    """``users`` who each walk one sequence of requests once (the user class's ``journey`` method)."""

    users: int = 1
    spread: bool = False
    shape: Literal["journey"] = "journey"


Load: TypeAlias = ClosedLoad | OpenLoad | StagedLoad | Burst | Journey
