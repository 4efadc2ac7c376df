"""``bench.py doctor``: what this machine is and what it can see."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.observe.cores import usable
from lab.observe.machine import capture, noise_between, noise_snapshot
from lab.observe.parallel import cores_missing
from lab.services.supervisor import Services
from lab.store import RESULTS, newest_selftest
from lab.words.errors import LabError

NOISE_WINDOW_S = 1.0
QUIET_CORES = 0.5
"""More than this in use by others and times mean little."""
OPEN_FILES_WANTED = 4096
OPTIONAL = {
    "wrk": "cross-check of the generator", "uv": "library versions as a condition", "chromium": "browser tests of the report",
    "docker": "check of docker-compose.yml",
}  # fmt: skip


def examine(services: str) -> dict[str, Any]:
    """Everything that doctor prints, as plain values; ``ok`` is whether a run would work."""
    problems: list[str] = []
    versions: dict[str, str] = {}
    up_s = down_s = 0.0
    try:
        with tempfile.TemporaryDirectory(prefix="lab-doctor-") as logs:
            begin = time.monotonic()
            with Services({"postgres", "redis"}, mode=services, log_folder=Path(logs)) as running:
                up_s = time.monotonic() - begin
                versions = running.versions
                begin = time.monotonic()
            down_s = time.monotonic() - begin
    except LabError as error:
        problems.append(f"{error} {error.hint}".strip())
    environment = capture(versions)
    before = noise_snapshot()
    time.sleep(NOISE_WINDOW_S)  # the noise of this long a window is what is reported
    noise = noise_between(before, noise_snapshot()) | {"cores_missing_share": cores_missing(usable())}
    open_files = int(environment.limits.get("open files", "0"))
    advice = []
    if environment.cores < 4:
        advice.append(
            f"{environment.cores} cores: counts, ratios and CPU per request stand; absolute capacities do not"
        )
    if open_files < OPEN_FILES_WANTED:
        advice.append(
            f"only {open_files} open files allowed: `ulimit -n {OPEN_FILES_WANTED}` before runs with many users"
        )
    if noise["busy_cores"] > QUIET_CORES:
        advice.append(
            f"{noise['busy_cores']:.1f} cores are busy with something else: measure when the machine is quiet"
        )
    return {
        "format_version": 1, "ok": not problems, "problems": problems, "advice": advice, "services_up_s": round(up_s, 2),
        "services_down_s": round(down_s, 2), "environment": asdict(environment), "noise": noise,
        "optional": {name: bool(shutil.which(name)) for name in OPTIONAL}, "selftest": newest_selftest(RESULTS),
    }  # fmt: skip


def lines(found: dict[str, Any]) -> Sequence[str]:
    """The examination as text."""
    machine = found["environment"]
    text = [
        f"{machine['python']} on {machine['platform']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB",
        *(f"{name}: {version}" for name, version in machine["services"].items()),
        f"services up in {found['services_up_s']} s, down in {found['services_down_s']} s",
        f"noise: {found['noise']['busy_cores']:.2f} cores busy, steal {found['noise']['steal_share']:.1%}, all cores at once do the work of "
        f"{machine['cores'] * (1 - found['noise']['cores_missing_share']):.1f}",
    ]
    text += [
        f"{name}: {'found' if there else 'not on the PATH'} ({OPTIONAL[name]})"
        for name, there in found["optional"].items()
    ]
    selftest = found["selftest"]
    text.append(selftest["can_see"] if selftest else "`bench.py selftest` would say what effect this machine can see")
    text += [f"advice: {one}" for one in found["advice"]]
    text += [f"PROBLEM: {one}" for one in found["problems"]]
    if not found["ok"]:
        return [*text, "not ready"]
    quiet = found["noise"]["busy_cores"] <= QUIET_CORES
    text.append("ready" if quiet else "ready for counts; not for times and rates until the machine is quiet")
    return text
