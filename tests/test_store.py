"""Results on disk: atomic, clear about what is wrong, and readable again."""

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lab import store
from lab.model import SAMPLE_COLUMNS
from lab.run.plan import make_plan
from lab.store import RunFolder, all_runs, find_run, new_run, write_bytes, write_samples, write_server_rows
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError, UsageError
from lab.words.record import SERVER_COLUMNS, TrialRecord
from tests.fakes import gotcha_plan


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    plan = make_plan("run", "now", [gotcha_plan()], "quick", 1)
    run = RunFolder(tmp_path)
    run.write_plan(plan)
    assert RunFolder(tmp_path).plan == plan


def test_a_trial_record_comes_back_as_it_was_written() -> None:
    record = TrialRecord(
        "a/b", "c", 0, "naive", 5, "failed", "why", observed={"x": float("inf")}, extra={"list": [1, 2]}
    )
    assert from_json(TrialRecord, to_json(record), "here") == record


def test_a_damaged_file_is_named_with_the_field_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"run": 3}')
    with pytest.raises(StoreError, match=r"plan\.json"):
        _ = RunFolder(tmp_path).plan


def test_samples_keep_every_value_exactly(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    matrix = np.zeros((1000, len(SAMPLE_COLUMNS)), dtype=np.int64)
    matrix[:, :5] = np.cumsum(draw.integers(0, 10**6, (1000, 5)), axis=0) + 10**15
    matrix[:, 5] = draw.choice([200, 429, 500], 1000)
    matrix[:, 8] = draw.integers(-1, 10**6, 1000)
    matrix[:, 9] = draw.integers(1, 4_000_000, 1000)
    write_samples(tmp_path / "samples.parquet", matrix)
    table = pq.read_table(tmp_path / "samples.parquet")
    assert table.column_names == list(SAMPLE_COLUMNS)
    for index, name in enumerate(SAMPLE_COLUMNS):
        assert (table.column(name).to_numpy() == matrix[:, index]).all()


def test_a_million_samples_take_at_most_forty_megabytes(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    count = 100_000
    matrix = np.zeros((count, len(SAMPLE_COLUMNS)), dtype=np.int64)
    matrix[:, 0] = np.cumsum(draw.exponential(100_000, count).astype(np.int64)) + 10**15
    for column in range(1, 5):
        matrix[:, column] = matrix[:, column - 1] + draw.exponential(300_000, count).astype(np.int64)
    matrix[:, 9] = draw.choice([4001, 4002], count)
    write_samples(tmp_path / "samples.parquet", matrix)
    assert (tmp_path / "samples.parquet").stat().st_size * 10 <= 40e6


def test_rows_of_a_killed_worker_are_kept_up_to_the_last_whole_one(tmp_path: Path) -> None:
    rows = np.arange(2 * len(SERVER_COLUMNS), dtype=np.int64)
    write_server_rows(tmp_path / "server.parquet", [rows.tobytes()])
    assert pq.read_table(tmp_path / "server.parquet").num_rows == 2


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left"):
        write_bytes(tmp_path / "trial.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_which_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        new_run(tmp_path / "results", "x")
    assert "--results" in caught.value.hint


def test_runs_are_found_by_prefix_newest_by_default_and_unknown_ones_named(tmp_path: Path) -> None:
    plan = make_plan("run", "now", [gotcha_plan()], "quick", 1)
    for name in ("20260101-000000-a", "20260102-000000-b", "published"):
        RunFolder(tmp_path / name).write_plan(plan)
    assert [run.name for run in all_runs(tmp_path)] == ["published", "20260101-000000-a", "20260102-000000-b"]
    assert find_run(tmp_path).name == "20260102-000000-b"
    assert find_run(tmp_path, "20260101").name == "20260101-000000-a"
    with pytest.raises(UsageError, match="may mean"):
        find_run(tmp_path, "2026")
    with pytest.raises(UsageError, match="there is no run"):
        find_run(tmp_path, "nothing")


def test_a_start_that_was_refused_is_not_taken_for_the_newest_run(tmp_path: Path) -> None:
    for name in ("20260101-000000-a", "20260102-000000-refused"):
        RunFolder(tmp_path / name).write_plan(make_plan(name, "now", [gotcha_plan()], "quick", 1))
    (tmp_path / "20260101-000000-a" / "trials").mkdir()
    assert find_run(tmp_path).name == "20260101-000000-a"
    assert find_run(tmp_path, "20260102").name == "20260102-000000-refused"


def test_two_runs_of_the_same_second_do_not_share_a_folder(tmp_path: Path) -> None:
    assert new_run(tmp_path, "x").path != new_run(tmp_path, "x").path


def test_store_never_imports_pandas() -> None:
    assert "pandas" not in Path(store.__file__).read_text()
