"""Reserves a seat in one transaction: reads how many are left, and writes one less, one request of this process at a time."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field

POOL_SIZE = 20
log = logging.getLogger(__name__)
one_at_a_time = asyncio.Lock()
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
        os.environ["DATABASE_URL"],
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        timeout=2,
        command_timeout=1,
        # Where this process cannot end a statement any more, the server does: a row is not locked until the network is back.
        server_settings={"statement_timeout": "2s", "idle_in_transaction_session_timeout": "2s"},
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)

ConcertId = Annotated[int, Path(ge=1, lt=2**31)]


class NewReservation(BaseModel):
    customer_id: Annotated[int, Field(ge=1, lt=2**31)]


class Reservation(BaseModel):
    concert_id: int
    customer_id: int
    seats_left: int


@asynccontextmanager
async def transaction(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection, connection.transaction():
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/concerts/{concert_id}")
async def read_concert(concert_id: ConcertId, request: Request) -> dict[str, int]:
    async with transaction(request) as connection:
        left = await connection.fetchval("SELECT seats_left FROM concerts WHERE id = $1", concert_id)
    if left is None:
        raise HTTPException(404, "No such concert")
    return {"concert_id": concert_id}


@app.post("/concerts/{concert_id}/reservations", status_code=201)
async def reserve(concert_id: ConcertId, new: NewReservation, request: Request) -> Reservation:
    # One request at a time - of this process.  Each other worker has its own lock.
    async with one_at_a_time, transaction(request) as connection:
        left = await connection.fetchval("SELECT seats_left FROM concerts WHERE id = $1", concert_id)
        if left is None:
            raise HTTPException(404, "No such concert")
        if left == 0:
            raise HTTPException(409, "Sold out")
        await connection.execute("UPDATE concerts SET seats_left = $2 WHERE id = $1", concert_id, left - 1)
        await connection.execute(
            "INSERT INTO reservations (concert_id, customer_id) VALUES ($1, $2)", concert_id, new.customer_id
        )
    return Reservation(concert_id=concert_id, customer_id=new.customer_id, seats_left=left - 1)
