"""Two runs of one gotcha as one: what it costs and whether the fix works from the one, what the fix survives from the other.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.model import VERDICT_ORDER, GotchaVerdict, VerdictName
from lab.model import GotchaPlan, TrialPlan


@dataclass(frozen=True)
class Part:
    """A gotcha as a run has planned and judged it."""

    plan: GotchaPlan
    trials: tuple[TrialPlan, ...]
    verdict: GotchaVerdict

    @property
    def has_claims(self) -> bool:
        """Whether anything but faults was measured."""
        return any(not one.fault for one in self.plan.conditions)

    @property
    def has_faults(self) -> bool:
        """Whether faults were tried."""
        return any(one.fault for one in self.plan.conditions)


def only(part: Part, *, faults: bool) -> Part:
    """What a part has of the faults, or of everything else."""
    plan, verdict = part.plan, part.verdict
    keys = {one.key for one in plan.conditions if bool(one.fault) == faults}
    kept = tuple(one for one in verdict.claims if (one.kind == "hold") == faults)
    return Part(
        replace(
            plan,
            conditions=tuple(one for one in plan.conditions if one.key in keys),
            claims=tuple(one for one in plan.claims if (one.kind == "hold") == faults),
        ),
        tuple(one for one in part.trials if one.condition in keys),
        replace(
            verdict,
            verdict=_worst(kept, verdict.verdict),
            claims=kept,
            gates=tuple(one for one in verdict.gates if one.condition in keys),
            doubts=tuple(one for one in verdict.doubts if one.condition in keys or (not one.condition and not faults)),
            metrics={key: value for key, value in verdict.metrics.items() if key in keys},
        ),
    )


def _worst(claims: tuple[object, ...], where_none: VerdictName) -> VerdictName:
    found: set[str] = {getattr(one, "verdict") for one in claims}  # noqa: B009
    return next((name for name in VERDICT_ORDER if name in found), where_none)


def combined(main: Part, survival: Part) -> Part:
    """The claims of ``main`` without its faults, and the faults of ``survival``.  Both must be of the same files."""
    one, other = only(main, faults=False), only(survival, faults=True)
    claims = (*one.verdict.claims, *other.verdict.claims)
    metrics: Mapping[str, Mapping[str, Mapping[str, tuple[float | None, ...]]]] = {
        **one.verdict.metrics,
        **other.verdict.metrics,
    }
    return Part(
        replace(
            one.plan,
            conditions=(*one.plan.conditions, *other.plan.conditions),
            claims=(*one.plan.claims, *other.plan.claims),
        ),
        (*one.trials, *other.trials),
        replace(
            one.verdict,
            verdict=_worst(claims, one.verdict.verdict),
            claims=claims,
            gates=(*one.verdict.gates, *other.verdict.gates),
            doubts=(*one.verdict.doubts, *other.verdict.doubts),
            metrics=metrics,
            failed_trials=(*one.verdict.failed_trials, *other.verdict.failed_trials),
        ),
    )
