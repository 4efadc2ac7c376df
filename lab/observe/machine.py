"""The machine and the software of a run, and how disturbed the machine was meanwhile."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lab.observe.cores import SYSFS, parse_list, siblings, usable
from lab.target.servers import kinds
from lab.target.servers.kind import LOOP_PACKAGES, PARSER_PACKAGES
from lab.words.record import Environment

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent.parent
# /proc/stat counts in ticks of 10 ms, so a difference is uncertain by one tick a core at each end; beside a load of 0.2 s a single tick
# would look like 2.5 % of two cores.  What is within that is not seen.
TICK_S = 0.01
PACKAGES = (
    "fastapi", "starlette", "uvicorn-worker", "pydantic", "anyio", "sqlalchemy", "asyncpg", "psycopg", "redis", "httpx2",
    "celery", "kombu", "pyjwt", "locust", "gevent", "matplotlib", "pandas",
)  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    servers = {one.package: None for one in kinds().values()} | dict.fromkeys(
        (*LOOP_PACKAGES.values(), *PARSER_PACKAGES.values())
    )
    for name in (*PACKAGES, *filter(None, servers)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def capture(services: Mapping[str, str]) -> Environment:
    """The environment now; nothing that names a person or a machine."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = {
        "open files": str(soft), "somaxconn": _read("/proc/sys/net/core/somaxconn"),
        "cgroup cpu.max": _read("/sys/fs/cgroup/cpu.max").removeprefix("max 100000"),  # unlimited is no limit
    }  # fmt: skip
    affinity = {"lab": tuple(sorted(os.sched_getaffinity(0)))} if hasattr(os, "sched_getaffinity") else {}
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}", cpu_model=_cpu_model(), cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total, affinity=affinity, packages=_versions(), services=dict(services),
        limits={name: value for name, value in limits.items() if value}, noise={"load1": os.getloadavg()[0]},
        git_commit=_commit(), siblings=siblings(usable()),
    )  # fmt: skip


def _pressure_us() -> float | None:
    """Microseconds in which some task waited for a CPU so far (pressure stall information), None without it."""
    text = _read("/proc/pressure/cpu")
    for line in text.splitlines():
        if line.startswith("some"):
            return float(line.rpartition("total=")[2])
    return None


def _throttled_us() -> float | None:
    """Microseconds in which a CPU quota of our own control group held us back so far, None without one."""
    for line in _read("/sys/fs/cgroup/cpu.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "throttled_usec":
            return float(value)
    return None


def busy_s(times: Any) -> float:
    """CPU seconds in which somebody's code ran, of one CPU or several.

    Guests are in user (and nice) time already, and stolen time was nobody's here.  Interrupts are left out: the load's own packets on
    the loopback are among them, and no process owns them.
    """
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def of_these(every: Sequence[T], online: str, cpus: Collection[int]) -> Sequence[T]:
    """The rows of some CPUs; all of them where the rows cannot be told apart.

    There is a row for each CPU that is ``online`` (a list as the kernel writes it), so the third row need not be of the third CPU.
    """
    try:
        numbers = sorted(parse_list(online))
    except ValueError:
        numbers = list(range(len(every)))
    if len(numbers) != len(every):
        return every
    return [one for number, one in zip(numbers, every, strict=True) if number in cpus] or every


def noise_snapshot(cpus: Collection[int] = ()) -> dict[str, float]:
    """Counters of these CPUs (else of all that this process may use), to be compared by ``noise_between``.

    In a container ``/proc/stat`` is the host's, with every CPU: only ours are counted, and whoever else uses them is foreign.
    """
    ours = of_these(psutil.cpu_times(percpu=True), _read(str(SYSFS / "online")), set(cpus) or usable())
    found = {
        "t": time.monotonic(), "cores": float(len(ours)), "busy": sum(map(busy_s, ours)),
        "steal": sum(float(getattr(times, "steal", 0.0)) for times in ours),
    }  # fmt: skip
    for name, value in (("pressure_us", _pressure_us()), ("throttled_us", _throttled_us())):
        if value is not None:
            found[name] = value
    return found


def noise_between(before: Mapping[str, float], after: Mapping[str, float], ours_cpu_ns: int = 0) -> dict[str, float]:
    """What happened to our CPUs in between.

    ``steal_share`` is a share of their time, ``busy_cores`` are everybody's, ``foreign_cpu_share`` is what others took, in cores: busy
    cores less ``ours_cpu_ns``, the CPU time of the lab and all that it started, ended children too.  ``psi_cpu_some_share`` and
    ``throttled_share`` are of wall time: some task of the machine waited for a CPU; a quota held us back.
    A neighbour on the host that slows a core without taking it is not seen here (``lab.observe.parallel``); a service of the user's own
    on the same CPUs is foreign.
    """
    wall, cores = max(after["t"] - before["t"], 1e-9), before["cores"]
    unseen_s = 2 * TICK_S * cores
    busy = after["busy"] - before["busy"]
    found = {
        "steal_share": max(0.0, after["steal"] - before["steal"] - unseen_s) / (wall * cores),
        "busy_cores": busy / wall,
        "foreign_cpu_share": max(0.0, busy - ours_cpu_ns / 1e9 - unseen_s) / wall,
        "load1": os.getloadavg()[0],
    }
    for name, counter in (("psi_cpu_some_share", "pressure_us"), ("throttled_share", "throttled_us")):
        if counter in before and counter in after:
            found[name] = (after[counter] - before[counter]) / 1e6 / wall
    return found
