"""What a run did besides its plan: pairs that were done again because the lab spoiled them, pairs that a second look added, failed trials."""

from collections.abc import Mapping
from typing import Any

from lab.run.attempts import KEY as REPEATED
from lab.store import RunFolder


def effort_of(run: RunFolder, slug: str) -> dict[str, Any]:
    """The effort for one gotcha, as ``run --json`` prints it.  Raises StoreError."""
    records = [folder.record for folder in run.trials(slug)]
    repeated = {(r.condition, r.pair): tuple(r.extra[REPEATED]) for r in records if r.extra.get(REPEATED)}
    return {
        "trials": len(records), "failed": sum(record.status == "failed" for record in records),
        "skipped": sum(record.status == "skipped" for record in records),
        "pairs_repeated": [
            {"condition": condition, "pair": pair, "reasons": list(reasons)} for (condition, pair), reasons in repeated.items()
        ],
        "pairs_added": len({(trial.condition, trial.pair) for trial in run.added if trial.gotcha == slug}),
    }  # fmt: skip


def with_effort(document: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    """The document of a run's verdicts with the effort of each gotcha.  Raises StoreError."""
    gotchas = [{**one, "effort": effort_of(run, one["gotcha"])} for one in document["gotchas"]]
    return {**document, "gotchas": gotchas}
