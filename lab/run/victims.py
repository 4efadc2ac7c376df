"""Whom a signal is for: the worker that serves, a process of its pool.

A fault must be felt.  With keep-alive and few users a worker may have no connection at all, and killing that one proves nothing.
"""

from collections.abc import Sequence

import psutil

from lab.observe.procfs import descendants


def local_ports(pid: int) -> list[int]:
    """Local ports of a process's open TCP connections, one entry each; none where it is gone."""
    try:
        found = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return []
    return [one.laddr.port for one in found if one.laddr and one.status == psutil.CONN_ESTABLISHED]


def busiest(workers: Sequence[int], port: int) -> list[int]:
    """The workers with the most connections of clients first; ``port`` is the server's."""
    return sorted(workers, key=lambda pid: -local_ports(pid).count(port))


def pool_processes(worker: int, workers: Sequence[int]) -> list[int]:
    """Processes below a worker that do its work: neither workers themselves nor helpers of multiprocessing."""
    return [pid for pid in descendants(worker) if pid not in workers and not _helps_multiprocessing(pid)]


def _helps_multiprocessing(pid: int) -> bool:
    """Whether it is multiprocessing's resource tracker or fork server, which does no work of the app's.  True for one that is gone."""
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return True
    return "multiprocessing.resource_tracker" in command or "multiprocessing.forkserver" in command
