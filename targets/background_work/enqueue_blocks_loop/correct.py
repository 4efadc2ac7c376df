"""Queues renderings for Celery from an async route, in a thread and within two seconds."""

import asyncio
import logging
import os
import time
import uuid
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from celery import Celery
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field
from redis import RedisError

PUBLISH_TIMEOUT_S = 2.0
SLOW_S = 0.5
PUBLISHERS = CapacityLimiter(10)  # separate threads: those of `def` routes stay free while the broker hangs
log = logging.getLogger(__name__)
celery_app = Celery("renderings", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
celery_app.conf.update(task_ignore_result=True, task_serializer="json", accept_content=["json"])
app = FastAPI()


class NewRendering(BaseModel):
    template: Annotated[str, Field(pattern="^[a-z0-9-]{1,50}$")]


class Rendering(BaseModel):
    job_id: str


async def broker_away(request: Request, problem: Exception) -> JSONResponse:
    log.warning("cannot queue: %r", problem)
    return JSONResponse({"detail": "The queue is away"}, 503, {"Retry-After": "1"})


for kind in (OSError, OperationalError, RedisError):
    app.add_exception_handler(kind, broker_away)


@celery_app.task(name="render")  # type: ignore[untyped-decorator]
def render(job_id: str, template: str) -> None:
    log.info("rendering %s for %s", template, job_id)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/renderings", status_code=202)
async def start_rendering(new: NewRendering) -> Rendering:
    job_id, began = uuid.uuid4().hex, time.monotonic()
    # In a thread: the event loop serves others meanwhile.  What hangs is given up after two seconds.
    async with asyncio.timeout(PUBLISH_TIMEOUT_S):
        await to_thread.run_sync(render.delay, job_id, new.template, abandon_on_cancel=True, limiter=PUBLISHERS)
    if (took := time.monotonic() - began) > SLOW_S:
        log.warning("the queue took %.1f s to accept %s", took, job_id)
    return Rendering(job_id=job_id)
