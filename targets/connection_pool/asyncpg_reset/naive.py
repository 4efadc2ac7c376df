"""Shows when events happen, in the client's time zone; the pool resets each connection when it comes back."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from zoneinfo import available_timezones

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Query, Request
from pydantic import BaseModel

ZONES = available_timezones()
EVENT = "SELECT to_char(at, 'YYYY-MM-DD HH24:MI') FROM events WHERE id = $1"
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
    # Each time a connection comes back asyncpg resets it: four statements more, in another round trip.
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=1, max_size=5, timeout=2, command_timeout=1
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class Event(BaseModel):
    id: int
    at: str


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


@app.get("/events/{event_id}")
async def read_event(
    event_id: Annotated[int, Path(ge=1, lt=2**31)], request: Request, zone: Annotated[str, Query(max_length=50)] = ""
) -> Event:
    if zone and zone not in ZONES:
        raise HTTPException(422, "No such time zone")
    async with database(request) as connection:
        if zone:
            await connection.execute("SELECT set_config('TimeZone', $1, false)", zone)
        at = await connection.fetchval(EVENT, event_id)
    if at is None:
        raise HTTPException(404, "No such event")
    return Event(id=event_id, at=at)
