"""Results on disk: one folder a run, every file written aside and renamed, so that a reader never sees half of one.

format_version of plan.json, trial.json and environment.json is in the records; see ``lab.words.record``.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.model import SAMPLE_COLUMNS, RunPlan, TrialPlan
from lab.redact import redacted_bytes
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError, UsageError
from lab.words.record import SELFTEST_VERSION, SERVER_COLUMNS, Added, Environment, TrialRecord

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
YARDSTICK = "yardstick.json"
"""The self-test that was the newest when a run began, copied into its folder: what the run is judged with is stored with it."""
_SMALL = {"status": "int16", "bytes": "int32", "name_id": "int16", "pid": "int32", "outcome": "int8", "reused": "int8"}


def _explain(error: OSError, path: Path) -> StoreError:
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"no space left on the device while writing {path}", "Free some space; measured trials are kept."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StoreError(f"{path} cannot be written: {error.strerror}", "Choose another folder with --results DIR.")
    return StoreError(f"{path}: {error.strerror or error}", "Check the results folder.")


@contextlib.contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.  Raises StoreError."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically.  Raises StoreError."""
    with _written_aside(path) as aside:
        aside.write_bytes(data)


def _write_parquet(path: Path, columns: dict[str, Any], delta: tuple[str, ...]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encodings = dict.fromkeys(delta, "DELTA_BINARY_PACKED")
    with _written_aside(path) as aside:
        pq.write_table(
            pa.table(columns), aside, compression="zstd",
            use_dictionary=[name for name in columns if name not in delta], column_encoding=encodings,
        )  # fmt: skip


def write_samples(path: Path, matrix: Any) -> None:
    """Write an int64 matrix of ``SAMPLE_COLUMNS`` as parquet: times as int64, the rest as small as they are."""
    columns = {
        name: matrix[:, index].astype(_SMALL.get(name, "int64"), copy=False)
        for index, name in enumerate(SAMPLE_COLUMNS)
    }
    _write_parquet(path, columns, tuple(name for name in SAMPLE_COLUMNS if name not in _SMALL))


def write_server_rows(path: Path, rows: list[bytes]) -> None:
    """Write the wrapper's raw rows of all workers as parquet of ``SERVER_COLUMNS``."""
    import numpy as np

    matrix = np.frombuffer(b"".join(rows), dtype="int64").reshape(-1, len(SERVER_COLUMNS))
    _write_parquet(path, {name: matrix[:, i] for i, name in enumerate(SERVER_COLUMNS)}, tuple(SERVER_COLUMNS))


@dataclass(frozen=True)
class TrialFolder:
    """One trial on disk."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether the trial was finished: its record is written last."""
        return (self.path / "trial.json").is_file()

    @cached_property
    def record(self) -> TrialRecord:
        """The record.  Raises StoreError where it is missing or damaged."""
        path = self.path / "trial.json"
        try:
            return from_json(TrialRecord, path.read_bytes(), str(path))
        except OSError as error:
            raise _explain(error, path) from error

    def write(self, record: TrialRecord) -> None:
        """Write the record, last of all files of a trial, without passwords.  Raises StoreError."""
        write_bytes(self.path / "trial.json", redacted_bytes(to_json(record)))


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def derived(self) -> Path:
        """Verdicts, charts and report: may be deleted, rebuilt by ``bench.py report``."""
        return self.path / "derived"

    @cached_property
    def plan(self) -> RunPlan:
        """The registered plan.  Raises StoreError."""
        return from_json(RunPlan, self._read("plan.json"), str(self.path / "plan.json"))

    @cached_property
    def environment(self) -> Environment:
        """The environment.  Raises StoreError."""
        return from_json(Environment, self._read("environment.json"), str(self.path / "environment.json"))

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.path} has no {name}", "It is not a run; `bench.py report` lists the runs there are."
            ) from error
        except OSError as error:
            raise _explain(error, self.path / name) from error

    def write_plan(self, plan: RunPlan) -> None:
        """Register the plan, before any load.  Raises StoreError."""
        write_bytes(self.path / "plan.json", to_json(plan))

    def write_yardstick(self, selftest: dict[str, Any] | None) -> None:
        """Keep the self-test that the run will be judged with, where there is one.  Raises StoreError."""
        if selftest is not None:
            write_bytes(self.path / YARDSTICK, json.dumps(selftest, indent=1).encode())

    def write_environment(self, environment: Environment) -> None:
        """Record the environment.  Raises StoreError."""
        write_bytes(self.path / "environment.json", to_json(environment))

    @property
    def added(self) -> tuple[TrialPlan, ...]:
        """Trials that a second look added to the plan.  Raises StoreError where added.json is damaged."""
        path = self.path / "added.json"
        return from_json(Added, self._read(path.name), str(path)).trials if path.is_file() else ()

    def write_added(self, added: Added) -> None:
        """Register the trials that a second look adds, before their load.  Raises StoreError."""
        write_bytes(self.path / "added.json", to_json(added))

    def trial(self, gotcha: str, condition: str, pair: int, variant: str) -> TrialFolder:
        """Where one trial is or will be."""
        return TrialFolder(self.path / "trials" / gotcha.replace("/", ".") / condition / f"{pair}-{variant}")

    def trials(self, gotcha: str) -> list[TrialFolder]:
        """The finished trials of a gotcha in the plan's order, then those that were added."""
        planned = [t for t in (*self.plan.trials, *self.added) if t.gotcha == gotcha]
        folders = [self.trial(t.gotcha, t.condition, t.pair, t.variant) for t in planned]
        return [folder for folder in folders if folder.exists]

    @property
    def partial(self) -> bool:
        """Whether the run was interrupted: trials of the plan are missing."""
        every = (*self.plan.trials, *self.added)
        return any(not self.trial(t.gotcha, t.condition, t.pair, t.variant).exists for t in every)


def new_run(results: Path, label: str) -> RunFolder:
    """Make the folder of a new run, ``<UTC time>-<label>``.  Raises StoreError where nothing can be written."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = results / f"{stamp}-{label}"
    for attempt in range(100):
        candidate = path if attempt == 0 else path.with_name(f"{path.name}-{attempt + 1}")
        try:
            candidate.mkdir(parents=True)
            return RunFolder(candidate)
        except FileExistsError:
            continue
        except OSError as error:
            raise _explain(error, candidate) from error
    raise StoreError(f"{path} exists a hundred times", "Clean the results folder.")


def all_runs(results: Path) -> list[RunFolder]:
    """Every run in the folder, newest last; the published run among them."""
    found = [path.parent for path in results.glob("*/plan.json")]
    return [RunFolder(path) for path in sorted(found, key=lambda one: (one.name != "published", one.name))]


def find_run(results: Path, name: str = "") -> RunFolder:
    """The run of that id, unique prefix or path; where no name is given the newest that measured anything.  Raises UsageError."""
    if name and (Path(name) / "plan.json").is_file():
        return RunFolder(Path(name).resolve())
    runs = all_runs(results)
    matches = [run for run in runs if run.name == name] or [run for run in runs if run.name.startswith(name)]
    if not matches:
        known = ", ".join(run.name for run in runs[-5:]) or "none yet"
        raise UsageError(
            f"there is no run {name or 'at all'} in {results}", f"Runs: {known}. `bench.py run GOTCHA` makes one."
        )
    if name and len(matches) > 1:
        raise UsageError(f"{name!r} may mean {', '.join(run.name for run in matches)}", "Give more of the name.")
    measured = [run for run in matches if (run.path / "trials").is_dir()]  # not so where the start was refused
    return (measured or matches)[-1]


def remove_leftovers(folder: Path) -> None:
    """Remove the parts of a trial that a killed lab left unfinished."""
    shutil.rmtree(folder, ignore_errors=True)


def newest_selftest(results: Path) -> dict[str, Any] | None:
    """The newest stored self-test of today's format, or None; one of an older format is passed over."""
    for path in sorted(results.glob("*/selftest.json"), key=os.path.getmtime, reverse=True):
        try:
            document: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if document.get("format_version") == SELFTEST_VERSION:
            return document
    return None
