"""Cores are divided between generator and target where there are enough, and everything that a trial starts keeps to its own."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.catalog import Catalog
from lab.model import ClosedLoad, Condition, Server, TrialPlan
from lab.observe.cores import SHARED, Cores, divide, on, parse_list, place, siblings, usable
from lab.run.trial import RealExecutor
from lab.services.supervisor import Services
from lab.store import TrialFolder

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


FOUR_OF_EIGHT = ((0, 4), (1, 5), (2, 6), (3, 7))  # as most desktops number them
NEIGHBOURS = ((0, 1), (2, 3))  # as most cloud machines do


@pytest.mark.parametrize(
    ("cores", "groups", "target", "generators", "expected"),
    [
        # Without the siblings 7 would be the generator's, and 3, the other half of its core, the target's.
        (set(range(8)), FOUR_OF_EIGHT, 1, 1, Cores((3, 7), (0, 1, 2, 4, 5, 6))),
        (set(range(8)), FOUR_OF_EIGHT, 2, 2, Cores((2, 3, 6, 7), (0, 1, 4, 5))),
        (set(range(4)), NEIGHBOURS, 1, 1, Cores((2, 3), (0, 1))),
        # Two workers, one physical core left: a CPU for each, and still none beside the generator's.
        (set(range(4)), NEIGHBOURS, 2, 1, Cores((2, 3), (0, 1))),
        # Three workers: too few cores, so one is shared, as it would be without pinning.
        (set(range(4)), NEIGHBOURS, 3, 1, Cores((3,), (0, 1, 2))),
        (set(range(8)), FOUR_OF_EIGHT, 7, 1, Cores((7,), (0, 1, 2, 3, 4, 5, 6))),
        ({0, 4}, ((0, 4),), 1, 1, Cores((4,), (0,))),
        (set(range(4)), NEIGHBOURS, 4, 1, SHARED),
        # A sibling that we may not use is nobody's.
        ({0, 1, 4}, FOUR_OF_EIGHT, 1, 1, Cores((1,), (0, 4))),
        # A CPU that nothing is told of is a core of its own.
        ({0, 1, 2}, ((0, 1),), 1, 1, Cores((2,), (0, 1))),
    ],
)
def test_the_two_threads_of_a_physical_core_are_on_one_side(
    cores: set[int], groups: tuple[tuple[int, ...], ...], target: int, generators: int, expected: Cores
) -> None:
    assert divide(cores, target, generators, groups) == expected


@pytest.mark.parametrize(("target", "first"), [(1, 57), (4, 51), (30, 0)])
def test_a_wide_machine_is_used_in_part(target: int, first: int) -> None:
    """On the rest somebody else may work: it would count as noise, and disturbs nobody."""
    assert divide(range(64), target, 1) == Cores((63,), tuple(range(first, 63)))


def sysfs(folder: Path, lists: dict[int, str]) -> Path:
    for cpu, text in lists.items():
        (folder / f"cpu{cpu}/topology").mkdir(parents=True)
        (folder / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("lists", "cpus", "expected"),
    [
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 1, 4, 5}, ((0, 4), (1, 5))),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, {0, 1, 2, 3}, ((0, 1), (2, 3))),
        ({0: "0", 1: "1"}, {0, 1}, ()),
        ({0: "0,4", 4: "0,4"}, {0}, ()),
        ({0: "0,4", 4: "nonsense"}, {0, 4}, ((0, 4),)),
        ({}, {0, 1}, ()),
    ],
)
def test_siblings_are_read_from_sysfs(
    tmp_path: Path, lists: dict[int, str], cpus: set[int], expected: tuple[tuple[int, ...], ...]
) -> None:
    assert siblings(cpus, sysfs(tmp_path, lists)) == expected


@pytest.mark.parametrize(("text", "expected"), [("0", {0}), ("0,4\n", {0, 4}), ("0-2,8-9", {0, 1, 2, 8, 9})])
def test_lists_of_cpus(text: str, expected: set[int]) -> None:
    assert parse_list(text) == expected


def test_what_is_not_pinned_uses_all_that_there_is() -> None:
    assert Cores((3,), (0, 1)).used == (3, 0, 1)
    assert SHARED.used == tuple(sorted(usable()))


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
        child.communicate(b"\n", timeout=300)


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
