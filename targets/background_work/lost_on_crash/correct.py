"""Creates users with a job row in the same transaction; tasks of any process lease the rows, retry, and keep what fails for the last time."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import httpx2
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

POOL_SIZE = 10
DATABASE_TIMEOUT_S = 1.0
MAIL_TIMEOUT_S = 4.0
SLOW_S = 1.0
LEASE_S = 6.0  # more than MAIL_TIMEOUT_S and DATABASE_TIMEOUT_S: a job of a dead process is due again after that
JOBS_AT_ONCE = 4  # in each process
POLL_S = 0.5
MAX_TRIES = 20  # about seven hours; a row with that many is a dead letter
PERMANENT = (400, 404, 410, 422)  # the provider has understood, and says never
AWAY: tuple[type[Exception], ...] = (
    OSError, asyncpg.PostgresConnectionError, asyncpg.TooManyConnectionsError, asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
)  # fmt: skip
# No lock and no transaction is held while the job runs: the row is due again when the lease ends.
TAKE = """UPDATE jobs SET tries = tries + 1, run_at = now() + $1 * interval '1 s' WHERE id = (
    SELECT id FROM jobs WHERE run_at <= now() AND tries < $2 ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, user_id, tries"""
# "tries" is the lease's number: if another process has taken the job since, these two change nothing.
DONE = """WITH done AS (DELETE FROM jobs WHERE id = $1 AND tries = $2 RETURNING user_id)
    INSERT INTO welcomes (user_id) SELECT user_id FROM done"""
FAILED = """UPDATE jobs SET error = $3, tries = $4,
    run_at = now() + least((0.5 + random()) * 2 ^ tries * interval '0.3 s', interval '1 hour')
    WHERE id = $1 AND tries = $2"""
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=MAIL_TIMEOUT_S) as app.state.mail,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], max_size=POOL_SIZE, command_timeout=DATABASE_TIMEOUT_S
        ) as app.state.database,
    ):
        stop = asyncio.Event()
        workers = [asyncio.create_task(work(app, stop)) for _ in range(JOBS_AT_ONCE)]
        yield
        stop.set()  # what runs may end, no further job is taken
        await asyncio.wait(workers, timeout=LEASE_S)


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


async def ask(app: FastAPI, statement: str, *values: object) -> asyncpg.Record | None:
    async with app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        row: asyncpg.Record | None = await connection.fetchrow(statement, *values)
        return row


async def work_once(app: FastAPI) -> bool:
    job = await ask(app, TAKE, LEASE_S, MAX_TRIES)
    if job is None:
        return False
    try:
        async with asyncio.timeout(MAIL_TIMEOUT_S):  # for all of it: the client's time-out is for each read
            await send_mail(app, job["user_id"])
        await ask(app, DONE, job["id"], job["tries"])
    except Exception as error:  # whatever it is, the row keeps it, and this task goes on
        log.warning("job %d failed, try %d", job["id"], job["tries"], exc_info=True)
        permanent = isinstance(error, httpx2.HTTPStatusError) and error.response.status_code in PERMANENT
        await ask(app, FAILED, job["id"], job["tries"], repr(error), MAX_TRIES if permanent else job["tries"])
    return True


async def work(app: FastAPI, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            busy = await work_once(app)
        except Exception:  # the database is away: the rows wait, and so does this task
            log.exception("no job can be taken")
            busy = False
        if not busy:
            await asyncio.sleep(POLL_S)


@app.post("/users", status_code=201)
async def create_user(new: NewUser, request: Request) -> User:
    async with request.app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection, connection.transaction():
        user_id = await connection.fetchval("INSERT INTO users (email) VALUES ($1) RETURNING id", new.email)
        # The job is a row of the same transaction: it is there exactly when the user is, and until it is done.
        await connection.execute("INSERT INTO jobs (user_id) VALUES ($1)", user_id)
    return User(id=user_id, **new.model_dump())
