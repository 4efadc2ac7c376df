"""Lists events after the last page with a row value: time and id are compared together."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

ACQUIRE_S = 0.5  # for a free connection, opening one included; also for cleaning it up afterwards
STATEMENT_S = 1.0
AWAY = (
    OSError,  # refused or reset, and every time-out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,  # it is starting, or shutting down
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = "SELECT id, kind, created_at FROM events ORDER BY created_at DESC, id DESC LIMIT $1"
# One comparison of both columns is a range of the index: PostgreSQL goes straight to the page, whatever comes before it.
NEXT = """
    SELECT id, kind, created_at FROM events
    WHERE (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $1
"""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Without connections at the start, a worker comes up while the database is away.
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=0, max_size=10, timeout=ACQUIRE_S, command_timeout=STATEMENT_S
    ) as app.state.database:
        yield


async def answer_503(request: Request, problem: Exception) -> JSONResponse:
    logger.warning("database: %r", problem)
    return JSONResponse({"detail": "The database does not answer"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(AWAY, answer_503))


class Event(BaseModel):
    id: int
    kind: int
    created_at: datetime


class EventPage(BaseModel):
    items: list[Event]
    next: str | None


Cursor = Annotated[str | None, Query(pattern=r"^\d{1,16}\.\d{1,18}$")]
PageSize = Annotated[int, Query(ge=1, le=100)]


def cursor_of(event: Event) -> str:
    return f"{(event.created_at - EPOCH) // timedelta(microseconds=1)}.{event.id}"


@app.get("/events")
async def list_events(request: Request, after: Cursor = None, page_size: PageSize = 50) -> EventPage:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as database:
        if after is None:
            rows = await database.fetch(FIRST, page_size)
        else:
            microseconds, event_id = map(int, after.split("."))
            seen_at = EPOCH + timedelta(microseconds=microseconds)
            rows = await database.fetch(NEXT, page_size, seen_at, event_id)
    items = [Event(**row) for row in rows]
    more = f"/events?after={cursor_of(items[-1])}&page_size={page_size}" if len(items) == page_size else None
    return EventPage(items=items, next=more)
