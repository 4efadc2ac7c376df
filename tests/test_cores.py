"""Cores are divided between generator and target where there are enough, and everything that a trial starts keeps to its own."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.speed import slowdown
from lab.catalog import Catalog
from lab.cores import SHARED, Cores, divide, on, place, usable
from lab.model import TrialPlan
from lab.processes import Guard
from lab.pulse import ROUNDS, Pulses, beat
from lab.services.supervisor import Services
from lab.store import TrialFolder
from lab.trial import RealExecutor

linux = pytest.mark.skipif(not usable(), reason="cores cannot be chosen here")
several = pytest.mark.skipif(len(usable()) < 2, reason="one core")


@pytest.mark.parametrize(
    ("cores", "target", "generators", "expected"),
    [
        ({0, 1}, 1, 1, Cores((1,), (0,))),
        ({0, 1}, 2, 1, SHARED),
        ({0}, 1, 1, SHARED),
        ({2, 5, 6, 7}, 1, 2, Cores((6, 7), (2, 5))),
        ({0, 1, 2, 3}, 3, 1, Cores((3,), (0, 1, 2))),
        (set(), 1, 1, SHARED),
    ],
)
def test_the_generator_gets_the_last_cores_and_the_target_the_rest(
    cores: set[int], target: int, generators: int, expected: Cores
) -> None:
    assert divide(cores, target, generators) == expected


@linux
@several
def test_what_is_started_on_a_core_stays_there_and_the_starter_comes_back() -> None:
    before, one = usable(), max(usable())
    with on({one}):
        done = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, text=True
        )
    assert done.stdout.split() == [str(one)]
    assert usable() == before


@linux
@several
def test_a_running_process_is_moved_and_a_gone_one_is_no_error() -> None:
    one = min(usable())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        place([child.pid, 2**22 - 1], {one})
        assert os.sched_getaffinity(child.pid) == {one}
        child.communicate(b"\n", timeout=10)


@linux
def test_pulses_are_read_and_the_best_is_kept_for_the_next_run(tmp_path: Path) -> None:
    cache = tmp_path / "core-speed.json"
    with Guard() as guard:
        pulses = Pulses(guard, "a machine", cache)
        began = time.monotonic_ns()
        deadline = time.monotonic() + 20
        while (seen := pulses.during(began, time.monotonic_ns())) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert seen is not None and seen.rows and all(took >= seen.best_ns > 0 for _, took in seen.rows)
        assert pulses.during(0, began // 2) is None
        pulses.close()
    assert json.loads(cache.read_text()) == {"a machine": pulses.best_ns()}

    cache.write_text(json.dumps({"a machine": 1, "another": 5}))  # a machine that once was far faster
    with Guard() as guard:
        later = Pulses(guard, "a machine", cache)
        assert later.best_ns() == 1
        later.close()
    assert json.loads(cache.read_text()) == {"a machine": 1, "another": 5}


@linux
def test_a_damaged_cache_is_no_cache(tmp_path: Path) -> None:
    cache = tmp_path / "core-speed.json"
    cache.write_text("{")
    with Guard() as guard:
        pulses = Pulses(guard, "a machine", cache)
        assert pulses.best_ns() == 0
        pulses.close()


def test_a_pulse_ends_with_its_input_and_writes_whole_rows(tmp_path: Path) -> None:
    assert ROUNDS > 0 and beat.__module__ == "lab.pulse"
    path = tmp_path / "rows"
    child = subprocess.Popen(
        [sys.executable, "-m", "lab.pulse", str(path)], stdin=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    deadline = time.monotonic() + 20
    while (not path.exists() or path.stat().st_size < 48) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(5) == 0
    assert path.stat().st_size % 16 == 0 and path.stat().st_size >= 48


@linux
@several
@pytest.mark.services
def test_a_trial_on_divided_cores_has_the_pulse_of_the_targets_own(tmp_path: Path) -> None:
    """Seen once: pulses that were started inside a trial watched the generator's core, and no correction ever applied."""
    (plan,) = Catalog().plans(["rate_limiting/in_process_limiter"])
    condition = plan.condition("three-rates")
    load = replace(condition.load, stages=condition.load.stages[:1])  # type: ignore[arg-type,union-attr]
    with Services({"redis"}, log_folder=tmp_path / "services") as services:
        executor = RealExecutor(services)
        record = executor.perform(
            TrialPlan(plan.slug, condition.key, 0, "naive", 5), plan, replace(condition, load=load),
            TrialFolder(tmp_path / "trial"), lambda live: None,
        )  # fmt: skip
    assert set(record.affinity) == {"generator", "target"}
    assert not set(record.affinity["generator"]) & set(record.affinity["target"])
    assert record.pulse is not None and len(record.pulse.rows) >= 3
    assert (slowdown(record) or 0) >= 1
