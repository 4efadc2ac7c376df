"""Creates users with a job for each in the same transaction; whichever process lives welcomes them by mail."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import httpx2
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

POOL_SIZE = 10
MAIL_TIMEOUT_S = 10.0
JOBS_AT_ONCE = 4  # in each process, each on a connection of the pool
POLL_S = 0.2
TAKE = "SELECT id, user_id FROM jobs WHERE run_at <= now() ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED"
DONE = "DELETE FROM jobs WHERE id = $1"
AGAIN = """UPDATE jobs SET tries = tries + 1, error = $2,
    run_at = now() + (0.5 + random()) * 2 ^ least(tries, 10) * interval '0.3 s' WHERE id = $1"""
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=MAIL_TIMEOUT_S) as app.state.mail,
        asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=POOL_SIZE) as app.state.database,
    ):
        workers = [asyncio.create_task(work(app)) for _ in range(JOBS_AT_ONCE)]
        yield
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


app = FastAPI(lifespan=lifespan)


class NewUser(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class User(NewUser):
    id: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def welcome(app: FastAPI, connection: asyncpg.Connection, user_id: int) -> None:
    # The provider sends a mail with this key once, however often it is asked.
    key = {"Idempotency-Key": f"welcome-{user_id}"}
    answer = await app.state.mail.post("/mails/welcome", json={"user_id": user_id}, headers=key)
    answer.raise_for_status()
    await connection.execute("INSERT INTO welcomes (user_id) VALUES ($1)", user_id)


async def work_once(app: FastAPI) -> bool:
    async with app.state.database.acquire() as connection, connection.transaction():
        # Locked while it is done, so that nobody else takes it; free again when this process dies.
        job = await connection.fetchrow(TAKE)
        if job is None:
            return False
        try:
            await welcome(app, connection, job["user_id"])
        except httpx2.HTTPError as error:
            await connection.execute(AGAIN, job["id"], repr(error))
        else:
            await connection.execute(DONE, job["id"])
        return True


async def work(app: FastAPI) -> None:
    while True:
        try:
            busy = await work_once(app)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            log.exception("a job could not be done, it is free again")
            busy = False
        if not busy:
            await asyncio.sleep(POLL_S)


@app.post("/users", status_code=201)
async def create_user(new: NewUser, request: Request) -> User:
    async with request.app.state.database.acquire() as connection, connection.transaction():
        user_id = await connection.fetchval("INSERT INTO users (email) VALUES ($1) RETURNING id", new.email)
        # The job is a row of the same transaction: it is there exactly when the user is, and until it is done.
        await connection.execute("INSERT INTO jobs (user_id) VALUES ($1)", user_id)
    return User(id=user_id, **new.model_dump())
