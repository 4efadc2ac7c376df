"""What one call costs the process that makes it, in CPU: an HTTP call blocking and awaited, a Redis GET, a query, and a small route beside them.

uv run benchmarks/call_costs.py [CALLS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, it would not find the lab

import asyncpg
import httpx2
import uvloop
from fastapi import FastAPI
from redis.asyncio import Redis

from lab.observe.machine import capture
from lab.services.supervisor import Services
from lab.services.upstream import start_upstream

CALLS = 2_000
ROUNDS = 5
"""The median of so many, in turns, so that a slow moment meets all of them."""


def small_route() -> Callable[[], Awaitable[None]]:
    """A request through FastAPI without a server: what is called is the application, as a server calls it."""
    app = FastAPI()

    @app.get("/account")
    async def read_account() -> dict[str, str]:
        return {"name": "Ada"}

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/account",
        "raw_path": b"/account", "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        return None

    async def ask() -> None:
        await app(dict(scope), receive, send)

    return ask


async def measure(calls: int, upstream: str, postgres: str, redis_url: str) -> dict[str, list[float]]:
    """CPU seconds of this process for a call, by kind, a number for each round."""
    async with (
        httpx2.AsyncClient(base_url=upstream) as awaited,
        Redis.from_url(redis_url) as redis,
        asyncpg.create_pool(postgres, min_size=1, max_size=1) as pool,
    ):
        blocking = httpx2.Client(base_url=upstream)

        async def call_blocking() -> None:
            blocking.get("/items/7")

        kinds: dict[str, Callable[[], Awaitable[object]]] = {
            "httpx2.Client, blocking": call_blocking,
            "httpx2.AsyncClient, awaited": lambda: awaited.get("/items/7"),
            "redis.asyncio GET": lambda: redis.get("nothing"),
            "asyncpg, acquire and SELECT 1": lambda: pool.fetchval("SELECT 1"),
            "a small route, without a server": small_route(),
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ROUNDS + 1):
            for name, call in kinds.items():
                begin = time.process_time()
                for _ in range(calls):
                    await call()
                found[name].append((time.process_time() - begin) / calls)
        blocking.close()
        return {name: costs[1:] for name, costs in found.items()}  # the first round opens connections


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    with tempfile.TemporaryDirectory() as folder, Services({"postgres", "redis"}, log_folder=Path(folder)) as services:
        assert services.postgres and services.redis
        with start_upstream(services.guard, 0.0, Path(folder)) as upstream:
            found = uvloop.run(
                measure(
                    calls, upstream.url, services.postgres.url(services.postgres.fresh_copy(None)), services.redis.url
                )
            )
    machine = capture({})
    print(
        f"{machine.cpu_model}, {machine.cores} cores, {machine.python}, httpx2 {machine.packages['httpx2']}, redis {machine.packages['redis']}"
    )
    least = min(statistics.median(costs) for costs in found.values())
    for name, costs in found.items():
        middle = statistics.median(costs)
        print(
            f"{name:>32} {middle * 1e6:>7.0f} us of CPU ({min(costs) * 1e6:.0f} to {max(costs) * 1e6:.0f}), {middle / least:.1f} x"
        )


if __name__ == "__main__":
    main()
