"""Queues renderings for Celery workers that reserve one job for each process."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import psycopg
from anyio import to_thread
from celery import Celery
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field
from redis import RedisError

DATABASE_TIMEOUT_S = 2
PUBLISH_TIMEOUT_S = 2.0
AWAY: tuple[type[Exception], ...] = (
    OSError, OperationalError, RedisError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError, asyncpg.InterfaceError,
)  # fmt: skip
STARTED = """INSERT INTO runs (job_id, seconds, started_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT (job_id) DO UPDATE SET started_at = excluded.started_at, deliveries = runs.deliveries + 1
    WHERE runs.finished_at IS NULL RETURNING true"""
FINISHED = """UPDATE runs SET finished_at = clock_timestamp(), results = results + 1
    WHERE job_id = %s AND finished_at IS NULL RETURNING true"""

BROKER_URL = os.environ.get("AMQP_URL") or os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

celery_app = Celery("renderings", broker=BROKER_URL)
celery_app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"], task_soft_time_limit=300, task_time_limit=360,
    broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 5, "connect_retries_timeout": 2},
    # One: but a job is acknowledged when it starts, so this one is reserved beyond the one that runs.
    worker_prefetch_multiplier=1,
)  # fmt: skip


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=1, max_size=5, command_timeout=DATABASE_TIMEOUT_S
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class NewRendering(BaseModel):
    seconds: Annotated[float, Field(ge=0, le=60)]


class Rendering(BaseModel):
    job_id: str


class Progress(BaseModel):
    finished: int


async def service_away(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The queue or the database is away"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)


def ask(statement: str, *values: object) -> Any:
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True, connect_timeout=DATABASE_TIMEOUT_S) as database:
        return database.execute(statement, values).fetchone()


@celery_app.task(  # type: ignore[untyped-decorator]
    name="render", autoretry_for=(psycopg.OperationalError,), retry_backoff=True, max_retries=8, default_retry_delay=1
)
def render(job_id: str, seconds: float) -> None:
    # A job may be delivered twice: what is finished is not done again, and a result is written once.
    if ask(STARTED, job_id, seconds) is None:
        return
    time.sleep(seconds)  # the rendering; no connection is held meanwhile
    ask(FINISHED, job_id)


@app.post("/renderings", status_code=202)
async def start_rendering(new: NewRendering) -> Rendering:
    job_id = uuid.uuid4().hex
    async with asyncio.timeout(PUBLISH_TIMEOUT_S):
        await to_thread.run_sync(render.delay, job_id, new.seconds, abandon_on_cancel=True)
    return Rendering(job_id=job_id)


@app.get("/renderings")
async def read_progress(request: Request) -> Progress:
    async with request.app.state.database.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
        return Progress(finished=await connection.fetchval("SELECT count(*) FROM runs WHERE finished_at IS NOT NULL"))
