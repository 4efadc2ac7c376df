"""Books seats; the route commits."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    engine = create_async_engine(url, pool_size=5, max_overflow=0, pool_timeout=1, connect_args=DRIVER)
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class NewBooking(BaseModel):
    seat: Annotated[int, Field(ge=1, lt=2**31)]


class Booking(NewBooking):
    id: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    try:
        async with request.app.state.sessions() as session:
            yield session
    except IntegrityError as problem:
        log.warning("Refused: %r", problem)
        raise HTTPException(409, "The seat is taken") from problem
    except (DBAPIError, PoolTimeout, OSError) as problem:  # asyncpg's TimeoutError is an OSError
        code = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))
        if isinstance(problem, DBAPIError) and not problem.connection_invalidated and not code.startswith(AWAY):
            raise
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


Session = Annotated[AsyncSession, Depends(get_session)]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/bookings", status_code=201)
async def book(new: NewBooking, session: Session) -> Booking:
    booking_id = await session.scalar(
        text("INSERT INTO bookings (seat) VALUES (:seat) RETURNING id"), {"seat": new.seat}
    )
    # The route itself waits for the commit; its error is raised here, inside the dependency's try.
    await session.commit()
    return Booking(id=booking_id, seat=new.seat)


@app.get("/bookings/{booking_id}")
async def read_booking(booking_id: Annotated[int, Path(ge=1, lt=2**62)], session: Session) -> Booking:
    seat = await session.scalar(text("SELECT seat FROM bookings WHERE id = :id"), {"id": booking_id})
    if seat is None:
        raise HTTPException(404, "No such booking")
    return Booking(id=booking_id, seat=seat)
