"""Raw ASGI apps whose behaviour is known: what the lab says about them is what the lab is worth.

``work`` burns a fixed number of loop iterations; ``work_5``, ``work_10`` and ``work_20`` burn 5, 10 and 20 % more; ``work_again`` is ``work``
under another name.  ``light`` does nothing; ``light_bare`` is the same app, run without the lab's wrapper.  ``serial`` holds the event
loop for SERVICE_S a request: one server, constant service time, an M/D/1 queue under Poisson arrivals.  ``stalled`` answers at once, but
its loop stands still for STALL_S in every PERIOD_S.

``blocking`` holds the loop for $BLOCK_S a request, and /longest tells how long the longest really took.  ``threaded`` lends each request
a thread for HELD_S.  ``late`` answers after LATE_S, however many ask.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

SERVICE_S = 0.005
STALL_S = 0.5
PERIOD_S = 4.0
ITERATIONS = 60_000
HELD_S = 0.06
LATE_S = 1.0

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


OK_BODY = b'{"ok":true}'


def _answering(answer: Callable[[str], Awaitable[bytes]]) -> App:
    """An app whose body for a path is what ``answer`` returns."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await answer(scope["path"])
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _app(before: Callable[[], None]) -> App:
    async def answer(path: str) -> bytes:
        before()
        return OK_BODY

    return _answering(answer)


def _burn(iterations: int) -> Callable[[], None]:
    def burn() -> None:
        for _ in range(iterations):
            pass

    return burn


def _serve() -> None:
    time.sleep(SERVICE_S)


_origin = time.monotonic()


def _stall() -> None:
    phase = (time.monotonic() - _origin) % PERIOD_S
    if phase < STALL_S:
        time.sleep(STALL_S - phase)


_longest_s = 0.0


def _hold() -> None:
    global _longest_s
    began = time.perf_counter()
    time.sleep(float(os.environ["BLOCK_S"]))
    _longest_s = max(_longest_s, time.perf_counter() - began)


async def _block(path: str) -> bytes:
    if path == "/longest":
        return b'{"longest_s":%.9f}' % _longest_s
    _hold()
    return OK_BODY


async def _in_a_thread(path: str) -> bytes:
    from anyio.to_thread import run_sync

    await run_sync(time.sleep, HELD_S)
    return OK_BODY


async def _wait(path: str) -> bytes:
    await asyncio.sleep(LATE_S)
    return OK_BODY


work = _app(_burn(ITERATIONS))
work_again = _app(_burn(ITERATIONS))
work_5 = _app(_burn(round(ITERATIONS * 1.05)))
work_10 = _app(_burn(round(ITERATIONS * 1.10)))
work_20 = _app(_burn(round(ITERATIONS * 1.20)))
light = _app(_burn(0))
light_bare = _app(_burn(0))
serial = _app(_serve)
stalled = _app(_stall)
blocking = _answering(_block)
threaded = _answering(_in_a_thread)
late = _answering(_wait)
