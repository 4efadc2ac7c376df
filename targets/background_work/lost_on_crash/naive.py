"""Creates users, and welcomes each by mail in a background task."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import httpx2
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

POOL_SIZE = 10
DATABASE_TIMEOUT_S = 1.0
MAIL_TIMEOUT_S = 4.0
SLOW_S = 1.0
AWAY: tuple[type[Exception], ...] = (
    OSError, asyncpg.PostgresConnectionError, asyncpg.TooManyConnectionsError, asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
)  # fmt: skip
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=MAIL_TIMEOUT_S) as app.state.mail,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=DATABASE_TIMEOUT_S
        ) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewUser(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class User(NewUser):
    id: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def database_away(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The database is away"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, database_away)


async def send_mail(app: FastAPI, user_id: int) -> None:
    # The provider sends a mail with this key once, however often it is asked.
    key = {"Idempotency-Key": f"welcome-{user_id}"}
    answer = await app.state.mail.post("/mails/welcome", json={"user_id": user_id}, headers=key)
    answer.raise_for_status()
    if answer.elapsed.total_seconds() > SLOW_S:  # the one sign of a provider that stalls and answers in time
        log.warning("the mail took %s", answer.elapsed)


async def welcome(app: FastAPI, user_id: int) -> None:
    await send_mail(app, user_id)
    async with app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        await connection.execute("INSERT INTO welcomes (user_id) VALUES ($1)", user_id)


@app.post("/users", status_code=201)
async def create_user(new: NewUser, request: Request, tasks: BackgroundTasks) -> User:
    async with request.app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection, connection.transaction():
        user_id = await connection.fetchval("INSERT INTO users (email) VALUES ($1) RETURNING id", new.email)
    # The job lives in this process only and is tried once: it is lost with the process, and with the first error.
    tasks.add_task(welcome, request.app, user_id)
    return User(id=user_id, **new.model_dump())
