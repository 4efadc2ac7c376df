"""Creates users, and welcomes each by mail in a task of taskiq from a Redis list; its receiver runs in each process."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import httpx2
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from taskiq import TaskiqError
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

POOL_SIZE = 10
DATABASE_TIMEOUT_S = 1.0
MAIL_TIMEOUT_S = 4.0
AWAY: tuple[type[Exception], ...] = (
    OSError, asyncpg.PostgresConnectionError, asyncpg.TooManyConnectionsError, asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError, TaskiqError,
)  # fmt: skip
# A job may run twice: it is recorded once.
RECORD = """INSERT INTO welcomes (user_id)
    SELECT $1 WHERE NOT EXISTS (SELECT FROM welcomes WHERE user_id = $1)"""
# BRPOP takes the job out of Redis before it runs: what a receiver has taken (up to 100 by default) dies with its process.
broker = ListQueueBroker(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=MAIL_TIMEOUT_S) as broker.state.mail,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=DATABASE_TIMEOUT_S
        ) as app.state.database,
    ):
        broker.state.database = app.state.database
        await broker.startup()
        receiver = asyncio.create_task(run_receiver_task(broker))
        yield
        receiver.cancel()
        await asyncio.wait([receiver])
        await broker.shutdown()


app = FastAPI(lifespan=lifespan)


class NewUser(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class User(NewUser):
    id: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def service_away(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The queue or the database is away"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)


@broker.task("welcome")
async def welcome(user_id: int) -> None:
    # The provider sends a mail with this key once, however often it is asked.
    key = {"Idempotency-Key": f"welcome-{user_id}"}
    answer = await broker.state.mail.post("/mails/welcome", json={"user_id": user_id}, headers=key)
    answer.raise_for_status()
    async with broker.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        await connection.execute(RECORD, user_id)


@app.post("/users", status_code=201)
async def create_user(new: NewUser, request: Request) -> User:
    async with request.app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection, connection.transaction():
        user_id = await connection.fetchval("INSERT INTO users (email) VALUES ($1) RETURNING id", new.email)
    # After the commit, in another service: a crash in between leaves a user without a job.
    await welcome.kiq(user_id)
    return User(id=user_id, **new.model_dump())
