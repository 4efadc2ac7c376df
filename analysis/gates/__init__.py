"""Gates G1-G12: what must hold before a number is believed.  Thresholds stand in one table, each with its source.

A gate is a pure function of the trials of one pair (G6 and G7: of one condition).  It spoils only the families of metrics that it is
about: a generator that is late spoils times, not the number of rows that a query read.  A pair that a gate of the lab's own side spoils
is done again (``analysis.spoiled``) and, where it stays spoiled, left out of the claims.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.gates.cell import Cell, Outcome, skip
from analysis.gates.counting import littles_law, rows_counted
from analysis.gates.generator import dispatch_lag, even_spread, generator_cpu, jitter, offered_is_sent, warm_up
from analysis.gates.target import noise, null_target, probe_client, server_bound
from analysis.gates.thresholds import THRESHOLDS, Threshold
from analysis.metrics import Family
from analysis.model import GateResult


@dataclass(frozen=True)
class Gate:
    """A gate: what it is called, what it spoils, what to do, and its check.  ``by_pair`` ones are asked of every pair alone."""

    name: str
    title: str
    spoils: frozenset[Family]
    advice: str
    check: Callable[[Cell], Outcome]
    by_pair: bool = True


_TIMED: frozenset[Family] = frozenset({"time", "rate"})
_INSIDE: frozenset[Family] = frozenset({"time", "inside", "rate", "cpu"})
_ROWS: frozenset[Family] = frozenset({"time", "rate", "share", "count", "cpu", "hold"})
"""Whatever is counted in rows, or divided by their number."""

GATES: tuple[Gate, ...] = (
    Gate("G1", "dispatch lag", frozenset({"time"}), "Give the generator its own core, or offer less.", dispatch_lag),
    Gate("G2", "offered = sent", _TIMED, "Raise the limit on open files, or give the load more generator processes.", offered_is_sent),
    Gate("G3", "generator CPU", _TIMED, "Offer less, use fewer users, or more generator processes.", generator_cpu),
    Gate("G4", "jitter", frozenset({"time"}), "Close other programs, or give the generator its own core.", jitter),
    Gate("G5", "Little's law", _TIMED, "Rows are missing or their times are wrong: look at the load's log.", littles_law),
    Gate("G6", "null target", _TIMED, "The generator may be the limit: use more generator processes.", null_target, by_pair=False),
    Gate("G7", "server-bound", frozenset({"rate"}), "The plateau is not the server's: look at the generator and the network.", server_bound,
         by_pair=False),
    Gate("G8", "probe client", frozenset({"time"}), "The generator sees other times than a bystander: offer less.", probe_client),
    Gate("G9", "noise", _INSIDE, "Something else ran on the machine: close it and run again.", noise),
    Gate("G10", "rows counted twice", _ROWS, "Rows were lost, doubled or invented: look at the load's log, then report it.", rows_counted),
    Gate("G11", "warm-up", _INSIDE, "Lengthen the warm-up: the target was not steady when the window began.", warm_up),
    Gate("G12", "even spread", _ROWS, "Use more connections: some workers have too few.", even_spread),
)  # fmt: skip
"""Every gate there is."""


def _worse(outcome: Outcome) -> float:
    return abs(outcome.figure or 0.0) / (outcome.threshold or 1.0)


def _over_pairs(gate: Gate, cell: Cell) -> tuple[Outcome, tuple[int, ...]]:
    """The gate asked of every pair: the worst failure speaks, else the pair that came closest, and the failed pairs."""
    outcomes = {pair: gate.check(one) for pair, one in cell.pairs().items()}
    failed = {pair: one for pair, one in outcomes.items() if one.passed is False}
    judged = {pair: one for pair, one in outcomes.items() if one.passed is not None}
    if not judged:
        return next(iter(outcomes.values())), ()
    pair, worst = max((failed or judged).items(), key=lambda one: _worse(one[1]))
    if failed and len(outcomes) > 1:
        text = f"{len(failed)} of {len(outcomes)} pairs; pair {pair + 1}: {worst.detail}"
        worst = Outcome(worst.passed, worst.figure, worst.threshold, text)
    return worst, tuple(failed)


def check_gates(cell: Cell) -> tuple[GateResult, ...]:
    """All gates of one condition, in order.  Trials that failed are left out before."""
    results = []
    for gate in GATES:
        pairs: tuple[int, ...] = ()
        if not cell.trials:
            outcome = skip("no finished trial")
        elif cell.condition.fault and "hold" not in gate.spoils:
            outcome = skip("a fault is played: requests are meant to fail, and bounds are seconds")
        elif gate.by_pair:
            outcome, pairs = _over_pairs(gate, cell)
        else:
            outcome = gate.check(cell)
        results.append(
            GateResult(gate.name, cell.condition.key, outcome.passed, outcome.figure, outcome.threshold, outcome.detail,
                       gate.advice if outcome.passed is False else "", pairs)
        )  # fmt: skip
    return tuple(results)


def _spoiling(family: Family, results: Sequence[GateResult]) -> list[GateResult]:
    spoils = {gate.name: gate.spoils for gate in GATES}
    return [one for one in results if one.passed is False and family in spoils[one.gate]]


def spoiled_by(family: Family, results: Sequence[GateResult]) -> GateResult | None:
    """The first failed gate that spoils metrics of this family, in some pairs or (one that names none) in the whole condition."""
    return next(iter(_spoiling(family, results)), None)


def spoiled_pairs(family: Family, results: Sequence[GateResult]) -> frozenset[int]:
    """The pairs that failed a gate which spoils metrics of this family."""
    return frozenset(pair for one in _spoiling(family, results) for pair in one.pairs)


__all__ = [
    "GATES", "THRESHOLDS", "Cell", "Gate", "Outcome", "Threshold", "check_gates", "spoiled_by", "spoiled_pairs",
]  # fmt: skip
