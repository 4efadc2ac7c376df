"""What two runs differ in, as frozen values; ``analysis.diff`` finds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.alike import StoredRun
from analysis.between import Shift
from analysis.model import VERDICT_ORDER

Change: TypeAlias = Literal["same", "higher", "lower", "unclear", "not comparable"]


ByPair: TypeAlias = Mapping[int, float]


FAIL_ON = ("verdict", "figure", "environment")
GATE_LEVEL = 0.05
"""A gate is one decision over all rows: their p values are adjusted by Holm, or one row in twenty would close it with nothing changed."""


@dataclass(frozen=True)
class Row:
    """One claim under one condition in both runs.

    ``before`` and ``after`` are the figures of the two runs, ``shift`` the change from the runs like the first to those like the second.
    ``blocked`` marks a row for which the runs, not the claim, are the reason that nothing is said.
    """

    gotcha: str
    claim: str
    statement: str
    condition: str
    unit: str
    before: float | None
    after: float | None
    shift: Shift | None
    change: Change
    verdict_before: str
    verdict_after: str
    note: str = ""
    blocked: bool = False
    adjusted_p: float | None = None

    @property
    def worse(self) -> bool:
        """Whether the verdict is worse than before."""
        order: list[str] = list(VERDICT_ORDER)
        return order.index(self.verdict_after) < order.index(self.verdict_before)

    @property
    def moved(self) -> bool:
        """Whether the figure changed beyond what chance does in one of all rows: exact ones do so by changing at all."""
        certain = self.adjusted_p is None or self.adjusted_p <= GATE_LEVEL
        return self.change in ("higher", "lower") and certain


@dataclass(frozen=True)
class Difference:
    """All rows, what differs in the surroundings, and what only one of the runs has."""

    run_a: str
    run_b: str
    rows: tuple[Row, ...]
    environment: tuple[str, ...]
    only_one: tuple[str, ...]

    def failures(self, fail_on: Sequence[str]) -> list[Row]:
        """The rows that a gate with these conditions objects to."""
        return [row for row in self.rows if ("verdict" in fail_on and row.worse) or ("figure" in fail_on and row.moved)]

    def fails(self, fail_on: Sequence[str]) -> bool:
        """Whether a gate with these conditions is closed."""
        return bool(self.failures(fail_on)) or ("environment" in fail_on and bool(self.environment))

    def exit_code(self, fail_on: Sequence[str]) -> int:
        """1 where the gate is closed, 2 where it asks for figures that these runs cannot tell, else 0."""
        if self.fails(fail_on):
            return 1
        return 2 if "figure" in fail_on and any(row.blocked for row in self.rows) else 0


@dataclass(frozen=True)
class Kinds:
    """The runs like the first and those like the second, for one gotcha; ``blocked`` says why nothing that varies can be compared."""

    before: Sequence[StoredRun]
    after: Sequence[StoredRun]
    blocked: str
    again: str
