"""Queues renderings for Celery workers that take a job when they are free to run it."""

import os
import uuid
from typing import Annotated, Any

import psycopg
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel, Field

celery_app = Celery("renderings", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
# One job for each process, and it counts until it is done (acks_late): nothing is reserved beyond what runs.
# Acknowledged late, a job may run twice after a crash: it must be idempotent.
celery_app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"],
    worker_prefetch_multiplier=1, task_acks_late=True, task_reject_on_worker_lost=True,
)  # fmt: skip

app = FastAPI()


class NewRendering(BaseModel):
    seconds: Annotated[float, Field(ge=0, le=60)]


class Rendering(BaseModel):
    job_id: str


class Progress(BaseModel):
    finished: int


@celery_app.task(name="render")  # type: ignore[untyped-decorator]
def render(job_id: str, seconds: float) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        database.execute(
            "INSERT INTO runs (job_id, seconds, started_at) VALUES (%s, %s, clock_timestamp())", (job_id, seconds)
        )
        database.execute("SELECT pg_sleep(%s)", (seconds,))
        database.execute("UPDATE runs SET finished_at = clock_timestamp() WHERE job_id = %s", (job_id,))


@app.post("/renderings", status_code=202)
def start_rendering(new: NewRendering) -> Rendering:
    job_id = uuid.uuid4().hex
    render.delay(job_id, new.seconds)
    return Rendering(job_id=job_id)


@app.get("/renderings")
def read_progress() -> Progress:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        row: Any = database.execute("SELECT count(*) FROM runs WHERE finished_at IS NOT NULL").fetchone()
    return Progress(finished=row[0])
