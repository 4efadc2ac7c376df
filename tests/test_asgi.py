"""The wrapper in a real event loop whose clock the test holds: time passes only where the test or an idle loop lets it."""

import asyncio
import errno
import gc
import math
import multiprocessing
import os
import selectors
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio import to_thread

from lab.target.inside import asgi
from lab.target.inside.asgi import Borrowers, Observed, watch_threads
from lab.target.inside.rowfile import KEPT_BYTES, RowFile
from lab.target.inside.rows import (
    GOES_ON,
    ROW_NS,
    SERVER_COLUMNS,
    SERVER_ROW_BYTES,
    SHUT_DOWN,
    TICK_COLUMNS,
    TICK_NS,
    TICKS,
)

MS = 1_000_000
Message = MutableMapping[str, Any]


class HeldLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to its next timer instead of waiting; ``block`` is a callback that holds it."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000
        loop = self

        class Jumping(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                found = super().select(0)
                if timeout and not found:
                    loop.ns += math.ceil(timeout * 1e9)
                return found

        super().__init__(Jumping())

    def time(self) -> float:
        return self.ns / 1e9

    def block(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture(autouse=True)
def leave_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The wrapper is made for a process of its own: it hooks into the collector and into the classes of pools."""
    monkeypatch.setattr(asgi, "watch_pools", lambda watch: None)
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


async def receive() -> Message:
    return {"type": "http.request"}


async def nowhere(message: Message) -> None:
    del message


async def answer(scope: Message, receive: Any, send: Any) -> None:
    """An app that sends the same two messages for every request."""
    await send(START)
    await send(BODY)


START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
BODY: Message = {"type": "http.response.body", "body": b"x"}


def scope(*headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http", "headers": [(b"host", b"h"), *headers]}


OWN = scope((b"x-lab-own", b"1"))


def rows_in(folder: Path) -> dict[str, Any]:
    """All rows of this process, by column."""
    matrix = np.fromfile(folder / f"{os.getpid()}.rows", dtype=np.int64).reshape(-1, len(SERVER_COLUMNS))
    return {name: matrix[:, at] for at, name in enumerate(SERVER_COLUMNS)}


def spans_of(rows: dict[str, Any]) -> Any:
    return np.stack([rows[name] for name in TICK_COLUMNS], axis=1)


def held(
    folder: Path, use: Callable[[Observed, HeldLoop], Coroutine[Any, Any, None]], app: Any = answer
) -> dict[str, Any]:
    """Run ``use`` on a loop with a held clock and give the rows.  They must tile the time, whatever happened."""
    loop = HeldLoop()
    observed = Observed(app, folder, lambda: loop.ns)
    try:
        loop.run_until_complete(use(observed, loop))
    finally:
        loop.close()
    rows = rows_in(folder)
    assert (rows["start_ns"][1:] == rows["t_ns"][:-1]).all()
    assert (spans_of(rows).sum(axis=1) == rows["t_ns"] - rows["start_ns"]).all()
    assert (rows["pid"] == os.getpid()).all()
    return rows


async def ask(app: Observed, request: Message, send: Any = nowhere) -> None:
    await app(request, receive, send)


def test_an_idle_loop_writes_a_row_each_100_ms_by_the_clock(tmp_path: Path) -> None:
    async def idle(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        await asyncio.sleep(1.0)

    rows = held(tmp_path, idle)
    assert rows["start_ns"][0] == rows["t_ns"][0] == 1_000_000_000  # the first row says that the worker has come up
    lengths = (rows["t_ns"] - rows["start_ns"])[1:]
    assert 9 <= len(lengths) <= 10 and (np.abs(lengths - ROW_NS) <= TICK_NS).all()
    assert rows["loop_lag_max_ns"].max() < MS


@pytest.mark.parametrize("block_ms", [20, 50, 95, 99, 100, 101, 500])
@pytest.mark.parametrize("free_ms", [1, 3, 7])
def test_a_blocked_loop_is_read_within_ten_milliseconds(tmp_path: Path, block_ms: int, free_ms: int) -> None:
    async def blocked(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        began = loop.ns
        while loop.ns < began + 1000 * MS:
            loop.block(block_ms / 1000)
            await asyncio.sleep(free_ms / 1000)
        await asyncio.sleep(0.2)

    rows = held(tmp_path, blocked)
    assert block_ms - 10 <= rows["loop_lag_max_ns"].max() / MS <= block_ms
    while_blocked = rows["t_ns"] <= rows["t_ns"][0] + 1000 * MS
    longest = max(ROW_NS, block_ms * MS) + (block_ms + free_ms + 5) * MS
    assert ((rows["t_ns"] - rows["start_ns"])[while_blocked] <= longest).all()
    late = np.sort(spans_of(rows)[spans_of(rows) > 0])
    blocked_time = late[late >= (block_ms - 10) * MS].sum()
    assert blocked_time >= 0.7 * 1000 * MS  # no block is missing between the rows


def test_a_tick_that_waits_for_two_blocks_in_one_turn_is_late_by_both(tmp_path: Path) -> None:
    """Asyncio runs what is ready before the timers that come due meanwhile: that is how late a timer of the target's would be, too."""

    async def blocked(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        for _ in range(10):
            loop.block(0.095)
            await asyncio.sleep(0)

    rows = held(tmp_path, blocked)
    assert rows["loop_lag_max_ns"][1:].tolist() == [185 * MS] + [(190 - 5) * MS] * 4


def test_every_span_is_late_by_what_the_block_had_left_when_the_tick_was_due(tmp_path: Path) -> None:
    async def twice(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        loop.block(0.030)  # the tick was due after 5 ms
        await asyncio.sleep(0.0075)  # a tick after 5 ms, and half the way to the next
        loop.block(0.012)
        await asyncio.sleep(0.3)

    spans = spans_of(held(tmp_path, twice))
    flat = spans[spans > 0]
    assert (np.round(flat[:3] / MS, 3) == [30, 5, 14.5]).all()
    assert (np.abs(flat[3:] - TICK_NS) < 1000).all()


def test_a_clock_that_ticks_early_fills_the_row_and_loses_nothing(tmp_path: Path) -> None:
    """uvloop rounds to milliseconds: more ticks than a row has room for would come within 100 ms."""
    loop = HeldLoop()

    async def early() -> None:
        app = Observed(answer, tmp_path, lambda: loop.ns * 4 // 5)
        await ask(app, scope())
        await asyncio.sleep(1.0)

    loop.run_until_complete(early())
    loop.close()
    rows = rows_in(tmp_path)
    assert (rows["start_ns"][1:] == rows["t_ns"][:-1]).all()
    assert (spans_of(rows)[1:] > 0).sum(axis=1).tolist() == [TICKS] * (len(rows["t_ns"]) - 1)
    assert (rows["loop_lag_max_ns"] == 0).all()


@pytest.mark.parametrize("phase_ms", [0, 3, 38, 97])
def test_a_burst_is_counted_when_its_requests_begin_whatever_the_phase(tmp_path: Path, phase_ms: int) -> None:
    async def waits(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.001)
        await answer(scope, receive, send)

    async def burst(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        await asyncio.sleep(phase_ms / 1000)
        await asyncio.gather(*(ask(app, scope()) for _ in range(40)), *(ask(app, OWN) for _ in range(3)))
        await asyncio.sleep(0.3)

    rows = held(tmp_path, burst, waits)
    assert rows["in_flight"].max() == 40
    assert (rows["in_flight"] == 40).sum() == 1
    assert (rows["requests"][-1], rows["answered"][-1], rows["own"][-1]) == (41, 41, 3)


def test_a_request_that_lasts_is_in_flight_in_every_row(tmp_path: Path) -> None:
    async def long(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.35)

    async def use(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())
        await asyncio.sleep(0.25)

    rows = held(tmp_path, use, long)
    assert rows["in_flight"][1:].tolist()[:3] == [1, 1, 1] and rows["in_flight"][-1] == 0


def test_a_request_ends_with_its_last_byte_and_not_with_what_the_app_does_afterwards(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    async def background(scope: Message, receive: Any, send: Any) -> None:
        await send(START)
        await send({**BODY, "more_body": True})
        await send(BODY)
        await asyncio.sleep(1.0)

    async def use(app: Observed, loop: HeldLoop) -> None:
        async def look(message: Message) -> None:
            assert app._sampler is not None
            seen.append((app._sampler.load.begun, app._sampler.load.ended))

        await ask(app, scope(), look)

    rows = held(tmp_path, use, background)
    assert seen == [(1, 0), (1, 0), (1, 1)]
    assert rows["answered"][2] == 1 and rows["requests"][-1] == 1  # and it is counted once


def test_a_request_that_fails_or_is_cancelled_ends_once(tmp_path: Path) -> None:
    async def fails(scope: Message, receive: Any, send: Any) -> None:
        await send(START)
        if scope.get("path") == "hang":
            await asyncio.sleep(60)
        raise RuntimeError("broke")

    async def use(app: Observed, loop: HeldLoop) -> None:
        with pytest.raises(RuntimeError):
            await ask(app, scope())
        task = asyncio.create_task(ask(app, {**scope(), "path": "hang"}))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)

    rows = held(tmp_path, use, fails)
    assert (rows["requests"][-1], rows["answered"][-1]) == (2, 2)


def test_every_answer_names_the_worker_once_and_the_apps_own_message_is_left_alone(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def use(app: Observed, loop: HeldLoop) -> None:
        async def keep(message: Message) -> None:
            sent.append(message)

        for _ in range(3):
            await ask(app, scope(), keep)

    held(tmp_path, use)
    starts = [m["headers"] for m in sent if m["type"] == "http.response.start"]
    assert starts == [[(b"a", b"b"), (b"x-lab-pid", str(os.getpid()).encode())]] * 3
    assert START["headers"] == [(b"a", b"b")]


async def lifespan(scope: Message, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
    else:
        await answer(scope, receive, send)


def test_the_last_row_is_written_before_the_server_hears_that_the_shutdown_is_complete(tmp_path: Path) -> None:
    at_completion: list[int] = []

    async def use(app: Observed, loop: HeldLoop) -> None:
        steps: asyncio.Queue[Message] = asyncio.Queue()

        async def hear(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                at_completion.append(int(rows_in(tmp_path)["ending"][-1]))

        life = asyncio.create_task(app({"type": "lifespan"}, steps.get, hear))
        await steps.put({"type": "lifespan.startup"})
        await asyncio.sleep(0.150)
        await ask(app, scope())
        loop.block(0.033)
        await steps.put({"type": "lifespan.shutdown"})
        await life
        await asyncio.sleep(1.0)

    rows = held(tmp_path, use, lifespan)
    assert at_completion == [SHUT_DOWN]
    assert rows["ending"].tolist() == [GOES_ON] * (len(rows["ending"]) - 1) + [SHUT_DOWN]
    assert rows["requests"][-1] == rows["answered"][-1] == 1
    assert rows["t_ns"][-1] == pytest.approx(1_000_000_000 + 183 * MS, abs=MS)


def forty_threads(folder: Path, phase: Callable[[], Awaitable[None]], limiter: Any = None) -> dict[str, Any]:
    """Forty threads that are all there at once, on a real loop with a real clock."""
    meet = threading.Barrier(40)

    async def in_thread(scope: Message, receive: Any, send: Any) -> None:
        await to_thread.run_sync(meet.wait, limiter=limiter)
        await answer(scope, receive, send)

    async def use() -> None:
        app = Observed(in_thread, folder)
        app._start()
        await phase()
        await asyncio.gather(*(ask(app, scope()) for _ in range(40)))
        assert app._sampler is not None
        app._sampler.finish()

    asyncio.run(use())
    return rows_in(folder)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_forty_threads_read_forty_however_short_the_burst(tmp_path: Path, turns: int) -> None:
    async def phase() -> None:
        for _ in range(turns):
            await asyncio.sleep(0.007)

    rows = forty_threads(tmp_path, phase)
    assert rows["threads_borrowed"].max() == 40


def test_threads_of_another_limiter_are_not_the_default_ones(tmp_path: Path) -> None:
    async def phase() -> None: ...

    assert forty_threads(tmp_path, phase, anyio.CapacityLimiter(40))["threads_borrowed"].max() == 0


def test_threads_are_counted_whichever_way_the_limiter_lends() -> None:
    """At once, in a waiter's turn, and where the limit is raised: what holds in one version of AnyIO is another's private matter."""

    async def use() -> list[int]:
        limiter = anyio.CapacityLimiter(2)
        limiter.acquire_on_behalf_of_nowait("before")
        borrowers = watch_threads(limiter)
        assert borrowers is not None
        seen = [borrowers.take()]
        limiter.acquire_on_behalf_of_nowait("at once")
        seen.append(borrowers.take())
        waiting = [asyncio.create_task(limiter.acquire_on_behalf_of(name)) for name in "abc"]
        await asyncio.sleep(0)
        limiter.total_tokens = 4
        await asyncio.sleep(0)
        seen.append(borrowers.take())
        for name in ("before", "at once"):
            limiter.release_on_behalf_of(name)
        await asyncio.gather(*waiting)
        assert limiter.borrowed_tokens == len(borrowers) == 3
        return [*seen, borrowers.take(), borrowers.take()]

    assert asyncio.run(use()) == [1, 2, 4, 4, 3]


def test_a_limiter_that_keeps_no_set_is_said_to_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "watch_threads", lambda limiter: watch_threads(object()))

    async def use(app: Observed, loop: HeldLoop) -> None:
        await ask(app, scope())

    assert held(tmp_path, use)["threads_borrowed"].tolist() == [-1]
    assert Borrowers([1, 2]).take() == 2


def test_a_worker_forked_from_one_that_ran_already_is_another_worker(tmp_path: Path) -> None:
    """A server that loads the app, or even asks it, before it forks: pid, header and rows are the child's own."""
    app = Observed(answer, tmp_path)

    async def header() -> bytes:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await ask(app, scope(), keep)
        return dict(sent[0]["headers"])[b"x-lab-pid"]  # type: ignore[no-any-return]

    def child(pipe: Any) -> None:
        pipe.send((os.getpid(), asyncio.run(header())))

    assert asyncio.run(header()) == str(os.getpid()).encode()
    before = (tmp_path / f"{os.getpid()}.rows").read_bytes()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    assert ours.poll(60)
    pid, named = ours.recv()
    process.join()
    assert named == str(pid).encode() and pid != os.getpid()
    assert {path.name for path in tmp_path.iterdir()} == {f"{os.getpid()}.rows", f"{pid}.rows"}
    assert (tmp_path / f"{os.getpid()}.rows").read_bytes() == before


class Disk:
    """A file on a disk with room for so many bytes; it takes a part of what is written, and refuses once it is full."""

    def __init__(self, path: Path, room: int) -> None:
        self.file = path.open("ab", buffering=0)
        self.room = room

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self.room]
        self.file.write(taken)
        self.room -= len(taken)
        return len(taken)

    def close(self) -> None:
        self.file.close()


def test_a_disk_that_is_full_for_a_while_loses_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = RowFile(tmp_path / "7.rows")
    disk = Disk(tmp_path / "7.rows", SERVER_ROW_BYTES + 13)
    file._file = disk  # type: ignore[assignment]
    rows = [bytes([number]) * SERVER_ROW_BYTES for number in range(4)]
    file.append(rows[0])
    assert (tmp_path / "7.rows").read_bytes() == rows[0]
    file.append(rows[1])
    file.append(rows[2])
    assert [path.name for path in tmp_path.iterdir()] == ["7.lost"]
    disk.room = 1 << 20
    file.append(rows[3])
    assert [path.name for path in tmp_path.iterdir()] == ["7.rows"]
    assert (tmp_path / "7.rows").read_bytes() == b"".join(rows)
    file.close()
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_disk_that_stays_full_takes_no_more_than_a_megabyte_of_memory(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "7.rows")
    disk = Disk(tmp_path / "7.rows", 0)
    file._file = disk  # type: ignore[assignment]
    for _ in range(2 * KEPT_BYTES // SERVER_ROW_BYTES):
        file.append(bytes(SERVER_ROW_BYTES))
    assert file._pending == b""
    disk.room = 1 << 30
    file.append(bytes(SERVER_ROW_BYTES))
    assert [path.name for path in tmp_path.iterdir()] == ["7.lost"]  # rows after a hole would not tile
    file.close()


def test_a_folder_that_is_gone_changes_no_answer(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def use() -> None:
        app = Observed(answer, tmp_path / "gone")

        async def keep(message: Message) -> None:
            sent.append(message)

        await ask(app, scope(), keep)

    asyncio.run(use())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
