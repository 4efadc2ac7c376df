"""Counts page views in the process, and adds them to the database every few seconds."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel

FLUSH_S = float(os.environ.get("FLUSH_S", "5"))
ADD = """INSERT INTO pages (page, views) SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (page) DO UPDATE SET views = pages.views + excluded.views"""
log = logging.getLogger(__name__)
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


async def flush(state: Any) -> None:
    views, state.views = state.views, Counter()
    if views:
        try:
            await state.database.execute(ADD, list(views), list(views.values()))
        except AWAY as problem:
            log.warning("cannot save %d views yet: %r", views.total(), problem)
            state.views.update(views)


async def keep_flushing(state: Any) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        await flush(state)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.views = Counter()
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=0, max_size=5, timeout=2, command_timeout=1
    ) as app.state.database:
        flushing = asyncio.create_task(keep_flushing(app.state))
        yield
        flushing.cancel()
        await flush(app.state)


app = FastAPI(lifespan=lifespan)
Page = Annotated[str, Path(pattern="^[a-z0-9-]{1,50}$")]


class Views(BaseModel):
    page: str
    views: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/pages/{page}/views", status_code=204)
async def count_view(page: Page, request: Request) -> None:
    # Acknowledged, and in the memory of this process alone until the next flush.
    request.app.state.views[page] += 1


@app.get("/pages/{page}/views")
async def read_views(page: Page, request: Request) -> Views:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            views = await connection.fetchval("SELECT views FROM pages WHERE page = $1", page)
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    return Views(page=page, views=views or 0)
