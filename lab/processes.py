"""Children of the lab: started under the guard, waited for with a deadline, stopped with their whole group."""

import contextlib
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lab import guard as guard_module
from lab.guard import MARKER
from lab.words.errors import LabError, ServerError

POLL_S = 0.01
REAP_S = 5.0
"""A group that got KILL is gone at once; what is not by then hangs in the kernel."""
TAIL_BYTES = 4000
# The launcher waits until its group is registered with the guard, so that no instant exists in which a running child is unknown;
# if the lab dies first it reads end of file and leaves.  The gate is standard input, which `read` takes byte by byte.
LAUNCHER = 'read -r _ || exit 1; exec "$@"'


@dataclass
class Child:
    """A running command, leader of its own session and group.

    The leader is not reaped before its group is done with: as long as it is a zombie, nobody else can be given its number, and a
    signal to the group can reach nobody else.
    """

    process: "subprocess.Popen[str]"
    name: str
    log_path: Path
    stop_signal: int
    _forget: Callable[[int], None] = field(repr=False)
    killed: bool = False
    _stopped: bool = False

    @property
    def pid(self) -> int:
        """The pid, which is also the group's."""
        return self.process.pid

    @property
    def stdin(self) -> IO[str] | None:
        """Standard input where it is a pipe."""
        return self.process.stdin

    @property
    def stdout(self) -> IO[str] | None:
        """Standard output where it is a pipe."""
        return self.process.stdout

    def poll(self) -> int | None:
        """The exit code, or None while it runs.  The process stays a zombie until ``stop``."""
        if self.process.returncode is not None:
            return self.process.returncode
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self.process.poll()
        try:
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # another thread has just stopped it
            return self.process.poll()
        if seen is None:
            return None
        return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of the log, on one line."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return "no log"
        return reason_in(text, lines) or "its log is empty"

    def stop(self, timeout_s: float) -> None:
        """Signal the group, wait, KILL what is left of it.  Raises ServerError where even that does not end the leader."""
        if self._stopped:
            return
        if self.poll() is None:
            self._signal(self.stop_signal)
            self.killed = not self._ends_within(timeout_s)
        self._signal(signal.SIGKILL)  # members that outlived the leader
        try:
            self.process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            raise ServerError(
                f"{self.name} (pid {self.pid}) cannot be killed", "Look at it with ps; it may hang in the kernel."
            ) from None
        self._stopped = True
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._forget(self.pid)

    def _ends_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _signal(self, number: int) -> None:
        if self.process.returncode is not None:
            return  # reaped: the number may be somebody else's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Guard:
    """Starts children and promises that none outlives the lab.  A context manager; leave it last."""

    def __enter__(self) -> Self:
        self._marker = secrets.token_hex(8)
        self._children: list[Child] = []
        self._asking = threading.Lock()
        read_end, self._write_end = os.pipe()
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-E", guard_module.__file__, self._marker], stdin=read_end, stdout=subprocess.PIPE,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        os.close(read_end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        problems = []
        for child in reversed(self._children):
            try:
                child.stop(5.0)
            except LabError as problem:
                problems.append(problem)
        os.close(self._write_end)  # the guard sees the end of its input, cleans what is left, and goes
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(10)
        assert self._guard.stdout is not None
        self._guard.stdout.close()
        if problems and error is None:
            raise problems[0]

    def _tell(self, line: str, *, answer: bool = False) -> None:
        gone = ServerError("the guard process is gone", "Start the lab again.")
        # Services start on threads, and a line that arrives while two threads are in readline() is lost to both: one asks at a time.
        with self._asking:
            try:
                os.write(self._write_end, f"{line}\n".encode())
            except OSError as error:
                raise gone from error
            if answer:
                assert self._guard.stdout is not None
                if not self._guard.stdout.readline():
                    raise gone

    def _forget(self, pid: int) -> None:
        with self._asking:
            self._children = [child for child in self._children if child.pid != pid]
        with contextlib.suppress(
            ServerError
        ):  # a guard that is gone remembers nothing; what follows a stop must still be done
            self._tell(f"forget {pid}")

    def child_pids(self) -> list[int]:
        """Leaders of the groups that run now."""
        return [child.pid for child in self._children]

    def temporary_folder(self, prefix: str) -> Path:
        """A new folder that is gone when the lab is.  Nobody else can know its name before or write into it after."""
        folder = Path(tempfile.mkdtemp(prefix=f"gotcha-lab-{prefix}"))
        try:
            self._tell(f"folder {folder}")
        except ServerError:
            remove_folder(folder)  # nobody would remove it later
            raise
        return folder

    def remove(self, folder: Path) -> None:
        """Remove a temporary folder before the lab ends."""
        remove_folder(folder)
        if not folder.exists():
            with contextlib.suppress(ServerError):  # a guard that is gone removes nothing later either
                self._tell(f"removed {folder}")

    @contextlib.contextmanager
    def folder(self, prefix: str) -> Iterator[Path]:
        """A temporary folder for the block, gone at its end however it ends."""
        made = self.temporary_folder(prefix)
        try:
            yield made
        finally:
            self.remove(made)

    def sweep(self, folder: Path) -> None:
        """When the lab is gone, however it went, no half-written file is left in this folder."""
        self._tell(f"sweep {folder.resolve()}")

    def spawn(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_path: Path, name: str,
        stop_signal: int = signal.SIGTERM, user: str | None = None, pipes: bool = False,
    ) -> Child:  # fmt: skip
        """Start ``command`` as the leader of its own session.  ``pipes`` gives text pipes for standard input and output.

        Everything else goes to ``log_path`` (appended).  ``user`` drops root's rights to that account.  Raises ServerError.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        full_env = {**env, MARKER: self._marker}
        full_env.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that compiles its imports each time starts slowly
        identity = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        try:
            with log_path.open("ab") as log:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", LAUNCHER, name, *command], env=full_env, cwd=cwd, start_new_session=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE if pipes else log, stderr=log,
                    text=True, **identity,  # type: ignore[call-overload]
                )  # fmt: skip
            child = Child(process, name, log_path, stop_signal, self._forget)
            with self._asking:
                self._children.append(child)
            self._tell(f"group {process.pid} {stop_signal}", answer=True)
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            if not pipes:
                process.stdin.close()
        except OSError as error:
            raise ServerError(f"{name} cannot be started: {error}", "Check the log folder and the limits.") from error
        return child


_ERROR_LINE = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b.*")
_FRAME_LINE = re.compile(r'^File "(?P<file>[^"]+)", line (?P<line>\d+)')


LAST_WORDS = 3
"""An error further up was survived: what ended the process stands in the last lines (a server adds that its start failed)."""


def reason_in(log: str, lines: int) -> str:
    """What a log says last, on one line: of a Python traceback the error and the last file of somebody's own, else the last ``lines``."""
    found = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(found) if _ERROR_LINE.match(line) and i >= len(found) - LAST_WORDS]
    if errors:
        frames = [match for line in found[: errors[-1]] if (match := _FRAME_LINE.match(line))]
        own = [one for one in frames if "site-packages" not in one["file"] and not one["file"].startswith("<")]
        where = f" ({Path(own[-1]['file']).name}:{own[-1]['line']})" if own else ""
        return f"{found[errors[-1]]}{where}"
    return " | ".join(found[-lines:])


def wait_until(predicate: Callable[[], bool], timeout_s: float, child: Child, what: str) -> None:
    """Wait for ``predicate``.  Raises ServerError with the log's end where the child dies first or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        code = child.poll()
        if code is not None:
            raise ServerError(f"{child.name} ended with code {code} while waiting for {what}: {child.log_tail()}",
                              f"Its log, {child.log_path.name}, has the rest.")  # fmt: skip
        if time.monotonic() > deadline:
            raise ServerError(f"{child.name}: waited {timeout_s:.0f} s for {what}: {child.log_tail()}",
                              f"Its log is {child.log_path.name}.")  # fmt: skip
        time.sleep(POLL_S)


def unused_log(folder: Path, name: str) -> Path:
    """Where a server logs: ``name.log``, or ``name-2.log`` where one of that name has died before and its log is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(2)
    path = folder / f"{name}.log"
    while path.exists():
        path = folder / f"{name}-{next(numbers)}.log"
    return path


def remove_folder(folder: Path) -> None:
    """Remove a folder, as far as it goes."""
    shutil.rmtree(folder, ignore_errors=True)
