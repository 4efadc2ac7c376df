"""Serves catalogues with Last-Modified, in seconds as HTTP has it."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request, Response
from pydantic import BaseModel, Field

POOL_SIZE = 5
log = logging.getLogger(__name__)
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE, timeout=2, command_timeout=1
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)

Id = Annotated[int, Path(ge=1, lt=2**31)]
ITEMS = """SELECT c.version, c.updated_at, i.id, i.name, i.price_cents FROM catalogues c
    LEFT JOIN items i ON i.catalogue_id = c.id WHERE c.id = $1 ORDER BY i.id"""


class Item(BaseModel):
    id: int
    name: str
    price_cents: int


class Catalogue(BaseModel):
    id: int
    items: list[Item]


class NewPrice(BaseModel):
    price_cents: Annotated[int, Field(ge=0, lt=2**31)]


@asynccontextmanager
async def database(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


def is_current(request: Request, changed: datetime) -> bool:
    try:
        since = parsedate_to_datetime(request.headers["if-modified-since"])
    except (KeyError, ValueError):
        return False
    return changed.replace(microsecond=0) <= since


def body_of(catalogue_id: int, rows: list[Any]) -> bytes:
    items = [Item(**{name: row[name] for name in Item.model_fields}) for row in rows if row["id"] is not None]
    return Catalogue(id=catalogue_id, items=items).model_dump_json().encode()


@app.get("/catalogues/{catalogue_id}", response_model=Catalogue)
async def read_catalogue(catalogue_id: Id, request: Request) -> Any:
    # A date of HTTP has whole seconds: of two changes in one second the second is never seen.
    if "if-modified-since" in request.headers:
        async with database(request) as connection:
            changed = await connection.fetchval("SELECT updated_at FROM catalogues WHERE id = $1", catalogue_id)
        if changed is not None and is_current(request, changed):
            headers = {"Last-Modified": format_datetime(changed, usegmt=True), "Cache-Control": "private, no-cache"}
            return Response(status_code=304, headers=headers)
    async with database(request) as connection:
        rows = await connection.fetch(ITEMS, catalogue_id)
    if not rows:
        raise HTTPException(404, "No such catalogue")
    body = body_of(catalogue_id, rows)
    headers = {
        "Last-Modified": format_datetime(rows[0]["updated_at"], usegmt=True), "Cache-Control": "private, no-cache"
    }  # fmt: skip
    return Response(body, media_type="application/json", headers=headers)


@app.put("/catalogues/{catalogue_id}/items/{item_id}", status_code=204)
async def change_price(catalogue_id: Id, item_id: Id, new: NewPrice, request: Request) -> None:
    query = "UPDATE items SET price_cents = $3 WHERE catalogue_id = $1 AND id = $2 RETURNING id"
    async with database(request) as connection:
        if await connection.fetchval(query, catalogue_id, item_id, new.price_cents) is None:
            raise HTTPException(404, "No such item")
