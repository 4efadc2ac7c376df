"""Pairs that are done again: the first attempts are kept beside the trials, and the record of the last one says why."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lab.model import TrialPlan
from lab.store import RunFolder, TrialFolder
from lab.words.errors import StoreError
from lab.words.record import TrialRecord

INTERRUPTED = "the run was interrupted in the middle of this pair"
"""The one reason that says nothing against the machine."""
KEY = "repeated"
"""In ``TrialRecord.extra``: why each earlier attempt of this trial's pair was spoiled, in order."""


def attempt_folder(run: RunFolder, trial: TrialPlan, number: int) -> TrialFolder:
    """Where attempt ``number`` (from 1) of a trial is kept: ``attempts/<gotcha>/<condition>/<pair>-<variant>/<number>``."""
    name = f"{trial.pair}-{trial.variant}"
    return TrialFolder(run.path / "attempts" / trial.gotcha.replace("/", ".") / trial.condition / name / str(number))


def keep_aside(run: RunFolder, pair: Sequence[TrialPlan], number: int) -> None:
    """Move all arms of a pair out of the trials, where the next attempt will be.  Raises StoreError."""
    for trial in pair:
        here = run.trial(trial.gotcha, trial.condition, trial.pair, trial.variant).path
        there = attempt_folder(run, trial, number).path
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(here, there)
        except OSError as error:
            raise StoreError(
                f"{here} cannot be kept as {there}: {error.strerror or error}", "Check the results folder."
            ) from error


def resumed(run: RunFolder, pair: Sequence[TrialPlan]) -> list[str]:
    """Why each attempt of a pair before an interruption does not count; what is there of its last one is kept aside too.

    The arms of a pair are measured together, or a drift of the machine would stand between them.
    """
    numbers = [number for trial in pair for number in _numbers(attempt_folder(run, trial, 1).path.parent)]
    reasons = ["done again before the run was interrupted"] * max(numbers, default=0)
    begun = [t for t in pair if run.trial(t.gotcha, t.condition, t.pair, t.variant).exists]
    if begun:
        reasons.append(INTERRUPTED)
        keep_aside(run, begun, len(reasons))
    return reasons


def _numbers(folder: Path) -> list[int]:
    return [int(one.name) for one in folder.iterdir() if one.name.isdigit()] if folder.is_dir() else []


def with_reasons(record: TrialRecord, reasons: Sequence[str]) -> TrialRecord:
    """The record with what spoiled the attempts before it."""
    return replace(record, extra={**record.extra, KEY: list(reasons)}) if reasons else record
