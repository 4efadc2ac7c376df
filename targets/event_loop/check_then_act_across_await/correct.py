"""Reserves a seat: takes one from those left in a single statement, in one transaction with the reservation."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field

POOL_SIZE = 20


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE
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


@app.get("/concerts/{concert_id}")
async def read_concert(concert_id: ConcertId, request: Request) -> dict[str, int]:
    left = await request.app.state.database.fetchval("SELECT seats_left FROM concerts WHERE id = $1", concert_id)
    if left is None:
        raise HTTPException(404, "No such concert")
    return {"concert_id": concert_id}


@app.post("/concerts/{concert_id}/reservations", status_code=201)
async def reserve(concert_id: ConcertId, new: NewReservation, request: Request) -> Reservation:
    async with request.app.state.database.acquire() as connection, connection.transaction():
        # Looks and takes in one statement: the row is locked in between, and the next request sees what is left now.
        left = await connection.fetchval(
            "UPDATE concerts SET seats_left = seats_left - 1 WHERE id = $1 AND seats_left > 0 RETURNING seats_left",
            concert_id,
        )
        if left is None:
            known = await connection.fetchval("SELECT true FROM concerts WHERE id = $1", concert_id)
            raise HTTPException(409, "Sold out") if known else HTTPException(404, "No such concert")
        await connection.execute(
            "INSERT INTO reservations (concert_id, customer_id) VALUES ($1, $2)", concert_id, new.customer_id
        )
    return Reservation(concert_id=concert_id, customer_id=new.customer_id, seats_left=left)
