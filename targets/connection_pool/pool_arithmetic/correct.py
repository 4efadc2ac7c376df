"""Makes reports with this process's share of the connections that the whole deployment may open."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

# For the whole deployment: what the database takes, less what migrations, cron jobs and a person with psql need.
CONNECTION_BUDGET = 36
POOL_TIMEOUT_S = 3
DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)


def pool_share() -> int:
    """This process's connections.  APP_PROCESSES counts all that may run at once: workers x instances, old and new during a deploy."""
    processes = int(os.environ["APP_PROCESSES"])  # no default: a guess would be the mistake again
    share = CONNECTION_BUDGET // processes
    if share < 1:  # SQLAlchemy reads pool_size=0 as "no limit"
        raise RuntimeError(f"{processes} processes cannot share {CONNECTION_BUDGET} connections: put PgBouncer between")
    return share


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    engine = create_async_engine(
        url, pool_size=pool_share(), max_overflow=0, pool_timeout=POOL_TIMEOUT_S, connect_args=DRIVER
    )
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class Report(BaseModel):
    customer_id: int
    total_cents: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    try:
        async with request.app.state.sessions() as session:
            yield session
    except (DBAPIError, PoolTimeout, OSError) as problem:  # asyncpg's TimeoutError is an OSError
        code = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))
        if isinstance(problem, DBAPIError) and not problem.connection_invalidated and not code.startswith(AWAY):
            raise
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


# The function's scope: the session ends before the answer is sent, so that a connection lost at its end can still become a 503.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/reports/{customer_id}")
async def read_report(customer_id: Annotated[int, Path(ge=1, lt=2**24)], session: Session) -> Report:
    total = await session.scalar(text("SELECT report(:customer)"), {"customer": customer_id})
    return Report(customer_id=customer_id, total_cents=total)
