"""Whom a signal is for: a fault that nobody feels proves nothing."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.run.victims import busiest, pool_processes

HOLDER = """
import socket, subprocess, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
helper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "multiprocessing.resource_tracker"], stdin=subprocess.PIPE)
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(helper.pid, child.pid, *(one.getsockname()[1] for one in held), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process with open connections, a helper of multiprocessing and a child that works."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self.helper, self.child, *self.ports = map(int, process.stdout.readline().split())


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    """One with no connection, one with two."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        found = []
        for connections in (0, 2):
            arguments = [sys.executable, "-c", HOLDER, str(server.getsockname()[1]), str(connections)]
            process = stack.enter_context(
                subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdin is not None
            stack.callback(process.stdin.close)  # its end: it and its children end with their input
            found.append(Holder(process))
        yield found


def test_the_worker_that_serves_is_first_whatever_its_place(holders: list[Holder]) -> None:
    idle, serving = holders
    port = serving.ports[0]
    for workers in ([idle.pid, serving.pid], [serving.pid, idle.pid]):
        assert busiest(workers, port) == [serving.pid, idle.pid]
    assert busiest([idle.pid, serving.pid], 1) == [idle.pid, serving.pid], "connections to others do not count"
    assert busiest([2**22 + 1, serving.pid], port)[0] == serving.pid, "one that is gone serves nobody"


def test_a_pools_processes_are_neither_workers_nor_helpers(holders: list[Holder]) -> None:
    _, serving = holders
    assert pool_processes(serving.pid, [serving.pid]) == [serving.child]
    assert pool_processes(serving.pid, [serving.pid, serving.child]) == []
