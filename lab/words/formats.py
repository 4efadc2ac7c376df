"""Files of older formats, brought to today's as plain JSON values before anything reads them; newer ones are refused.

One function a step, ``update_to_N``, for each kind of file; what a format had and meant stands in the history of its dataclass
(``lab.words.record``, ``lab.model``).  A field that may be left out and then means what it always meant needs no new format.  tests/golden holds a
file of each.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from lab.words.errors import StoreError

Document: TypeAlias = MutableMapping[str, Any]
Step: TypeAlias = Callable[[Document], None]

WRITTEN_AS = "written_as_format"
"""In ``TrialRecord.extra``: the format of a trial's files where it is an older one; server.parquet beside it has the columns of that one."""


def trial_update_to_2(trial: Document) -> None:
    """Cores were not divided yet: the scheduler shared them out."""
    trial.setdefault("affinity", {})


def trial_update_to_3(trial: Document) -> None:
    """What became of requests and connections was not counted: unknown, not 0; memory was resident memory."""
    generator = trial.get("generator")
    if generator is not None:
        for name in ("rows", "never_sent", "spread_even", "in_flight_s", "jitter_samples", "warmup_s", "steady"):
            generator.setdefault(name, None)
    for use in trial.get("processes", {}).values():
        use.setdefault("memory_kind", "rss")


def environment_update_to_2(environment: Document) -> None:
    """Nothing changed in this file."""


def environment_update_to_3(environment: Document) -> None:
    """Which CPUs share a core was not looked at."""
    environment.setdefault("siblings", [])


def verdicts_update_to_2(verdicts: Document) -> None:
    """A law had its range in the place of an interval.  The words are left as they were said: a judged run can be judged again."""
    claims = [claim for gotcha in verdicts.get("gotchas", ()) for claim in gotcha.get("claims", ())]
    for claim in claims:
        for measured in (one["measured"] for one in claim.get("conditions", ()) if one.get("measured")):
            seen = (min(measured["values"]), max(measured["values"]))
            measured["lowest"], measured["highest"] = seen
            if claim.get("tolerance") == 0 and (measured["low"], measured["high"]) == seen:
                measured["low"] = measured["high"] = None


def plan_update_to_2(plan: Document) -> None:
    """Counting the router's comparisons was a separate switch."""
    for condition in (one for gotcha in plan["gotchas"] for one in gotcha["conditions"]):
        if condition.pop("count_matches", False):
            condition["observers"] = ["matches"]


def plan_update_to_3(plan: Document) -> None:
    """Only the event loop could be a variant's own, not its whole server."""
    for condition in (one for gotcha in plan["gotchas"] for one in gotcha["conditions"]):
        loops = condition.pop("loops", {})
        condition["servers"] = {variant: {**condition["server"], "loop": loop} for variant, loop in loops.items()}


STEPS: Mapping[str, Sequence[Step]] = {
    "TrialRecord": (trial_update_to_2, trial_update_to_3),
    "Environment": (environment_update_to_2, environment_update_to_3),
    "RunPlan": (plan_update_to_2, plan_update_to_3),
    "Added": (),
    "RunVerdicts": (verdicts_update_to_2,),
}
"""The steps from format 1 on, by the dataclass that reads the file."""


def updated(kind: str, document: Any, where: str) -> Any:
    """The document in today's format.  Raises StoreError where it is newer than this lab or says no format."""
    steps = STEPS[kind]
    if not isinstance(document, dict):
        return document  # what reads it says what is wrong
    written = document.get("format_version")
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise StoreError(
            f"{where}: no {kind} of this lab: format_version is {written!r}",
            "The file is damaged, or another program's.",
        )
    newest = len(steps) + 1
    if written > newest:
        raise StoreError(
            f"{where} has format {written}, and this version of the lab reads formats up to {newest}",
            "It was written by a newer version: read it with that one.",
        )
    try:
        for step in steps[written - 1 :]:
            step(document)
        if kind == "TrialRecord" and written < newest:
            document["extra"] = {**document.get("extra", {}), WRITTEN_AS: written}
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a value is not what that format has there
        raise StoreError(
            f"{where}: not a {kind} of format {written}: {error}",
            "The file is damaged; delete its folder and run again.",
        ) from error
    document["format_version"] = newest
    return document
