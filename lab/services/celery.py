"""Celery workers of a variant's own ``celery_app``, started and supervised like any server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.model import CeleryWorker
from lab.processes import Child, Guard, wait_until
from lab.services.kind import ServiceKind

START_TIMEOUT_S = 30.0
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class CeleryNode:
    """One worker process with its pool."""

    child: Child
    name: str


def _ready(log_path: Path, offset: int) -> bool:
    try:
        with log_path.open("rb") as log:
            log.seek(offset)
            return b" ready." in log.read()
    except OSError:
        return False


def start_celery(
    guard: Guard,
    target: str,
    worker: CeleryWorker,
    folder: Path,
    env: Mapping[str, str],
    *,
    python: str,
    generation: int,
) -> list[CeleryNode]:
    """Start ``worker.workers`` nodes of ``<target>:celery_app`` one after the other and wait until each consumes.

    One after the other, because who starts first reserves first: that order is part of some lessons.  ``generation`` keeps node
    names apart when workers are started again after a kill.  Raises ServerError with the log's end.
    """
    nodes = []
    for index in range(worker.workers):
        name = f"node{generation + index}"
        log_path = folder / f"celery-{name}.log"
        command = [
            python, "-m", "celery", "-A", f"{target}:celery_app", "worker", "--loglevel", "INFO", "--pool", worker.pool,
            "--concurrency", str(worker.concurrency), "-n", f"{name}@lab", "--without-gossip", "--without-mingle", *worker.options,
        ]  # fmt: skip
        full_env = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
        if os.getuid() == 0:
            full_env["C_FORCE_ROOT"] = "1"
        offset = log_path.stat().st_size if log_path.exists() else 0
        child = guard.spawn(command, env=full_env, cwd=ROOT, log_path=log_path, name=f"celery {name}")
        nodes.append(CeleryNode(child, name))
        wait_until(partial(_ready, log_path, offset), START_TIMEOUT_S, child, "the Celery worker to be ready")
    return nodes


KIND = ServiceKind("celery", drivers=("celery",), one_of=("redis", "rabbitmq"))
