"""How many tasks of the event loop a request has started before its answer begins, in ``x-lab-tasks``.

Every ``create_task`` counts, whoever calls it: anyio's task groups, ``asyncio.gather``, a middleware.  The task that the server itself starts for a
request is not among them.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from . import Application, PerRequest, Scope

COUNT = PerRequest("x-lab-tasks")


def _started(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
    COUNT.add()
    return asyncio.Task(coro, loop=loop, **options)


def prepare() -> None:
    """Nothing before the loop runs: the count hangs on it."""


def wrap(app: Application) -> Application:
    """The application, whose loop counts from its first request on."""
    counted = COUNT.wrap(app)

    async def watched(scope: Scope, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            loop.set_task_factory(_started)  # type: ignore[arg-type]  # typeshed knows one of the two forms
        await counted(scope, receive, send)

    return watched
