"""Takes orders, and queues a receipt for each after the transaction."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

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
INSERT = "INSERT INTO orders (sku) VALUES ($1) RETURNING id"
log = logging.getLogger(__name__)

celery_app = Celery("receipts", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
celery_app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"], task_acks_late=True,
    broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 5, "connect_retries_timeout": 2},
)  # fmt: skip


@celery_app.task(name="send_receipt")  # type: ignore[untyped-decorator]
def send_receipt(order_id: int) -> None:
    # It may be delivered twice: a receipt is written once.
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=DATABASE_TIMEOUT_S) as database:
        order = database.execute("SELECT sku FROM orders WHERE id = %s", (order_id,)).fetchone()
        if order is None:
            log.error("order %d does not exist", order_id)
            database.execute("INSERT INTO misses (order_id) VALUES (%s)", (order_id,))
            return
        database.execute("INSERT INTO receipts (order_id) VALUES (%s) ON CONFLICT DO NOTHING", (order_id,))


async def enqueue(order_id: int) -> None:
    async with asyncio.timeout(PUBLISH_TIMEOUT_S):
        await to_thread.run_sync(send_receipt.delay, order_id, abandon_on_cancel=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=1, max_size=5, command_timeout=DATABASE_TIMEOUT_S
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    sku: Annotated[str, Field(pattern="^[A-Z0-9-]{1,20}$")]


class Order(NewOrder):
    id: int


async def service_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("a service is away: %r", error)
    return JSONResponse({"detail": "The queue or the database is away"}, 503, {"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, request: Request) -> Order:
    database = request.app.state.database
    async with database.acquire(timeout=DATABASE_TIMEOUT_S) as connection, connection.transaction():
        order_id: int = await connection.fetchval(INSERT, new.sku)
    # The order is there before the job is: a process that dies in between leaves an order without a receipt.
    await enqueue(order_id)
    return Order(id=order_id, sku=new.sku)
