"""CPU and memory of process trees: nobody is lost, nobody counts twice.

Every process burns CPU time by its own clock and says how much; all waiting is for what a process says, never for a time.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import lab.observe.procfs as procfs
import lab.observe.trees as observe
from lab.observe.procfs import TICK_NS, Key, Kin, Look, look, parse_stat, pss_bytes
from lab.observe.trees import TreeWatch, descendants, process_cpu_ns
from lab.words.codec import from_json, to_json
from lab.words.record import ProcessUse

linux = pytest.mark.skipif(not procfs.is_linux(), reason="only Linux tells of ended children")
MS = 1_000_000
UNTOLD_NS = 2 * TICK_NS  # user and system time of ended children are told in whole ticks

# What a process under test does: one command a line, one answer a line.
ACTOR = """
import os, signal, sys, threading, time
mine = []
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
def child(seconds, then):
    pid = os.fork()
    if pid == 0:
        burn(seconds)
        spent = time.process_time_ns()
        if then == "stay":
            os.write(out, b"%d %d\\n" % (os.getpid(), spent))
            os.read(hold, 1)
        else:
            os.write(out, b"%d\\n" % spent)
        os._exit(0)
    return pid
spent_in, out = os.pipe()
hold, release = os.pipe()
answers = os.fdopen(spent_in, "rb", 0)
for line in sys.stdin:
    word, *rest = line.split()
    said = ""
    if word == "burn":
        burn(float(rest[0]))
        said = time.process_time_ns()
    elif word == "brief":  # N children that burn and end, waited for
        total = 0
        for _ in range(int(rest[0])):
            os.waitpid(child(float(rest[1]), "end"), 0)
            total += int(answers.readline())
        said = total
    elif word == "child":  # one that stays
        mine.append(child(float(rest[0]), "stay"))
        said = answers.readline().decode().strip()
    elif word == "release":  # let the one that stays end, and wait for it
        os.write(release, b"x")
        os.waitpid(mine.pop(0), 0)
    elif word == "deaf":  # children are waited for by nobody
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif word == "leave":
        os._exit(0)
    print(said, flush=True)
"""


class Actor:
    """A process that does as it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.pid = process, process.pid

    def do(self, *words: object) -> str:
        """Tell it, and wait until it has done so."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def number(self, *words: object) -> int:
        """Tell it; the number that it says."""
        return int(self.do(*words).split()[-1])


@contextmanager
def acting() -> Iterator[Actor]:
    process = subprocess.Popen(
        [sys.executable, "-c", ACTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        actor = Actor(process)
        actor.do("ready")
        yield actor
    finally:
        for pid in {process.pid, *(one.key.pid for one in Kin().everybody() if one.session == process.pid)}:
            os.kill(pid, signal.SIGKILL) if look(pid) else None
        process.wait()
        process.communicate()


@pytest.fixture
def actor() -> Iterator[Actor]:
    with acting() as one:
        yield one


def watching(*pids: int) -> TreeWatch:
    watch = TreeWatch({"tree": lambda: list(pids)})
    watch.start()
    return watch


@linux
def test_children_that_live_shorter_than_a_reading_are_counted(actor: Actor) -> None:
    actor.do("burn", 0.05)
    before = process_cpu_ns(actor.pid) or 0
    watch = watching(actor.pid)
    spent = actor.number("brief", 10, 0.02)
    use = watch.stop()["tree"]
    own = (process_cpu_ns(actor.pid) or 0) - before
    assert spent >= 200 * MS
    assert spent - UNTOLD_NS <= use.cpu_ns <= spent + own + 10 * 10 * MS, (
        "each child a little more: its start and its end"
    )
    assert use.processes == 1


@linux
def test_what_was_burnt_before_the_load_does_not_count(actor: Actor) -> None:
    actor.do("brief", 10, 0.02)
    actor.do("child", 0.2)
    watch = watching(actor.pid)
    assert watch.stop()["tree"].cpu_ns < 100 * MS
    watch = watching(actor.pid)
    actor.do("release")
    assert watch.stop()["tree"].cpu_ns < 100 * MS, "its whole time is now in its parent's total"


@linux
def test_a_child_born_during_the_load_counts_from_its_birth(actor: Actor) -> None:
    watch = watching(actor.pid)
    spent = actor.number("child", 0.2)
    watch.poll()
    watch.poll()
    assert watch.stop()["tree"].cpu_ns >= spent >= 200 * MS


@linux
@pytest.mark.parametrize("polls_after", [0, 1])
def test_a_child_seen_alive_and_waited_for_later_counts_once(actor: Actor, polls_after: int) -> None:
    watch = watching(actor.pid)
    spent = actor.number("child", 0.3)
    watch.poll()
    actor.do("release")
    for _ in range(polls_after):
        watch.poll()
    use = watch.stop()["tree"]
    assert spent <= use.cpu_ns < spent + 150 * MS, "twice would be 600 ms"
    assert use.processes == 2


@linux
def test_children_seen_and_unseen_of_one_parent_add_up(actor: Actor) -> None:
    watch = watching(actor.pid)
    seen = actor.number("child", 0.2)
    watch.poll()
    unseen = actor.number("brief", 5, 0.04)
    actor.do("release")
    use = watch.stop()["tree"]
    assert seen + unseen - UNTOLD_NS <= use.cpu_ns < seen + unseen + 180 * MS


@linux
def test_children_that_nobody_waits_for_keep_what_was_seen(actor: Actor) -> None:
    actor.do("deaf")
    watch = watching(actor.pid)
    spent = actor.number("child", 0.2)
    watch.poll()
    os.kill(actor_child(actor), signal.SIGKILL)
    wait_gone(actor)
    assert watch.stop()["tree"].cpu_ns >= spent


def actor_child(actor: Actor) -> int:
    (pid,) = Kin().children(actor.pid)
    return pid


def wait_gone(actor: Actor) -> None:
    deadline = time.monotonic() + 300
    while Kin().children(actor.pid):
        assert time.monotonic() < deadline


@linux
def test_an_orphan_is_followed_and_one_that_was_never_seen_is_found(actor: Actor) -> None:
    watch = watching(actor.pid)
    seen = actor.number("child", 0.1)
    watch.poll()
    late = actor.number("child", 0.1)
    orphans = Kin().children(actor.pid)
    actor.process.stdin.write("leave\n")  # type: ignore[union-attr]
    actor.process.stdin.flush()  # type: ignore[union-attr]
    wait_gone(actor)  # the root itself stays as a zombie until it is waited for, and its session is known by it
    use = watch.stop()["tree"]
    assert len(orphans) == 2 and all(look(pid) for pid in orphans)
    assert use.processes == 3
    assert use.cpu_ns >= seen + late


@linux
def test_everything_below_a_shell_that_is_gone_too_counts_once() -> None:
    """A child and its child vanish between two readings: the total of the first had gone on to its parent."""
    tree, began = observe._Tree(), 5
    cpu = {1: 0, 2: 0, 3: 0}
    looks = {1: seen(1, 0), 2: seen(2, 1), 3: seen(3, 2)}
    with told(looks, cpu):
        tree.take([1], tuple, began, starting=True, kin=Kin())
        cpu.update({2: 7 * MS, 3: 500 * MS})
        tree.take([1], tuple, began, starting=False, kin=Kin())
        del looks[2], looks[3]
        looks[1] = replace(looks[1], reaped_ns=510 * MS)
        assert tree.take([1], tuple, began, starting=False, kin=Kin()), "somebody has vanished"
        assert not tree.take([1], tuple, began, starting=False, kin=Kin())
    assert tree.used_ns == 510 * MS


def seen(pid: int, parent: int, start: int = 1, reaped_ns: int = 0) -> Look:
    return Look(Key(pid, start), parent, 1, reaped_ns, 1, 1000)


@contextmanager
def told(looks: dict[int, Look], cpu: dict[int, int]) -> Iterator[None]:
    """A machine with just these processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "look", looks.get)
        patch.setattr(observe, "process_cpu_ns", lambda pid: cpu[pid] if pid in looks else None)
        patch.setattr(Kin, "children", lambda self, pid: [one.key.pid for one in looks.values() if one.parent == pid])
        patch.setattr(Kin, "everybody", lambda self: list(looks.values()))
        patch.setattr(observe, "pss_bytes", lambda pid: 600)
        patch.setattr(observe, "now_ticks", lambda: 5)
        yield


@pytest.mark.parametrize(("start", "counted"), [(9, 300), (5, 300), (4, 100)])
def test_only_who_was_born_during_the_load_has_used_nothing_before(start: int, counted: int) -> None:
    """Who is older and was missed at the baseline counts from the first time he is seen."""
    looks, cpu = {1: seen(1, 0)}, {1: 50, 2: 200}
    with told(looks, cpu):
        watch = watching(1)
        looks[2] = seen(2, 1, start)
        watch.poll()
        cpu.update({1: 50, 2: 300})
        assert watch.stop()["tree"].cpu_ns == counted


def test_a_pid_that_is_given_again_is_another_process() -> None:
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1)}, {1: 0, 2: 5000}
    with told(looks, cpu):
        watch = watching(1)
        cpu[2] = 6000
        watch.poll()
        looks[2], cpu[2] = seen(2, 1, start=9), 70
        looks[1] = replace(looks[1], reaped_ns=6000)
        use = watch.stop()["tree"]
    assert use.cpu_ns == 1000 + 70
    assert use.processes == 3


def test_a_process_first_seen_with_children_behind_it_counts_them() -> None:
    """Nobody saw it without: it was born and had waited for two children between two readings."""
    looks, cpu = {1: seen(1, 0)}, {1: 0}
    with told(looks, cpu):
        watch = watching(1)
        looks[2], cpu[2] = seen(2, 1, start=9, reaped_ns=300), 40
        watch.poll()
        del looks[2]
        looks[1] = replace(looks[1], reaped_ns=340)
        assert watch.stop()["tree"].cpu_ns == 340, "and its parent's total holds all three"


def test_who_lost_his_parent_is_followed_by_his_pid() -> None:
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1)}, {1: 0, 2: 0}
    with told(looks, cpu):
        watch = watching(1)
        looks[2] = replace(looks[2], parent=0, session=2)
        cpu[2] = 900
        assert watch.stop()["tree"].cpu_ns == 900


def test_the_labs_own_connections_are_left_out_of_the_tree() -> None:
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1), 3: seen(3, 1)}, {1: 0, 2: 0, 3: 0}
    own: list[int] = [2]
    with told(looks, cpu):
        watch = TreeWatch({"postgres": lambda: [1]}, {"postgres": lambda: own})
        watch.start()
        cpu.update({2: 9000, 3: 400})
        watch.poll()
        looks[4], cpu[4] = seen(4, 1, start=9), 77
        watch.poll()
        own.append(4)  # known a reading later than it was there
        watch.poll()
        own.remove(2)  # closed, and not yet gone
        watch.poll()
        del looks[4]
        looks[1] = replace(looks[1], reaped_ns=77)
        use = watch.stop()["postgres"]
    assert use.cpu_ns == 400
    assert use.processes == 2
    assert use.rss_peak_bytes == 2 * 600, "nor is its memory counted"


def test_a_service_without_processes_of_ours_is_absent_not_zero() -> None:
    looks, cpu = {1: seen(1, 0)}, {1: 0}
    with told(looks, cpu):
        watch = TreeWatch({"postgres": list, "server": lambda: [1], "redis": list})
        watch.start()
        cpu[1] = 30
        found = watch.stop()
    assert set(found) == {"server"}
    assert [row[1:] for row in watch.series] == [(0,), (30,)], "columns are those of the result"


def test_a_process_that_vanishes_while_it_is_read_is_looked_for_in_its_parents_total() -> None:
    """The parent is read, then waits for its child: only a second look at the parent holds what the child used."""
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1)}, {1: 0, 2: 0}
    with told(looks, cpu), pytest.MonkeyPatch.context() as patch:
        watch = watching(1)

        def waits(self: Kin, pid: int) -> list[int]:
            if pid == 1 and 2 in looks:
                del looks[2]
                looks[1] = replace(looks[1], reaped_ns=800 * MS)
            return []

        patch.setattr(Kin, "children", waits)
        assert watch.stop()["tree"].cpu_ns == 800 * MS


def test_the_total_of_a_parent_is_read_before_its_children() -> None:
    """A child that is waited for in between would be in both."""
    order: list[int] = []
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1), 3: seen(3, 2)}, {1: 0, 2: 0, 3: 0}
    with told(looks, cpu), pytest.MonkeyPatch.context() as patch:
        watch = watching(1)
        get: Callable[[int], Look | None] = looks.get
        patch.setattr(observe, "look", lambda pid: order.append(pid) or get(pid))  # type: ignore[func-returns-value]
        watch.poll()
    assert order[:3] == [1, 2, 3]


# ---------------------------------------------------------------- children of threads


@linux
def test_a_thread_that_ends_while_it_is_read_does_not_lose_the_subtree(tmp_path: Path) -> None:
    """Its children pass to another thread of the process."""
    looked: list[str] = []

    class Task(type(tmp_path)):  # type: ignore[misc]
        def read_text(self, *args: object, **kwargs: object) -> str:
            looked.append(self.parent.name)
            if self.parent.name == "8":
                (self.parent.parent / "7/children").write_text("21 22")
                self.unlink()
                self.parent.rmdir()
                raise ProcessLookupError(3, "No such process")
            return str(super().read_text())

    for thread, children in (("7", "21"), ("8", "22")):
        (tmp_path / "5/task" / thread).mkdir(parents=True)
        (tmp_path / "5/task" / thread / "children").write_text(children)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procfs, "PROC", Task(tmp_path))
        patch.setattr(procfs, "_has_children_files", lambda: True)
        assert sorted(Kin().children(5)) == [21, 22]
    assert looked.count("8") == 1


@linux
@pytest.mark.parametrize("broken", ["each thread vanishes", "no such files"])
def test_where_threads_cannot_be_read_the_parents_of_all_processes_are(actor: Actor, broken: str) -> None:
    child = int(actor.do("child", 0.0).split()[0])
    with pytest.MonkeyPatch.context() as patch:
        if broken == "no such files":
            patch.setattr(procfs, "_has_children_files", lambda: False)
        else:
            patch.setattr(Path, "iterdir", vanishing(Path.iterdir))
        assert Kin().children(actor.pid) == [child]
        assert descendants(actor.pid) == [actor.pid, child]


def vanishing(real: Callable[[Path], Iterator[Path]]) -> Callable[[Path], Iterator[Path]]:
    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "task":
            raise ProcessLookupError(3, "No such process")
        return real(self)

    return iterdir


def test_a_gone_process_has_no_descendants() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert descendants(child.pid) == []
    assert look(child.pid) is None and process_cpu_ns(child.pid) is None


def test_a_line_of_stat_is_read_by_its_fields() -> None:
    fields = [str(number) for number in range(4, 53)]
    found = parse_stat(77, f"77 (a) b (c)) S {' '.join(fields)}")
    assert found == Look(Key(77, 22), 4, 6, (16 + 17) * TICK_NS, 20, 24 * procfs.PAGE_BYTES)


@linux
def test_a_process_looked_at_is_ourselves() -> None:
    mine = look(os.getpid())
    assert mine is not None
    assert (mine.parent, mine.session) == (os.getppid(), os.getsid(0))
    assert mine.rss_bytes > 1_000_000 and mine.threads >= 1
    assert mine.key.start <= procfs.now_ticks()
    assert abs(procfs.now_ticks() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS) <= 1


# ---------------------------------------------------------------- memory


@linux
def test_memory_that_workers_share_counts_once(actor: Actor) -> None:
    """Four forked children of one process share nearly all pages: resident memory counts them five times."""
    for _ in range(4):
        actor.do("child", 0.0)
    watch = watching(actor.pid)
    use = watch.stop()["tree"]
    own = look(actor.pid)
    assert own is not None and use.memory_kind == "pss" and use.processes == 5
    resident = sum(one.rss_bytes for pid in descendants(actor.pid) if (one := look(pid)))
    assert 0 < use.rss_peak_bytes < 0.75 * resident


def test_memory_that_may_not_be_read_is_resident_memory_and_says_so() -> None:
    looks, cpu = {1: seen(1, 0), 2: seen(2, 1)}, {1: 0, 2: 0}

    def denied(pid: int) -> int:
        if pid == 2:
            raise PermissionError
        return 600

    with told(looks, cpu), pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "pss_bytes", denied)
        patch.setattr(observe, "THOROUGH_S", 0.0)
        patch.setattr(observe, "THOROUGH_COST", 0)
        watch = watching(1)
        watch.poll()
        del looks[2]  # what is readable later is no peak of the whole
        use = watch.stop()["tree"]
    assert (use.rss_peak_bytes, use.memory_kind) == (2000, "rss")


def test_the_peak_of_memory_is_the_greatest_reading() -> None:
    looks, cpu = {1: seen(1, 0)}, {1: 0}
    sizes = iter([600, 900, 700])
    with told(looks, cpu), pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "pss_bytes", lambda pid: next(sizes))
        patch.setattr(observe, "THOROUGH_S", 0.0)
        patch.setattr(observe, "THOROUGH_COST", 0)
        watch = watching(1)
        watch.poll()
        watch.poll()
        use = watch.stop()["tree"]
    assert (use.rss_peak_bytes, use.memory_kind) == (900, "pss")


def test_proportional_memory_of_a_gone_process_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    if procfs.is_linux():
        assert pss_bytes(child.pid) is None
        assert (pss_bytes(os.getpid()) or 0) > 1_000_000
        patched = Path("/nowhere")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PermissionError):
            patch.setattr(procfs, "PROC", patched)
            pss_bytes(os.getpid())


def test_a_record_from_before_says_what_its_memory_was() -> None:
    old = b'{"cpu_ns": 1, "rss_peak_bytes": 2, "processes": 3, "threads_peak": 4}'
    assert from_json(ProcessUse, old, "x") == ProcessUse(1, 2, 3, 4, "rss")
    new = ProcessUse(1, 2, 3, 4, "pss")
    assert from_json(ProcessUse, to_json(new), "x") == new
