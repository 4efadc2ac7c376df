"""What a service is to the lab: how it is started, what the target is told, what is read of it.  One file each, which has a ``KIND``.

Services of a run stand for the whole of it.  What stands for one trial (an upstream, Celery's workers, the fault proxy) is ``lab.run.stage``'s;
its files have a ``KIND`` without ``start``, which says what it brings along and which drivers it is spoken to with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol, runtime_checkable

import lab.services
from lab.processes import Guard
from lab.words.errors import UsageError


class Running(Protocol):
    """A service that is up.  Its ``version`` and ``source`` are for the record."""

    @property
    def version(self) -> str:
        """What it is, with its number."""
        ...

    @property
    def source(self) -> str:
        """Where it comes from."""
        ...

    def pids(self) -> list[int]:
        """Its processes; empty for somebody else's server, whose CPU is refused then, not 0."""
        ...

    def problem(self) -> str:
        """What is wrong with it now, or an empty string."""
        ...

    def address(self, database: str, lane: int | None) -> str:
        """The URL that the target is told, for a trial's database and, in a duet, an arm's number; "" where it needs none."""
        ...

    def stop(self) -> None:
        """Stop ours; leave somebody else's as it was."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A service of which numbers are read around a load; ``lab.run.reading`` keeps them under its name."""

    def begin_counting(self) -> None:
        """Count from now on."""
        ...

    def readings(self) -> Mapping[str, float]:
        """What was counted since: a name and a number each."""
        ...


@dataclass(frozen=True)
class Start:
    """What a service is started with.  ``up`` holds what was started before it: what its kind ``needs``."""

    guard: Guard
    log_folder: Path
    mode: str
    settings: Mapping[str, str] = field(default_factory=dict)
    up: Mapping[str, Running] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceKind:
    """A service by its name.

    ``variable`` is the environment variable that tells the target its address; with ``between`` the target is told it in the place of the
    service that it stands before, and the load's user class still reaches that one itself.  ``needs`` are started before it; of
    ``one_of`` one must be there, the first where the gotcha names none.  ``start`` raises NotHereError where its program is not on
    this machine: conditions with it are skipped then.
    """

    name: str
    start: Callable[[Start], Running] | None = None
    variable: str = ""
    drivers: Sequence[str] = ()
    needs: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    between: bool = False


@cache
def kinds() -> dict[str, ServiceKind]:
    """Every service by its name."""
    modules = (import_module(f"lab.services.{one.name}") for one in iter_modules(lab.services.__path__))
    found = [module.KIND for module in modules if hasattr(module, "KIND")]
    return {one.name: one for one in found}


def kind_of(name: str) -> ServiceKind:
    """The service of that name.  Raises UsageError that names those that there are."""
    if name not in kinds():
        raise UsageError(f"there is no service {name!r}", f"Services: {', '.join(sorted(kinds()))}.")
    return kinds()[name]


def with_needed(names: Sequence[str]) -> tuple[str, ...]:
    """These services and all that they need, each after what it needs.  Raises UsageError for one that there is not."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        kind = kind_of(name)
        choice = kind.one_of[:1] if kind.one_of and not set(kind.one_of) & {*names} else ()
        for one in (*kind.needs, *choice):
            add(one)
        found[name] = None

    for name in sorted(names):
        add(name)
    return tuple(found)
