"""Transfers money in a Celery task, each time that it is delivered."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
import psycopg
from anyio import to_thread
from celery import Celery
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field
from redis import RedisError

DATABASE_TIMEOUT_S = 2
PAYMENT_TIMEOUT_S = 5.0
PUBLISH_TIMEOUT_S = 2.0
log = logging.getLogger(__name__)

celery_app = Celery("transfers", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
celery_app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"], task_acks_late=True,
    broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 5, "connect_retries_timeout": 2},
)  # fmt: skip


def pay(transfer_id: str, cents: int) -> None:
    body = {"transfer": transfer_id, "cents": cents}
    url = f"{os.environ['UPSTREAM_URL']}/payments"
    httpx2.post(url, json=body, timeout=PAYMENT_TIMEOUT_S).raise_for_status()


@celery_app.task(  # type: ignore[untyped-decorator]
    name="transfer", autoretry_for=(psycopg.OperationalError, httpx2.HTTPError), retry_backoff=True, max_retries=8
)
def transfer(transfer_id: str, cents: int) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=DATABASE_TIMEOUT_S) as database:
        # A broker delivers at least once: each delivery pays.
        pay(transfer_id, cents)
        database.execute(
            "INSERT INTO transfers (id, cents) VALUES (%s, %s) ON CONFLICT DO NOTHING", (transfer_id, cents)
        )
        database.execute("INSERT INTO deliveries (transfer_id) VALUES (%s)", (transfer_id,))  # counted for the lesson


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=2) as app.state.provider:
        yield


app = FastAPI(lifespan=lifespan)


class NewTransfer(BaseModel):
    transfer_id: Annotated[str, Field(pattern="^[a-z0-9-]{1,50}$")]
    cents: Annotated[int, Field(ge=1, lt=2**31)]


class Payments(BaseModel):
    requests: int
    effects: int


async def service_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("a service is away: %r", error)
    return JSONResponse({"detail": "The queue is away"}, 503, {"Retry-After": "1"})


for kind in (OSError, OperationalError, RedisError, httpx2.TransportError):
    app.add_exception_handler(kind, service_away)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/transfers", status_code=202)
async def start_transfer(new: NewTransfer) -> NewTransfer:
    async with asyncio.timeout(PUBLISH_TIMEOUT_S):
        await to_thread.run_sync(transfer.delay, new.transfer_id, new.cents, abandon_on_cancel=True)
    return new


@app.get("/payments")
async def count_payments(request: Request) -> Payments:
    return Payments.model_validate((await request.app.state.provider.get("/__stats")).json())
