"""Trials that say what a test wrote down for them, by variant and pair: plan -> trials on disk -> judge_run -> verdict."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.frames import CENSORED
from analysis.judge import judge_run
from analysis.model import ClaimVerdict, GotchaVerdict, RunVerdicts
from lab.model import SAMPLE_COLUMNS, Claim, ClosedLoad, Condition, GotchaPlan, RunPlan, SecondLook, TrialPlan
from lab.run.plan import make_plan
from lab.run.runner import Live, run_trials
from lab.store import RunFolder, TrialFolder, write_samples
from lab.words.errors import LabError, NotHereError, ServerError
from lab.words.record import GeneratorSeen, TrialRecord
from tests.fakes import START_NS, FakeExecutor, gotcha_plan

NEVER = math.inf
FAILED = "the server died"
SKIPPED = "not on this machine"
LOAD_S = 2.0
REQUESTS = 20
CONDITION = Condition("one", ClosedLoad(10), duration_s=LOAD_S)


@dataclass(frozen=True)
class Said:
    """What one trial leaves behind: the latency of its requests, and fields of its record; ``error`` fails it instead."""

    latency_s: float = 0.01
    record: Mapping[str, Any] = field(default_factory=dict)
    error: LabError | None = None


def said(value: "float | str | Said") -> Said:
    """A latency (``NEVER`` included), ``FAILED`` or ``SKIPPED``, or everything."""
    if isinstance(value, Said):
        return value
    if isinstance(value, str):
        return Said(error=NotHereError(value) if value == SKIPPED else ServerError(value))
    return Said(value)


def counted(**observed: float) -> Said:
    """A trial that counted something."""
    return Said(record={"observed": observed})


class Scripted(FakeExecutor):
    """Performs trials as the script says; ``(condition, variant)`` or ``variant`` maps to one entry a pair, None stops the run there."""

    def __init__(self, script: Mapping[Any, Any]) -> None:
        super().__init__({}, {})
        self.script = script

    def perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None]
    ) -> TrialRecord:  # fmt: skip
        """See ``lab.run.runner.Executor``."""
        rows = self.script.get((condition.key, trial.variant), self.script.get(trial.variant, ()))
        entry = rows[trial.pair % len(rows)] if rows else Said()
        if entry is None:
            raise KeyboardInterrupt
        wanted = said(entry)
        if wanted.error is not None:
            raise wanted.error
        sent = START_NS + np.linspace(0, 0.4 * LOAD_S * 1e9, REQUESTS).astype(np.int64)
        never = math.isinf(wanted.latency_s)
        done = np.zeros(REQUESTS, dtype=np.int64) if never else sent + round(wanted.latency_s * 1e9)
        columns = {**dict.fromkeys(("planned_ns", "dispatched_ns", "sent_ns"), sent), "first_byte_ns": done, "done_ns": done,
                   "status": 0 if never else 200, "level": -1, "pid": 0 if never else 7, "outcome": CENSORED if never else 0}  # fmt: skip
        matrix = np.zeros((REQUESTS, len(SAMPLE_COLUMNS)), dtype=np.int64)
        for name, values in columns.items():
            matrix[:, SAMPLE_COLUMNS.index(name)] = values
        folder.path.mkdir(parents=True, exist_ok=True)
        write_samples(folder.path / "samples.parquet", matrix)
        ended = START_NS + round(LOAD_S * 1e9)
        flown_s = float((np.where(done > 0, done, ended) - sent).sum()) / 1e9
        generator = GeneratorSeen(
            REQUESTS,
            REQUESTS,
            0,
            (0.1,),
            0.0005,
            0.002,
            "",
            rows=REQUESTS,
            never_sent=0,
            in_flight_s=flown_s,
            jitter_samples=180,
        )
        record = TrialRecord(
            trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, "ok", load_started_ns=START_NS, load_ended_ns=ended,
            request_names=("GET /",), server_pids=(7,), loop="uvloop", http="httptools", generator=generator,
        )  # fmt: skip
        return replace(record, **wanted.record)


def claim(metric: str, predicted: float, relation: str = "about", tolerance: float = 0.1, null: float | None = None, *,
          name: str = "claim", kind: str = "harm", under: str = "") -> Claim:  # fmt: skip
    """A claim about every condition, or about the one of that label."""
    return Claim(
        name, kind, f"the statement of {name}", metric, lambda c: predicted if under in ("", c.label) else None, formula="f", source="s",  # type: ignore[arg-type]
        relation=relation, tolerance=tolerance, null=null,  # type: ignore[arg-type]
    )  # fmt: skip


def run_of(
    folder: Path, script: Mapping[Any, Any], *gotchas: GotchaPlan, pairs: int | None, mode: str = "full", look: SecondLook | None = None
) -> RunFolder:  # fmt: skip
    """A run on disk, as far as the script lets it come."""
    plan: RunPlan = replace(make_plan("run", "now", gotchas, mode, 1, pairs), second_look=look)  # type: ignore[arg-type]
    run = RunFolder(folder / "results" / "run")
    run.path.mkdir(parents=True)
    run.write_plan(plan)
    with contextlib.suppress(KeyboardInterrupt):
        run_trials(plan, run, Scripted(script), lambda progress: None)
    return run


def verdicts_of(
    folder: Path, script: Mapping[Any, Any], *claims: Claim, pairs: int, conditions: tuple[Condition, ...] = (CONDITION,), **more: Any
) -> RunVerdicts:  # fmt: skip
    """The whole path for one gotcha."""
    plan = replace(gotcha_plan(*claims, conditions=conditions), **more.pop("plan", {}))
    return judge_run(run_of(folder, script, plan, pairs=pairs, **more))


def judged(folder: Path, script: Mapping[Any, Any], *claims: Claim, pairs: int, **more: Any) -> GotchaVerdict:
    """The verdict of the one gotcha."""
    (gotcha,) = verdicts_of(folder, script, *claims, pairs=pairs, **more).gotchas
    return gotcha


def one(folder: Path, script: Mapping[Any, Any], asked: Claim, pairs: int, **more: Any) -> ClaimVerdict:
    """The verdict of the one claim."""
    (found,) = judged(folder, script, asked, pairs=pairs, **more).claims
    return found
