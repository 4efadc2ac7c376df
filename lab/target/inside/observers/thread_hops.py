"""How often a request goes to a worker thread before it is answered, in ``x-lab-thread-hops``: every ``anyio.to_thread.run_sync``.

Starlette's and FastAPI's ``run_in_threadpool`` go through it: ``def`` routes, ``def`` dependencies and their exits, files, ``run_in_threadpool``
of the application's own.
"""

from typing import Any

from . import PerRequest

COUNT = PerRequest("x-lab-thread-hops")
wrap = COUNT.wrap


def prepare() -> None:
    """From here on every hop is counted."""
    import anyio.to_thread

    run_sync = anyio.to_thread.run_sync

    async def counted(*args: Any, **options: Any) -> Any:
        COUNT.add()
        return await run_sync(*args, **options)

    setattr(anyio.to_thread, "run_sync", counted)  # noqa: B010
