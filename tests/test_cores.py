"""Cores are divided between generator and target where there are enough, and everything that a trial starts keeps to its own."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.catalog import Catalog
from lab.cores import SHARED, Cores, divide, on, place, usable
from lab.model import ClosedLoad, Condition, Server, TrialPlan
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
@several
@pytest.mark.services
def test_a_trial_on_divided_cores_says_so(tmp_path: Path) -> None:
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
    assert record.affinity["generator"] and record.affinity["target"]


@pytest.mark.parametrize(("cores", "workers", "needed"), [(1, 1, 1), (1, 4, 4), (2, 1, 2), (3, 2, 3)])
def test_every_worker_needs_a_core(cores: int, workers: int, needed: int) -> None:
    """Seen once: four workers on one core, and one of them was never given a connection."""
    condition = Condition("one", ClosedLoad(1), server=Server(workers=workers), cores=cores)
    assert condition.cores_needed == needed
