"""Queues renderings for Celery workers that reserve as many jobs as Celery does by default."""

import os
import uuid
from typing import Annotated, Any

import psycopg
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel, Field

celery_app = Celery("renderings", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
# Each process of a worker reserves four jobs beyond the one that it runs: behind a long one they wait, while others idle.
celery_app.conf.update(task_ignore_result=True, task_serializer="json", accept_content=["json"])

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
