"""Noise is what others took of our CPUs: from tables of numbers, and once from a real neighbour."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

import lab.observe.machine as environment
from lab.observe import parallel
from lab.observe.cores import usable
from lab.observe.machine import busy_s, noise_between, noise_snapshot, of_these
from lab.observe.procfs import look
from lab.observe.trees import TreeWatch


class Linux(NamedTuple):
    """The fields of psutil's own tuple."""

    user: float = 0.0
    nice: float = 0.0
    system: float = 0.0
    idle: float = 0.0
    iowait: float = 0.0
    irq: float = 0.0
    softirq: float = 0.0
    steal: float = 0.0
    guest: float = 0.0
    guest_nice: float = 0.0


def snapshot(t: float, busy: float, steal: float = 0.0, cores: float = 2.0, **more: float) -> dict[str, float]:
    return {"t": t, "cores": cores, "busy": busy, "steal": steal, **more}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (Linux(user=3.0, system=1.0), 4.0),
        (Linux(user=3.0, nice=0.5, system=1.0), 4.5),
        (Linux(user=3.0, guest=2.0), 3.0),  # a guest of ours: its time is in user already
        (Linux(nice=3.0, guest_nice=2.0), 3.0),
        (Linux(user=3.0, steal=5.0), 3.0),  # it was not here
        (Linux(user=3.0, idle=5.0, iowait=5.0), 3.0),
        (Linux(user=3.0, irq=1.0, softirq=1.0), 3.0),  # the load's own packets
        (SimpleNamespace(user=3.0, system=1.0, idle=9.0), 4.0),  # macOS and Windows have fewer
    ],
)
def test_each_second_counts_once(times: Any, expected: float) -> None:
    assert busy_s(times) == expected


@pytest.mark.parametrize(
    ("before", "after", "ours_s", "foreign", "steal"),
    [
        (snapshot(0, 10), snapshot(10, 18), 8.0, 0.0, 0.0),  # all of it ours
        (snapshot(0, 10), snapshot(10, 18), 6.0, 0.196, 0.0),  # 2 s of others in 10 s, less a tick a core at each end
        (snapshot(0, 10), snapshot(10, 18), 9.0, 0.0, 0.0),  # never negative
        (snapshot(0, 10), snapshot(10, 18.04), 8.0, 0.0, 0.0),  # two ticks a core are not seen
        (snapshot(0, 10, steal=1), snapshot(10, 18, steal=3), 8.0, 0.0, 0.098),  # 2 s of 20 s; and not foreign as well
        (snapshot(0, 10, cores=4, steal=1), snapshot(10, 18, cores=4, steal=3), 8.0, 0.0, 0.048),
    ],
)
def test_what_others_took(
    before: dict[str, float], after: dict[str, float], ours_s: float, foreign: float, steal: float
) -> None:
    found = noise_between(before, after, int(ours_s * 1e9))
    assert found["foreign_cpu_share"] == pytest.approx(foreign)
    assert found["steal_share"] == pytest.approx(steal)
    assert found["busy_cores"] == pytest.approx((after["busy"] - before["busy"]) / 10)


def test_what_the_kernel_adds_where_it_can() -> None:
    found = noise_between(
        snapshot(0, 0, pressure_us=1e6, throttled_us=0.0), snapshot(10, 0, pressure_us=3e6, throttled_us=5e6)
    )
    assert found["psi_cpu_some_share"] == pytest.approx(0.2)
    assert found["throttled_share"] == pytest.approx(0.5)
    assert not {"psi_cpu_some_share", "throttled_share"} & set(noise_between(snapshot(0, 0), snapshot(1, 0)))


@pytest.mark.parametrize(
    ("online", "cpus", "expected"),
    [
        ("0-3", {1, 2}, ["b", "c"]),
        ("0-1,4,6", {4}, ["c"]),  # CPUs 2, 3 and 5 are off: the third row is of the fifth CPU
        ("", {1}, ["b"]),
        ("0-7", {1}, ["a", "b", "c", "d"]),  # a container that renumbers its CPUs
        ("0-3", {9}, ["a", "b", "c", "d"]),
    ],
)
def test_rows_go_by_the_number_of_the_cpu(online: str, cpus: set[int], expected: list[str]) -> None:
    assert list(of_these("abcd", online, cpus)) == expected


def test_a_busy_host_of_64_cores_does_not_count_beyond_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [Linux() for _ in range(64)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: list(now))
    monkeypatch.setattr(environment, "_read", lambda path: "0-63" if path.endswith("online") else "")
    before = noise_snapshot((2, 3))
    assert before["cores"] == 2
    now[:] = [Linux(user=0.0 if cpu in (2, 3) else 50.0, steal=0.0 if cpu in (2, 3) else 50.0) for cpu in range(64)]
    now[3] = Linux(user=1.0, steal=2.0)
    found = noise_snapshot((2, 3))
    assert (found["busy"] - before["busy"], found["steal"] - before["steal"]) == (1.0, 2.0)


def test_without_a_choice_all_that_we_may_use_counts() -> None:
    assert noise_snapshot()["cores"] == (len(usable()) or psutil.cpu_count())


def test_a_child_that_ended_during_the_load_is_not_foreign() -> None:
    """It is in nobody's tree any more, and its time is in the total of whoever waited for it: here of this process."""
    watch = TreeWatch({"ours": lambda: [os.getpid()]})
    watch.start()
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(time.process_time_ns())"
    done = subprocess.run([sys.executable, "-c", burn], capture_output=True, text=True, check=True)
    spent = int(done.stdout)
    ours = watch.stop()["ours"].cpu_ns
    assert ours >= spent - 20_000_000
    assert noise_between(snapshot(0, 0), snapshot(1, spent / 1e9), ours)["foreign_cpu_share"] == 0


@pytest.mark.skipif(not usable(), reason="cores cannot be chosen here")
def test_a_neighbour_on_our_cpu_is_seen_and_ours_are_not() -> None:
    """Judged by the neighbour's own clock, on one CPU."""
    cpu = min(usable())
    burn = (
        f"import os, time; os.sched_setaffinity(0, [{cpu}])\nprint(1, flush=True)\nwhile time.process_time() < 60: pass"
    )
    with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE, text=True) as neighbour:
        try:
            assert neighbour.stdout is not None and neighbour.stdout.readline()
            watch = TreeWatch({"neighbour": lambda: [neighbour.pid]})
            before = noise_snapshot((cpu,))
            watch.start()
            deadline = time.monotonic() + 300
            while watch.series[-1][1] < 300_000_000 and time.monotonic() < deadline:
                watch.poll()
            watch.stop()
            after = noise_snapshot((cpu,))
        finally:
            neighbour.send_signal(signal.SIGKILL)
    foreign_s = noise_between(before, after)["foreign_cpu_share"] * (after["t"] - before["t"])
    stolen_s = after["steal"] - before["steal"]  # the neighbour's own clock may run on meanwhile
    assert foreign_s + stolen_s >= watch.series[-1][1] / 2e9 >= 0.15
    assert look(neighbour.pid) is None


def test_cores_that_slow_each_other_down_are_worth_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone each hash takes 10 ms; together 10 ms on two real cores, 16 ms on two that share one."""

    def pretend(together_s: float) -> None:
        monkeypatch.setattr(parallel, "_run", lambda cpus, at: dict.fromkeys(cpus, 0.010 if at is None else together_s))

    pretend(0.010)
    assert parallel.cores_worth([0, 1]) == pytest.approx(2.0)
    pretend(0.016)
    assert parallel.cores_worth([0, 1]) == pytest.approx(1.25)
    assert parallel.cores_missing([0, 1]) == pytest.approx(0.375)
    pretend(0.008)  # a clock that ran faster the second time is no third core
    assert parallel.cores_worth([0, 1]) == 2.0


@pytest.mark.skipif(not usable(), reason="cores cannot be chosen here")
def test_one_core_is_worth_at_most_one_and_threads_leave_the_process_where_it_was() -> None:
    before = usable()
    cpu = min(before)
    assert 0 < parallel.cores_worth([cpu]) <= 1
    assert usable() == before
