"""Makes reports from slow figures; stops when the client has gone."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import asyncpg
import httpx2
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel

log = logging.getLogger(__name__)
T = TypeVar("T")
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    httpx2.HTTPError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"]
    async with (
        asyncpg.create_pool(url, min_size=5, max_size=5, timeout=2, command_timeout=1) as app.state.database,
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=2) as app.state.figures,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class Report(BaseModel):
    id: int
    name: str


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            log.info("The client has gone: %s", request.url.path)
            raise HTTPException(
                499, "The client has gone"
            )  # nobody reads it; nginx logs such requests with this number
        return task.result()
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def make_report(name: str, state: Any) -> Report:
    (await state.figures.get(f"/figures/{name}")).raise_for_status()
    async with state.database.acquire(timeout=1) as connection:
        report_id = await connection.fetchval("INSERT INTO reports (name) VALUES ($1) RETURNING id", name)
    return Report(id=report_id, name=name)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/reports/{name}", status_code=201)
async def create_report(name: Annotated[str, Path(max_length=50, pattern="^[a-z0-9-]+$")], request: Request) -> Report:
    try:
        # Ends the work where it waits when the client gives up: its connections are given back, and the report is not stored.
        return await unless_client_leaves(request, make_report(name, request.app.state))
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
