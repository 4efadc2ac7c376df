"""Reports, mails and a stream of events; a deploy waits for all of them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import redis.asyncio as redis
import uvicorn
from fastapi import BackgroundTasks, FastAPI, Path
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError

REPORT_S = 2.0  # what a report takes
MAIL_S = 2.0  # what a mail takes, after the answer
TICK_S = 0.2
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["REDIS_URL"]
    async with redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5) as app.state.redis:
        yield


app = FastAPI(lifespan=lifespan)
MailId = Annotated[int, Path(ge=1, lt=2**31)]


@app.get("/report")
async def make_report() -> dict[str, int]:
    await asyncio.sleep(REPORT_S)
    return {"rows": 1000}


async def send(mail_id: int) -> None:
    await asyncio.sleep(MAIL_S)
    try:
        await app.state.redis.sadd("mails:sent", mail_id)
    except RedisError as problem:
        log.error("mail %d is sent, and not written down: %r", mail_id, problem)


@app.put("/mails/{mail_id}", status_code=202)
async def put_mail(mail_id: MailId, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(send, mail_id)
    return {"status": "accepted"}


async def ticks() -> AsyncIterator[str]:
    while True:
        yield "data: tick\n\n"
        await asyncio.sleep(TICK_S)


@app.get("/events")
async def read_events() -> StreamingResponse:
    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    # No limit is the default: one client that stays keeps the old process for ever, until the platform kills it.
    uvicorn.run("tempting:app")


if __name__ == "__main__":
    main()
