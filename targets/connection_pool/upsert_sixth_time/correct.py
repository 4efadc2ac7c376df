"""Keeps one active subscription for each address, with an upsert whose condition is written out."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

POOL_SIZE = int(os.environ.get("POOL_SIZE", "5"))
DRIVER = {"timeout": 2, "command_timeout": 1}  # asyncpg: seconds to connect, seconds for a statement
AWAY = ("08", "53", "57")  # SQLSTATE classes: connection failed, too many connections, shutting down or cancelled
log = logging.getLogger(__name__)

subscriptions = Table(
    "subscriptions",
    MetaData(),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("email", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("status", Text, nullable=False),
)
# One active subscription for each address; the database has the index for it:
# CREATE UNIQUE INDEX one_active ON subscriptions (email) WHERE status = 'active'
# The value stands in the statement, so that every plan finds the index.
ACTIVE = text("status = 'active'")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1)
    pool = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": 2, "connect_args": DRIVER}
    engine = create_async_engine(url, **pool)
    app.state.sessions = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class NewSubscription(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$", max_length=254)]
    plan: Annotated[str, Field(pattern="^[a-z]{1,20}$")]


class Subscription(NewSubscription):
    id: int


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    try:
        async with request.app.state.sessions() as session:
            yield session
            await session.commit()
    except (DBAPIError, PoolTimeout, OSError) as problem:
        code = str(getattr(getattr(problem, "orig", None), "sqlstate", ""))
        if isinstance(problem, DBAPIError) and not problem.connection_invalidated and not code.startswith(AWAY):
            raise
        log.warning("No database connection: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.put("/subscriptions")
async def subscribe(new: NewSubscription, session: Session) -> Subscription:
    wanted = insert(subscriptions).values(email=new.email, plan=new.plan, status="active")
    upsert = wanted.on_conflict_do_update(
        index_elements=["email"], index_where=ACTIVE, set_={"plan": wanted.excluded.plan}
    ).returning(subscriptions.c.id)
    return Subscription(id=(await session.execute(upsert)).scalar_one(), **new.model_dump())
