"""Load shapes: what is sent, when, and everything that is asked of a shape.  Part of the words of ``lab.model``, which offers them too.

A new shape is a class here and a method in ``lab/generator/drive.py`` that performs it; nothing else names the shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from lab.words.shapes import Arrivals, Shape, Stage, counted, part_of

BURST_MARGIN_S = 30.0
"""For the answers to a burst and what the user class does before it."""

JOURNEY_S = 2.0
"""What a journey takes, roughly; nobody knows before."""

ASKED_OTHERWISE = "asked_otherwise"
"""In ``observed``: the most requests that the scenario asked over connections of its own, of which there are no rows."""


@dataclass(frozen=True)
class ClosedLoad(Shape):
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

    @property
    def members(self) -> int:
        return self.users

    @property
    def by_clock(self) -> bool:
        return self.requests is None

    @property
    def population(self) -> int:
        return self.users

    @property
    def pause_s(self) -> float:
        return self.think_s

    @property
    def most_requests(self) -> int | None:
        return self.requests

    @property
    def fresh_connections(self) -> bool:
        return self.reconnect

    def shared(self, process: int, processes: int) -> "ClosedLoad":
        """The part of one generator process; the parts add up to the whole exactly."""
        requests = self.requests
        if requests is not None:
            before = sum(part_of(self.users, one, processes) for one in range(process))
            after = before + part_of(self.users, process, processes)
            requests = requests * after // self.users - requests * before // self.users
        return replace(self, users=part_of(self.users, process, processes), requests=requests)

    def words(self, duration_s: float) -> str:
        think = f", think {self.think_s:g} s" if self.think_s else ""
        end = f", {self.requests} requests in all" if self.requests else f", {duration_s:g} s"
        fresh = ", a new connection each time" if self.reconnect else ""
        return f"{counted(self.users, 'user')} in a loop{think}{end}{fresh}"

    @property
    def brief(self) -> str:
        think = f" thinking {self.think_s:g} s" if self.think_s else ""
        return f"{self.users} users{think}" + (f", {self.requests} requests" if self.requests else "")


class Planned(Shape):
    """A shape whose requests are planned at instants that do not depend on the answers."""

    arrivals: Arrivals
    connections: int
    is_open = True

    @property
    def spacing(self) -> Arrivals:
        return self.arrivals

    @property
    def members(self) -> int:
        return self.connections


@dataclass(frozen=True)
class OpenLoad(Planned):
    """Requests planned at instants that do not depend on the answers.

    They are handed to ``connections`` that are open at the start; where none is free a further one is opened.
    """

    rate_per_s: float
    arrivals: Arrivals = "poisson"
    connections: int = 128
    spread: bool = False
    shape: Literal["open"] = "open"

    def stages_over(self, duration_s: float) -> tuple["Stage", ...]:
        return (Stage(self.rate_per_s, duration_s),)

    def shared(self, process: int, processes: int) -> "OpenLoad":
        """The connections of one generator process; its arrivals are shared by ``Trace.share``."""
        return replace(self, connections=part_of(self.connections, process, processes))

    def words(self, duration_s: float) -> str:
        return f"{self.rate_per_s:g} requests/s, {self.arrivals} arrivals, {duration_s:g} s"

    @property
    def brief(self) -> str:
        return f"open {self.rate_per_s:g}/s {self.arrivals}"


@dataclass(frozen=True)
class StagedLoad(Planned):
    """An open load whose rate changes in steps (overload and recovery)."""

    stages: tuple[Stage, ...]
    arrivals: Arrivals = "poisson"
    connections: int = 256
    spread: bool = False
    shape: Literal["staged"] = "staged"

    def lasts_s(self, duration_s: float) -> float:
        return sum(stage.duration_s for stage in self.stages)

    def stages_over(self, duration_s: float) -> tuple[Stage, ...]:
        return self.stages

    def shared(self, process: int, processes: int) -> "StagedLoad":
        """The connections of one generator process; its arrivals are shared by ``Trace.share``."""
        return replace(self, connections=part_of(self.connections, process, processes))

    def words(self, duration_s: float) -> str:
        return "staged: " + ", ".join(f"{one.rate_per_s:g}/s for {one.duration_s:g} s" for one in self.stages)

    @property
    def brief(self) -> str:
        return "staged " + " then ".join(f"{stage.rate_per_s:g}/s" for stage in self.stages)


@dataclass(frozen=True)
class Burst(Shape):
    """``requests`` released at one instant on connections that are already open; ``repeats`` bursts, ``every_s`` apart."""

    requests: int
    repeats: int = 1
    every_s: float = 0.0
    spread: bool = False
    shape: Literal["burst"] = "burst"

    @property
    def members(self) -> int:
        return self.requests

    @property
    def by_clock(self) -> bool:
        return False

    @property
    def bursts(self) -> int:
        return self.repeats

    @property
    def most_processes(self) -> int:
        """One: the instant is one clock's."""
        return 1

    def lasts_s(self, duration_s: float) -> float:
        return max(self.every_s * self.repeats, 1.0)

    def longest_s(self, duration_s: float) -> float:
        return self.every_s * self.repeats + BURST_MARGIN_S

    def shared(self, process: int, processes: int) -> "Burst":
        """All of it."""
        return self

    def words(self, duration_s: float) -> str:
        return f"{self.requests} requests at one instant" + (f", {self.repeats} times" if self.repeats > 1 else "")

    @property
    def brief(self) -> str:
        return f"burst of {self.requests}" + (f" x {self.repeats}" if self.repeats > 1 else "")


@dataclass(frozen=True)
class Journey(Shape):
    """``users`` who each walk one sequence of requests once (the user class's ``journey`` method)."""

    users: int = 1
    spread: bool = False
    shape: Literal["journey"] = "journey"

    walks = True

    @property
    def members(self) -> int:
        return self.users

    @property
    def by_clock(self) -> bool:
        return False

    def lasts_s(self, duration_s: float) -> float:
        return JOURNEY_S

    def shared(self, process: int, processes: int) -> "Journey":
        """The users of one generator process."""
        return replace(self, users=part_of(self.users, process, processes))

    def words(self, duration_s: float) -> str:
        return f"{self.users} {'user walks' if self.users == 1 else 'users walk'} a sequence once"

    @property
    def brief(self) -> str:
        return f"journey of {self.users}"


Load: TypeAlias = ClosedLoad | OpenLoad | StagedLoad | Burst | Journey
SHAPES: tuple[type[Load], ...] = (ClosedLoad, OpenLoad, StagedLoad, Burst, Journey)


def load_of(values: Mapping[str, Any]) -> Load:
    """The load that a plan's JSON describes, without the checks of ``lab.words.codec`` (and without importing them).  Raises KeyError."""
    kind = {one.shape: one for one in SHAPES}[values["shape"]]
    given = {name: value for name, value in values.items() if name != "shape"}
    if "stages" in given:
        given["stages"] = tuple(Stage(**one) for one in given["stages"])
    return kind(**given)
