"""Makes reports from slow figures."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import httpx2
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel

log = logging.getLogger(__name__)
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
        # Goes on to the end when the client has given up: nobody tells a handler that is waiting for something else.
        return await make_report(name, request.app.state)
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
