"""The grid of server configurations that ``bench.py compare`` runs: a gotcha's headline condition under each of them."""

from collections.abc import Sequence
from dataclasses import replace

from lab.errors import UsageError
from lab.model import Chart, ClaimPlan, ClosedLoad, Condition, GotchaPlan, Load, MetricExpression

ARMS = ("naive", "correct")


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
    server = condition.server
    return server.kind + ("" if server.loop == "uvloop" else f" {server.loop}")


def as_grid(base: GotchaPlan, spread: GotchaPlan) -> GotchaPlan:
    """``spread`` (the plan under each server) reduced to the headline condition, its claims and a chart over the workers.

    All cells share one trace (``Condition.trace``), so that they differ in the server alone.  Raises UsageError: see ``harm_of``.
    """
    harm = harm_of(base)
    # Cores are divided in one way for all cells, or more workers would also mean other cores.
    most = max(c.workers for c in spread.conditions)
    cells = tuple(
        replace(c, load=_for_every_worker(c.load), variants=ARMS, quick=True, quick_pairs=None, cores=max(c.cores, most))
        for c in spread.conditions if c.trace == harm.headline
    )  # fmt: skip
    keys = {cell.key for cell in cells}
    claims = []
    for claim in spread.claims:
        predictions = {key: value for key, value in claim.predictions.items() if key in keys}
        if predictions and {ref.variant for ref in MetricExpression.parse(claim.metric).refs} <= set(ARMS):
            headline = claim.headline if claim.headline in predictions else list(predictions)[-1]
            claims.append(replace(claim, predictions=predictions, headline=headline))
    return replace(
        spread, variants=ARMS, conditions=cells, claims=tuple(claims), charts=_charts(cells, harm), answer=""
    )


def _for_every_worker(load: Load) -> Load:
    """A closed load with a new connection for each request: a kept one stays with its worker, and one worker may get them all."""
    return replace(load, reconnect=True) if isinstance(load, ClosedLoad) else load


def _charts(cells: Sequence[Condition], harm: ClaimPlan) -> tuple[Chart, ...]:
    names = list(dict.fromkeys(server_name(cell) for cell in cells))
    return tuple(
        Chart("sweep", metric_of(harm), f"{harm.statement}: under {name}, by workers", x="workers", x_label="workers",
              conditions=tuple(cell.label for cell in cells if server_name(cell) == name))
        for name in names
    )  # fmt: skip
