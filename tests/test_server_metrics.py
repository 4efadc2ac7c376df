"""What the metrics make of the wrapper's rows: lag as a share of the load's time, peaks, totals, and what is said where rows are missing."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.frames import Trial, memory_trial, open_trial
from analysis.handled import Handled, handled, rows_tile, unfinished
from analysis.metrics import Refusal, measure
from analysis.metrics.base import Context
from analysis.metrics.server import lag_by_time
from lab.model import ClosedLoad, Condition
from lab.store import TrialFolder, write_server_rows
from lab.target.inside.asgi import Observed
from lab.target.inside.rows import (
    GOES_ON,
    ROW_NS,
    SERVER_COLUMNS,
    SHUT_DOWN,
    SILENT,
    TICK_COLUMNS,
    TICK_NS,
    TICKS,
    UNWRITTEN,
)
from lab.words.record import EventSeen, TrialRecord
from tests.fakes import gotcha_plan
from tests.test_asgi import HeldLoop, ask, leave_nothing, scope

__all__ = ["leave_nothing"]

MS = 1_000_000
START = 5_000_000_000
GOLDEN = Path(__file__).parent / "golden_parquet" / "server-2.parquet"
CONDITION = Condition("one", ClosedLoad(1), duration_s=1.0)
OF_ROWS = (
    "loop_lag_max_s",
    "loop_lag_p50_s",
    "threads_borrowed_max",
    "server_in_flight_max",
    "pool_waiting_max",
    "gc_pause_s",
)

Row = dict[str, int]


def record(ended_ms: int = 1000, **fields: Any) -> TrialRecord:
    return TrialRecord(
        "event_loop/example", "one", 0, "naive", 1, "ok", load_started_ns=START, load_ended_ns=START + ended_ms * MS, **fields
    )  # fmt: skip


def worker(
    spans_ms: Sequence[float], pid: int = 7, began_ms: float = 0.0, rows: Mapping[int, Row] | None = None, **last: int
) -> list[Row]:
    """A worker's rows, tiled from ``began_ms`` after the load's start by ``spans_ms``; ``rows`` changes one, ``last`` the last."""
    found: list[Row] = []
    at, line = START + round(began_ms * MS), []
    begun = at
    for number, span in enumerate(spans_ms):
        line.append(round(span * MS))
        at += line[-1]
        if at - begun >= ROW_NS or len(line) == TICKS or number == len(spans_ms) - 1:
            row = dict.fromkeys(SERVER_COLUMNS, 0) | {"pid": pid, "start_ns": begun, "t_ns": at}
            row |= dict(zip(TICK_COLUMNS, line, strict=False)) | {"loop_lag_max_ns": max(max(line) - TICK_NS, 0)}
            found.append(row | (rows or {}).get(len(found), {}))
            begun, line = at, []
    found[-1] |= last
    return found


def trial_of(*workers: list[Row], ended_ms: int = 1000, **fields: Any) -> Trial:
    rows = [row for one in workers for row in one]
    columns = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in SERVER_COLUMNS}
    return memory_trial(record(ended_ms, **fields), {}, columns)


def value(trial: Trial, name: str) -> float:
    found = measure(trial, gotcha_plan(conditions=(CONDITION,)), CONDITION, name, "")
    assert not isinstance(found, Refusal), found
    return found


def refusal(trial: Trial, name: str) -> Refusal:
    found = measure(trial, gotcha_plan(conditions=(CONDITION,)), CONDITION, name, "")
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize(("blocks", "p50_s"), [(4, 0.0), (5, 0.0), (6, 0.095), (9, 0.095)])
def test_the_median_of_lag_is_a_share_of_the_time(blocks: int, p50_s: float) -> None:
    """A loop that is blocked for more than half of a second has a p50 that says so, however few ticks that are."""
    trial = trial_of(worker([100] * blocks + [5] * (20 * (10 - blocks))))
    assert value(trial, "loop_lag_p50_s") == p50_s
    assert value(trial, "loop_lag_max_s") == 0.095


def test_p99_is_what_the_loop_did_not_exceed_for_99_percent_of_the_time() -> None:
    quiet = [5.0] * 197
    assert value(trial_of(worker([*quiet, 15.0])), "loop_lag_p99_s") == 0.010  # 1.5 % of the time
    assert value(trial_of(worker([*quiet, 7.0, 8.0])), "loop_lag_p99_s") == pytest.approx(0.002)  # 0.8 % above 2 ms
    short = refusal(trial_of(worker([5.0] * 40), ended_ms=200), "loop_lag_p99_s")
    assert "0.5 s of load" in short.reason and short.kind == "unsupported"


def test_the_time_of_all_workers_counts_alike() -> None:
    busy, idle = worker([250] * 4), worker([5] * 200, pid=8)
    assert value(trial_of(busy, idle), "loop_lag_p50_s") == 0.0
    assert value(trial_of(busy, worker([5] * 100, pid=8, ending=SHUT_DOWN)), "loop_lag_p50_s") == 0.245


def test_only_the_overlap_with_the_load_has_weight_and_the_lateness_is_whole() -> None:
    # 400 ms of the first block and 100 ms of the last lie in the load of 1 s; the 500 ms between are idle.
    blocks = trial_of(worker([1000, *[5] * 100, 1000], began_ms=-600))
    assert value(blocks, "loop_lag_max_s") == 0.995
    assert value(blocks, "loop_lag_p50_s") == 0.0
    more = trial_of(worker([1000, *[5] * 99, 1000], began_ms=-599))
    assert value(more, "loop_lag_p50_s") == 0.995


def test_a_block_before_the_load_is_not_the_loads_though_its_row_is() -> None:
    trial = trial_of(worker([60, *[5] * 205], began_ms=-80))
    assert value(trial, "loop_lag_max_s") == 0.0
    assert value(trial_of(worker([60, *[5] * 205], began_ms=-50)), "loop_lag_max_s") == 0.055


def test_a_load_shorter_than_a_row_is_read_from_the_row_that_covers_it() -> None:
    trial = trial_of(worker([5] * 20, began_ms=-30, rows={0: {"in_flight": 4, "threads_borrowed": 40}}), ended_ms=40)
    assert value(trial, "threads_borrowed_max") == 40 and value(trial, "server_in_flight_max") == 4
    assert value(trial, "loop_lag_max_s") == 0.0


def test_peaks_of_rows_beside_the_load_are_not_the_loads() -> None:
    peaks = {
        0: {"in_flight": 9, "threads_borrowed": 9, "pool_waiting": 9},
        1: {"in_flight": 2, "threads_borrowed": 3, "pool_waiting": 4},
    }
    trial = trial_of(worker([5] * 240, began_ms=-100, rows={**peaks, 11: peaks[0]}))
    assert [value(trial, name) for name in ("server_in_flight_max", "threads_borrowed_max", "pool_waiting_max")] == [
        2,
        3,
        4,
    ]


def test_the_collectors_time_counts_from_the_last_row_before_the_load() -> None:
    gc_ns = {0: 5 * MS, 1: 5 * MS, 2: 9 * MS, 3: 9 * MS, 4: 30 * MS}
    rows = {at: {"gc_pause_ns": spent} for at, spent in gc_ns.items()}
    one = worker([5] * 100, began_ms=-100, rows=rows)  # rows 1 to 3 lie in the load
    assert value(trial_of(one, ended_ms=300), "gc_pause_s") == 0.004
    born_later = worker([5] * 40, pid=8, began_ms=100, rows={0: {"gc_pause_ns": 2 * MS}, 1: {"gc_pause_ns": 3 * MS}})
    assert value(trial_of(one, born_later, ended_ms=300), "gc_pause_s") == 0.007


def test_a_loop_that_did_not_come_back_is_late_by_at_least_that() -> None:
    """The row that the lab adds: the ticks that the loop may have made, and then none."""
    silent = worker([*[5] * 20, *[5] * 19, 9000], ending=SILENT)
    assert value(trial_of(silent), "loop_lag_max_s") == 8.995
    assert value(trial_of(silent), "loop_lag_p50_s") == 8.995
    # without that row the lab still knows who lived to the end
    assert value(trial_of(worker([5] * 20), server_pids=(7,)), "loop_lag_max_s") == 0.8


def killed(at_ms: int, detail: str = "SIGKILL to 1 process(es) of worker") -> tuple[EventSeen, ...]:
    return (EventSeen("killed", "kill", START + at_ms * MS, detail),)


def test_a_worker_that_is_killed_while_it_is_blocked_was_late_until_then() -> None:
    rows = worker([5] * 40)  # until 200 ms
    assert value(trial_of(rows, events=killed(700)), "loop_lag_max_s") == 0.4  # a healthy one writes within 100 ms
    assert value(trial_of(rows, events=killed(290)), "loop_lag_max_s") == 0.0
    assert value(trial_of(rows, events=killed(180)), "loop_lag_max_s") == 0.0  # the row was written as it died
    assert value(trial_of(rows, events=killed(180) + killed(900)), "loop_lag_max_s") == 0.0  # the second was another's
    assert unfinished(trial_of(rows, events=killed(700))) == (7,)
    context = Context(trial_of(rows, events=killed(290)), gotcha_plan(conditions=(CONDITION,)), CONDITION)
    assert lag_by_time(context)[1].sum() == 200 * MS  # of the last 90 ms nothing is known: they weigh nothing


def test_a_worker_that_goes_away_without_a_word_leaves_its_lag_unknown_and_not_0() -> None:
    gone = trial_of(worker([5] * 40), worker([5] * 200, pid=8), server_pids=(8,))
    for name in ("loop_lag_max_s", "loop_lag_p50_s", "loop_lag_p99_s"):
        assert "worker 7 went away 0.8 s before the load ended" in refusal(gone, name).reason
    of_celery = trial_of(worker([5] * 40), events=killed(700, "SIGKILL to 1 process(es) of celery"))
    assert refusal(of_celery, "loop_lag_max_s").kind == "missing"
    assert value(trial_of(worker([5] * 40, ending=SHUT_DOWN)), "loop_lag_max_s") == 0.0
    assert unfinished(trial_of(worker([5] * 40, ending=SHUT_DOWN))) == ()


def test_rows_that_could_not_be_written_are_a_reason_and_not_a_hole() -> None:
    lost = trial_of(worker([5] * 40), [worker([5] * 20, pid=8)[-1] | {"ending": UNWRITTEN}])
    for name in OF_ROWS:
        assert "worker 8 could not write" in refusal(lost, name).reason
    assert handled(lost) is None and "worker 8" in rows_tile(lost)


def test_a_hole_between_two_rows_is_found_and_spoils_every_metric_of_the_rows() -> None:
    rows = worker([5] * 200)
    assert rows_tile(trial_of(rows)) == ""
    for at in (1, 5, 8):
        holed = trial_of(rows[:at] + rows[at + 1 :], worker([5] * 200, pid=8))
        assert rows_tile(holed) == "the rows of worker 7 have a hole of 0.100 s"
        assert all(refusal(holed, name).reason == rows_tile(holed) for name in OF_ROWS)
    doubled = trial_of([*rows, rows[-1]])
    assert "hole of -0.100 s" in rows_tile(doubled)
    assert rows_tile(trial_of(worker([5] * 200, rows={3: {"tick_04_ns": 4 * MS}}))) != ""


def test_a_limiter_that_is_not_known_has_no_peak() -> None:
    unknown = worker([5] * 200, rows={at: {"threads_borrowed": -1} for at in range(10)})
    assert "not known" in refusal(trial_of(unknown), "threads_borrowed_max").reason
    assert value(trial_of(unknown), "server_in_flight_max") == 0


def test_the_workers_totals_are_added_up() -> None:
    one = worker([5] * 200, rows={0: {"requests": 3}}, requests=50, answered=49, own=4)
    two = worker([5] * 200, pid=8, requests=7, answered=7, own=1)
    assert handled(trial_of(one, two)) == Handled(57, 56, 5)
    assert handled(memory_trial(record(), {})) is None


def test_rows_of_format_2_are_read_as_they_were(tmp_path: Path) -> None:
    """One worker is blocked for 0.4 and 0.7 s, the row after that straddles the load's end; the other is idle."""
    shutil.copy(GOLDEN, tmp_path / "server.parquet")
    folder = TrialFolder(tmp_path)
    folder.write(replace(record(1200), format_version=2))
    trial = open_trial(folder)
    seen = {name: value(trial, name) for name in (*OF_ROWS, "pool_checked_out_max")}
    assert seen == {
        "loop_lag_max_s": pytest.approx(0.695), "loop_lag_p50_s": pytest.approx(0.001), "threads_borrowed_max": 40, "server_in_flight_max": 3,
        "pool_waiting_max": 8, "pool_checked_out_max": 4, "gc_pause_s": pytest.approx(0.016),
    }  # fmt: skip
    assert "needs 368 requests" in refusal(trial, "loop_lag_p99_s").reason
    assert handled(trial) is None and rows_tile(trial) == "" and unfinished(trial) == ()


@pytest.mark.parametrize("block_ms", [20, 50, 95, 500])
def test_from_a_blocked_loop_to_the_number(tmp_path: Path, block_ms: int) -> None:
    """The real wrapper on a held clock, through the stored file: the load is the second in which the loop is blocked."""
    loop = HeldLoop()
    loop.ns = START - 300 * MS

    async def answer(scope: Any, receive: Any, send: Any) -> None: ...

    async def use() -> None:
        app = Observed(answer, tmp_path, lambda: loop.ns)
        await ask(app, scope())
        await asyncio.sleep(0.3)
        while loop.ns < START + 1000 * MS:
            loop.block(block_ms / 1000)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)

    loop.run_until_complete(use())
    loop.close()
    write_server_rows(tmp_path / "server.parquet", [(tmp_path / f"{os.getpid()}.rows").read_bytes()])
    TrialFolder(tmp_path).write(record())
    trial = open_trial(TrialFolder(tmp_path))
    for name in ("loop_lag_max_s", "loop_lag_p50_s"):
        assert (block_ms - 10) / 1000 <= value(trial, name) <= block_ms / 1000
    assert trial.server("ending").tolist() == [GOES_ON] * len(trial.server("ending"))
