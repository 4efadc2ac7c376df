"""Children under the guard: started without a race, waited for with a deadline, gone whatever happens to the lab."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from lab.guard import Group, signal_exactly, started, take_down
from lab.model import App, Condition, Event, Journey
from lab.ports import PortReservation, is_listening
from lab.processes import Child, Guard, wait_until
from lab.run.stage import Stage
from lab.services.celery import CeleryNode
from lab.services.supervisor import Services
from lab.words.errors import ServerError
from lab.words.record import EventSeen

ROOT = Path(__file__).resolve().parent.parent
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as held:
        yield held


def spawn(guard: Guard, command: list[str], folder: Path, **options: object) -> Child:
    return guard.spawn(command, env={**os.environ}, cwd=folder, log_path=folder / "log", name="child", **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone_within(pids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_stopped_child_is_gone_with_its_own_children(guard: Guard, tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    child = spawn(guard, [sys.executable, "-c", parent], tmp_path)
    wait_until(lambda: (tmp_path / "log").read_text().strip().isdigit(), 10, child, "a pid")
    grandchild = int((tmp_path / "log").read_text())
    child.stop(5)
    assert gone_within([child.pid, grandchild], 5)
    assert not child.killed


ORPHANING = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid, flush=True)"


def test_a_group_is_signalled_while_its_number_cannot_be_somebody_elses(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that has been reaped frees its number: the next signal may reach the group of a stranger."""
    child = spawn(guard, [sys.executable, "-c", ORPHANING], tmp_path)
    wait_until(lambda: (tmp_path / "log").read_text().strip().isdigit(), 10, child, "a pid")
    orphan = int((tmp_path / "log").read_text())
    deadline = time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.poll() == 0
    assert alive(orphan)
    held: list[bool] = []
    really = os.killpg

    def killpg(pgid: int, number: int) -> None:
        held.append((Path("/proc") / str(pgid)).exists())  # a zombie of ours, so nobody else can have the number
        really(pgid, number)

    monkeypatch.setattr(os, "killpg", killpg)
    child.stop(5)
    assert held and all(held)
    assert gone_within([orphan], 5)
    before = len(held)
    child.stop(5)
    child._signal(signal.SIGKILL)
    assert len(held) == before  # reaped: no further signal


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_the_exit_code_is_known_before_and_after_the_child_is_reaped(
    guard: Guard, tmp_path: Path, code: str, expected: int
) -> None:
    child = spawn(guard, [sys.executable, "-c", code], tmp_path)
    deadline = time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (child.poll(), child.poll()) == (expected, expected)
    child.stop(1)
    assert child.poll() == expected


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(SLEEPER, start_new_session=True) as process:
        yield process
        process.kill()


def test_the_guard_leaves_a_group_alone_whose_number_was_given_to_somebody_else(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    group = Group(sleeper.pid, signal.SIGTERM)
    group.start -= 100  # the leader that was registered began a second earlier: this one is another
    take_down({sleeper.pid: group}, "no such marker", [])
    assert sleeper.poll() is None
    take_down({sleeper.pid: Group(sleeper.pid, signal.SIGTERM)}, "no such marker", [])
    assert sleeper.wait(300) == -signal.SIGTERM


def test_the_guard_ends_members_whose_leader_is_gone_once_it_knows_them(tmp_path: Path) -> None:
    code = ORPHANING + "; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdin is not None and leader.stdout is not None
        orphan = int(leader.stdout.readline())
        group = Group(leader.pid, signal.SIGTERM)
        running = {leader.pid: {(pid, started(pid)) for pid in (leader.pid, orphan)}}
        assert group.members(running, "no marker") == running[leader.pid]
        leader.stdin.close()
        leader.wait(300)
    assert alive(orphan)
    take_down({leader.pid: group}, "no marker", [])
    assert gone_within([orphan], 5)


def test_a_process_is_signalled_by_its_number_and_its_start(sleeper: "subprocess.Popen[bytes]") -> None:
    signal_exactly(sleeper.pid, started(sleeper.pid) + 1, signal.SIGKILL)
    assert sleeper.poll() is None
    signal_exactly(sleeper.pid, started(sleeper.pid), signal.SIGKILL)
    assert sleeper.wait(300) == -signal.SIGKILL


def test_a_temporary_folder_of_a_block_is_gone_after_it_and_no_longer_the_guards(guard: Guard) -> None:
    with pytest.raises(KeyError), guard.folder("test-") as folder:
        (folder / "file").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
        raise KeyError
    assert not folder.exists()
    folder.mkdir()  # somebody else's, by chance of the same name
    guard.__exit__(None, None, None)
    assert folder.exists()
    folder.rmdir()
    guard.__enter__()


def test_services_that_start_at_once_all_hear_of_the_guard(guard: Guard) -> None:
    """A line that came while two threads were in readline() was lost to both, and the start of a service hung."""

    def ask() -> None:
        for _ in range(300):
            guard._tell("group 999999999 15", answer=True)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_a_guard_that_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    guard = Guard().__enter__()
    folder = guard.temporary_folder("kept-")
    child = spawn(guard, ["sleep", "60"], tmp_path)
    guard._guard.kill()
    guard._guard.wait()
    child.stop(1.0)  # does not raise: what its owner does after that is still done
    guard.remove(folder)
    assert not alive(child.pid) and not folder.exists()
    with pytest.raises(ServerError, match="guard process is gone"):
        guard.temporary_folder("late-")
    assert not list(Path(tempfile.gettempdir()).glob("gotcha-lab-late-*"))
    guard.__exit__(None, None, None)


def test_a_child_that_ignores_term_is_killed_and_that_is_known(guard: Guard, tmp_path: Path) -> None:
    child = spawn(guard, STUBBORN, tmp_path)
    wait_until(lambda: "up" in (tmp_path / "log").read_text(), 10, child, "its first line")
    child.stop(0.2)
    assert child.killed
    assert gone_within([child.pid], 5)


def test_waiting_for_a_child_that_dies_says_so_with_the_end_of_its_log(guard: Guard, tmp_path: Path) -> None:
    child = spawn(guard, [sys.executable, "-c", "import sys; print('no such driver'); sys.exit(3)"], tmp_path)
    with pytest.raises(ServerError, match=r"code 3.*no such driver"):
        wait_until(lambda: False, 10, child, "nothing")


def test_waiting_has_a_deadline(guard: Guard, tmp_path: Path) -> None:
    child = spawn(guard, SLEEPER, tmp_path)
    with pytest.raises(ServerError, match="waited"):
        wait_until(lambda: False, 0.1, child, "a port")


def test_a_child_gets_its_pipes_after_the_launcher_has_let_it_go(guard: Guard, tmp_path: Path) -> None:
    child = spawn(guard, [sys.executable, "-c", "print(input()[::-1], flush=True)"], tmp_path, pipes=True)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write("abc\n")
    child.stdin.flush()
    assert child.stdout.readline() == "cba\n"


def test_a_reserved_port_is_kept_from_others_and_open_to_the_server() -> None:
    with PortReservation() as reservation:
        assert not is_listening(reservation.port)
        code = textwrap.dedent(f"""
            import socket
            s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", {reservation.port})); s.listen(); print("listens", flush=True); input()
        """)
        server = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "listens\n"
        assert is_listening(reservation.port)
        with pytest.raises(ServerError, match="taken"):
            PortReservation(reservation.port)
        server.communicate("\n", timeout=300)


LAB = """
import os, subprocess, sys, time
from pathlib import Path
from lab.processes import Guard
with Guard() as guard:
    folder = guard.temporary_folder("test-")
    child = guard.spawn({command!r}, env=dict(os.environ), cwd=folder, log_path=folder / "log", name="child")
    other = guard.spawn([sys.executable, "-c", "import os, time; os.setsid() if os.getpgid(0) != os.getpid() else None; time.sleep(60)"],
                        env=dict(os.environ), cwd=folder, log_path=folder / "other", name="other")
    print(child.pid, other.pid, folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("command", [SLEEPER, STUBBORN], ids=["obedient", "ignores TERM"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_however_the_lab_ends(command: list[str], number: int) -> None:
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB.format(command=command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert lab.stdout is not None
    child, other, folder = lab.stdout.readline().split()
    lab.send_signal(number)
    lab.wait(300)
    assert gone_within([int(child), int(other)], 10)
    deadline = time.monotonic() + 300
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()
    lab.stdout.close()


@pytest.mark.parametrize(("whom", "reached"), [("celery_main", 1), ("celery_child", 1), ("celery", 2)])
def test_an_event_reaches_the_part_of_a_celery_worker_that_it_names(
    guard: Guard, tmp_path: Path, whom: str, reached: int
) -> None:
    parent = f"import subprocess; subprocess.Popen({SLEEPER!r}); print('up', flush=True); import time; time.sleep(60)"
    child = spawn(guard, [sys.executable, "-c", parent], tmp_path)
    wait_until(lambda: "up" in (tmp_path / "log").read_text(), 10, child, "its own child")
    event = Event(0, "kill", whom)
    condition = Condition("c", Journey(), events=(event,))
    services = cast(Services, None)  # signals need none
    stage = Stage(
        services, condition, App("t:app"), "", tmp_path, sys.executable, {}, {}, nodes=[CeleryNode(child, "node0")]
    )
    seen: list[EventSeen] = []
    stage.start_events(time.monotonic_ns(), seen)
    deadline = time.monotonic() + 300
    while not seen and time.monotonic() < deadline:
        time.sleep(0.02)
    stage.stop_events()
    time.sleep(0.2)  # the signal has arrived
    assert seen[0].detail == f"SIGKILL to {reached} process(es) of {whom}"
    assert (child.poll() is None) == (whom == "celery_child")
    child.stop(0.1)


WRITER = """
import sys, time
from pathlib import Path
from lab.processes import Guard
with Guard() as guard:
    results = Path(sys.argv[1])
    guard.sweep(results)
    (results / "trial").mkdir()
    (results / "trial" / ".samples.parquet.014579ae.tmp").write_bytes(b"half")
    print("wrote", flush=True)
    time.sleep(60)
"""


def test_a_file_that_was_being_written_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "trial.json", tmp_path / "notes.tmp"]
    for path in kept:
        path.write_text("{}")
    lab = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    assert lab.stdout.readline() == "wrote\n"
    lab.kill()
    lab.wait(300)
    lab.stdout.close()
    half = tmp_path / "trial" / ".samples.parquet.014579ae.tmp"
    deadline = time.monotonic() + 300
    while half.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not half.exists()
    assert all(path.exists() for path in kept)
