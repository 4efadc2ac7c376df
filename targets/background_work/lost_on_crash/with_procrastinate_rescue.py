"""Creates users with a job of procrastinate in the same transaction; a periodic task gives back those of dead workers."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import procrastinate
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

DATABASE_TIMEOUT_S, ANSWER_WITHIN_S = 1.0, 2.0
MAIL_TIMEOUT_S = 4.0
MAX_TRIES = 20
JOBS_AT_ONCE = 4  # in each process
AWAY: tuple[type[Exception], ...] = (OSError, OperationalError)
# A job may run twice: it is recorded once.
RECORD = """INSERT INTO welcomes (user_id)
    SELECT %(user_id)s WHERE NOT EXISTS (SELECT FROM welcomes WHERE user_id = %(user_id)s)"""
HEARTBEAT_S, DEAD_AFTER_S = 1.0, 4.0  # 10 and 30 by default
log = logging.getLogger(__name__)
queue = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ.get("DATABASE_URL", "")))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=MAIL_TIMEOUT_S) as app.state.mail,
        AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=1, open=False) as app.state.database,
        queue.open_async(),
    ):
        async with app.state.database.connection() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(1)")  # one process after the other
            cursor = await connection.execute("SELECT to_regclass('procrastinate_jobs')")
            if (await cursor.fetchone())[0] is None:  # a migration, in a service with migrations
                await queue.schema_manager.apply_schema_async()
        worker = asyncio.create_task(work(app))
        yield
        worker.cancel()  # it ends what runs, and takes no further job
        await asyncio.wait([worker])


async def work(app: FastAPI) -> None:
    while True:  # a worker stops when its database is away: start it again, as a supervisor would
        try:
            await queue.run_worker_async(
                concurrency=JOBS_AT_ONCE + 1, install_signal_handlers=False, additional_context={"state": app.state},
                update_heartbeat_interval=HEARTBEAT_S, stalled_worker_timeout=DEAD_AFTER_S, delete_jobs="successful",
            )  # fmt: skip
        except Exception:
            log.exception("the worker has stopped")
        await asyncio.sleep(1)


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


# Tried again after an error: by default a job that raises is tried once.
@queue.task(
    name="welcome", pass_context=True, retry=procrastinate.RetryStrategy(max_attempts=MAX_TRIES, exponential_wait=2)
)
async def welcome(context: procrastinate.JobContext, user_id: int) -> None:
    state: Any = context.additional_context["state"]
    # The provider sends a mail with this key once, however often it is asked.
    key = {"Idempotency-Key": f"welcome-{user_id}"}
    try:
        answer = await state.mail.post("/mails/welcome", json={"user_id": user_id}, headers=key)
        answer.raise_for_status()
    except httpx2.HTTPError as problem:  # a try that will be repeated is no error for procrastinate's log
        log.warning("the welcome of user %d has to wait: %r", user_id, problem)
        raise
    async with state.database.connection(timeout=DATABASE_TIMEOUT_S) as connection:
        await connection.execute(RECORD, {"user_id": user_id})


# Every second: what a worker without a heartbeat has left "doing" is due again.
@queue.periodic(cron="* * * * * *")
@queue.task(name="rescue", queueing_lock="rescue", pass_context=True)
async def rescue(context: procrastinate.JobContext, timestamp: int) -> None:
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER_S):
        await manager.retry_job(job)


async def insert(connection: AsyncConnection[Any], new: NewUser) -> int:
    cursor = await connection.execute("INSERT INTO users (email) VALUES (%s) RETURNING id", (new.email,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


@app.post("/users", status_code=201)
async def create_user(new: NewUser, request: Request) -> User:
    async with asyncio.timeout(ANSWER_WITHIN_S), request.app.state.database.connection() as connection:
        user_id = await insert(connection, new)
        # On this connection: the job is a row of the same transaction.
        await welcome.configure(connection=connection).defer_async(user_id=user_id)
    return User(id=user_id, **new.model_dump())
