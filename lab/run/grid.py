"""The grid that ``bench.py compare`` runs: a gotcha's headline condition under each server configuration and each set of library versions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lab.model import Chart, ClaimPlan, Condition, GotchaPlan, MetricExpression
from lab.words.errors import UsageError

ARMS = ("naive", "correct")
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
BETWEEN_PINS = re.compile(r";|\+(?=[A-Za-z0-9][A-Za-z0-9._-]*==)")
"""A plus joins packages where another pin follows; in ``torch==2.0+cpu`` it belongs to the version."""


def harm_of(plan: GotchaPlan) -> ClaimPlan:
    """The claim whose harm is compared: the first that says what naive does where both arms run.  Raises UsageError for none."""
    for claim in plan.claims:
        variants = {ref.variant for ref in MetricExpression.parse(claim.metric).refs}
        arms = plan.variants_of(plan.condition(claim.headline))
        if claim.kind == "harm" and "naive" in variants and variants <= set(ARMS) and set(ARMS) <= set(arms):
            return claim
    raise UsageError(
        f"{plan.slug} has no harm that naive and correct can be compared by",
        "Choose another gotcha, or leave it out of --all.",
    )


def metric_of(claim: ClaimPlan) -> str:
    """The metric of the harm, without a variant."""
    ref = MetricExpression.parse(claim.metric).numerator
    return f"{ref.metric}[{ref.arg}]" if ref.arg else ref.metric


def server_name(condition: Condition) -> str:
    """A server configuration without its workers: ``uvicorn`` or ``uvicorn asyncio``."""
    return condition.server.named


def packages_name(packages: Mapping[str, str]) -> str:
    """``fastapi 0.117.1 + starlette 0.48.0``; "" for none."""
    return " + ".join(f"{name} {version}" for name, version in packages.items())


def parse_packages(text: str) -> tuple[dict[str, str], ...]:
    """``fastapi==0.117.1,fastapi==0.118.0+starlette==0.48.0`` as sets of pins; a plus or a semicolon joins several.  Raises UsageError."""
    found = []
    for one in (part.strip() for part in text.split(",")):
        if not one:
            continue
        pins = [PIN.fullmatch(pin.strip()) for pin in BETWEEN_PINS.split(one)]
        if None in pins:
            raise UsageError(
                f"{one!r} is no set of pinned packages",
                'For example --packages "fastapi==0.117.1,fastapi==0.118.0+starlette==0.48.0".',
            )
        found.append({re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in pins if pin})
    if len({packages_name(one) for one in found}) < len(found):
        raise UsageError(f"{text!r} names the same versions twice", "Name each set once.")
    return tuple(found)


def as_grid(base: GotchaPlan, spread: GotchaPlan, packages: Sequence[Mapping[str, str]] = ()) -> GotchaPlan:
    """``spread`` (the plan under each server, or ``base`` itself) reduced to the headline condition, its claims and a chart.

    Each cell is there under each set of ``packages``; predictions are taken over to them as they are, so that a law that holds for some
    versions is refuted under the others.  All cells share one trace (``Condition.trace``), so that they differ in server and versions
    alone.  Raises UsageError: see ``harm_of``.
    """
    harm = harm_of(base)
    # Cores are divided in one way for all cells, or more workers would also mean other cores.
    most = max(c.workers for c in spread.conditions)
    of = base.condition(harm.headline)
    trace = of.trace or of.key
    under = [
        c
        for c in spread.conditions
        if c.label == of.label or (c.trace == trace and c.label.startswith(f"{of.label} on "))
    ]
    cells: list[Condition] = []
    predicted_as: dict[str, str] = {}
    for cell in under:
        for pins in packages or [{}]:
            made = _cell(cell, pins, trace, most)
            cells.append(made)
            predicted_as[made.key] = cell.key
    claims = []
    for claim in spread.claims:
        predictions = {key: claim.predictions[old] for key, old in predicted_as.items() if old in claim.predictions}
        if predictions and {ref.variant for ref in MetricExpression.parse(claim.metric).refs} <= set(ARMS):
            headline = claim.headline if claim.headline in predictions else list(predictions)[-1]
            claims.append(replace(claim, predictions=predictions, headline=headline))
    return replace(
        spread, variants=ARMS, conditions=tuple(cells), claims=tuple(claims), charts=_charts(cells, harm), answer=""
    )


def _cell(cell: Condition, packages: Mapping[str, str], trace: str, cores: int) -> Condition:
    """One configuration: connections spread evenly, because a kept one stays with its worker, and one worker might get them all."""
    name = packages_name(packages)
    return replace(
        cell, load=replace(cell.load, spread=True), variants=ARMS, quick=True, quick_pairs=None, cores=max(cell.cores, cores),
        trace=trace, packages={**cell.packages, **packages}, label=f"{cell.label} with {name}" if name else cell.label,
        params={**cell.params, "packages": name} if name else cell.params,
    )  # fmt: skip


def cell_name(condition: Condition) -> str:
    """The set of versions of a grid's cell; "" where the grid has none."""
    return str(condition.params.get("packages", ""))


def _charts(cells: Sequence[Condition], harm: ClaimPlan) -> tuple[Chart, ...]:
    """The harm over the workers for each server, or over the versions where there is one number of workers."""
    workers = {cell.workers for cell in cells}
    by_versions = len(workers) == 1 and any(map(cell_name, cells))
    charts: dict[str, list[str]] = {}
    for cell in cells:
        name = server_name(cell) if by_versions else " with ".join(filter(None, (server_name(cell), cell_name(cell))))
        charts.setdefault(name, []).append(cell.label)
    over, label = ("packages", "versions") if by_versions else ("workers", "workers")
    return tuple(
        Chart("sweep", metric_of(harm), f"{harm.statement}: under {name}, by {label}", x=over, x_label=label, conditions=tuple(labels))
        for name, labels in charts.items()
    )  # fmt: skip
