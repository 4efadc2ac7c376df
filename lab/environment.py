"""The machine and the software of a run, and how disturbed the machine was meanwhile."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from lab.record import Environment

ROOT = Path(__file__).resolve().parent.parent
# /proc/stat counts in ticks of 10 ms, so a difference is uncertain by one tick a core at each end; beside a load of 0.2 s a single tick
# would look like 2.5 % of two cores.  What is within that is not seen.
TICK_S = 0.01
PACKAGES = (
    "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "gunicorn", "uvicorn-worker", "granian", "pydantic", "anyio",
    "sqlalchemy", "asyncpg", "psycopg", "redis", "httpx2", "celery", "kombu", "pyjwt", "locust", "gevent", "matplotlib", "pandas",
)  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
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
    limits = {"open files": str(soft), "somaxconn": _read("/proc/sys/net/core/somaxconn")}
    affinity = {"lab": tuple(sorted(os.sched_getaffinity(0)))} if hasattr(os, "sched_getaffinity") else {}
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}", cpu_model=_cpu_model(), cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total, affinity=affinity, packages=_versions(), services=dict(services),
        limits={name: value for name, value in limits.items() if value}, noise={"load1": os.getloadavg()[0]},
        git_commit=_commit(),
    )  # fmt: skip


def _pressure_us() -> float | None:
    """Microseconds in which some task waited for a CPU so far (pressure stall information), None without it."""
    text = _read("/proc/pressure/cpu")
    for line in text.splitlines():
        if line.startswith("some"):
            return float(line.rpartition("total=")[2])
    return None


def noise_snapshot() -> dict[str, float]:
    """Counters to be compared by ``noise_between``."""
    cpu = psutil.cpu_times()
    found = {
        "t": time.monotonic(),
        "steal": getattr(cpu, "steal", 0.0),
        "busy": sum(cpu) - cpu.idle - getattr(cpu, "iowait", 0.0),
    }
    pressure = _pressure_us()
    if pressure is not None:
        found["pressure_us"] = pressure
    return found


def noise_between(before: Mapping[str, float], after: Mapping[str, float], ours_cpu_ns: int = 0) -> dict[str, float]:
    """What happened to the machine in between.

    ``steal_share`` is a share of all CPU time, ``psi_cpu_some_share`` of wall time; ``busy_cores`` are everybody's, and
    ``foreign_cpu_share`` is what others took, in cores: busy cores less ``ours_cpu_ns``, the CPU time of the lab and its children.
    A neighbour on the host that slows a core without taking it is not seen.
    """
    wall = max(after["t"] - before["t"], 1e-9)
    cores = psutil.cpu_count() or 1
    unseen_s = 2 * TICK_S * cores
    found = {
        "steal_share": max(0.0, after["steal"] - before["steal"] - unseen_s) / (wall * cores),
        "busy_cores": (after["busy"] - before["busy"]) / wall,
        "foreign_cpu_share": max(0.0, after["busy"] - before["busy"] - ours_cpu_ns / 1e9 - unseen_s) / wall,
        "load1": os.getloadavg()[0],
    }
    if "pressure_us" in before and "pressure_us" in after:
        found["psi_cpu_some_share"] = (after["pressure_us"] - before["pressure_us"]) / 1e6 / wall
    return found
