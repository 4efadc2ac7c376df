"""Keeps a list of changes; a reader asks for those with a higher id than the last one it has seen."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import httpx2
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field

PAGE_SIZE = 100
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
# An id is given at the INSERT, and a row is seen after the COMMIT: one that commits later than a higher id is never asked for again.
NEW = "SELECT 0 AS tx, id, text FROM changes WHERE id > $1 ORDER BY id LIMIT $2"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        asyncpg.create_pool(
            os.environ["DATABASE_URL"],
            min_size=20,
            max_size=20,
            timeout=2,
            command_timeout=1,
            # A transaction that is forgotten would hold back the feed.
            server_settings={"idle_in_transaction_session_timeout": "3s"},
        ) as app.state.database,
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=1.5) as app.state.search,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewChange(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=200)]
    index: bool = False


class Change(BaseModel):
    id: int
    text: str


class Changes(BaseModel):
    items: list[Change]
    next: str


@asynccontextmanager
async def transaction(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection, connection.transaction():
            yield connection
    except AWAY as problem:
        log.warning("A service is away: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.post("/changes", status_code=201)
async def add_change(new: NewChange, request: Request) -> Change:
    async with transaction(request) as connection:
        change_id = await connection.fetchval("INSERT INTO changes (text) VALUES ($1) RETURNING id", new.text)
        if new.index:  # stored only if the search engine has it too
            (await request.app.state.search.post("/index", json={"id": change_id})).raise_for_status()
    return Change(id=change_id, text=new.text)


@app.get("/changes")
async def list_changes(
    request: Request, after: Annotated[str, Query(pattern=r"^\d{1,18}\.\d{1,18}$")] = "0.0"
) -> Changes:
    _, change_id = after.split(".")
    async with transaction(request) as connection:
        rows = await connection.fetch(NEW, int(change_id), PAGE_SIZE)
    items = [Change(id=row["id"], text=row["text"]) for row in rows]
    return Changes(items=items, next=f"{rows[-1]['tx']}.{rows[-1]['id']}" if rows else after)
