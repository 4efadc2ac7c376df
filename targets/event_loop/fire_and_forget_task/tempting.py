"""Orders that are sent when their wait is over: a delay, the supplier's answer or an approval, each in a task with a name."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import httpx2
from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis

DELAY_S = 0.3
SUPPLIER_TIMEOUT_S, TRIES, PAUSE_S = 1.0, 8, 0.5
COLLECT_EVERY_S = float(os.environ.get("COLLECT_EVERY_S", "0"))  # 0: when Python thinks it is time
log = logging.getLogger(__name__)


async def collect_garbage() -> None:
    while COLLECT_EVERY_S:
        await asyncio.sleep(COLLECT_EVERY_S)
        gc.collect()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Weak, so that an order that is over takes its entry along and the registry does not grow.
    app.state.approvals = WeakValueDictionary[int, asyncio.Event]()
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], protocol=2, timeout=1, socket_timeout=1, socket_connect_timeout=1)  # fmt: skip
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=SUPPLIER_TIMEOUT_S) as app.state.supplier,
        Redis.from_pool(pool) as app.state.redis,
    ):
        services = [asyncio.create_task(one) for one in (listen(app), look_again(app), collect_garbage())]
        yield
        for task in services:
            task.cancel()


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    waits_for: Literal["delay", "supplier", "approval"]


class Order(NewOrder):
    id: int


@app.exception_handler(RedisError)
async def redis_away(request: Request, error: RedisError) -> JSONResponse:
    return JSONResponse({"detail": "Redis is away"}, 503, {"Retry-After": "1"})


async def listen(app: FastAPI) -> None:
    def on_approval(message: dict[str, Any]) -> None:
        if (approved := app.state.approvals.get(int(message["data"]))) is not None:
            approved.set()

    while True:
        try:
            async with app.state.redis.pubsub(ignore_subscribe_messages=True) as messages:
                await messages.subscribe(approvals=on_approval)
                await messages.run()
        except Exception:  # else one error of Redis would end this task, unseen, and no approval would arrive
            log.exception("not listening for approvals")
        await asyncio.sleep(PAUSE_S)


async def look_again(app: FastAPI) -> None:
    while True:  # a message that is published while nobody listens is gone: the approval itself is kept
        await asyncio.sleep(PAUSE_S)
        try:
            if waiting := list(app.state.approvals):
                seen = await app.state.redis.smismember("orders:approved", waiting)
                for order_id, approved in zip(waiting, seen, strict=True):
                    if approved and (event := app.state.approvals.get(order_id)) is not None:
                        event.set()
        except Exception:
            log.exception("cannot look for approvals")


async def send_when_ready(app: FastAPI, order: Order) -> None:
    for _ in range(TRIES):
        try:
            if order.waits_for == "delay":
                await asyncio.sleep(DELAY_S)
            elif order.waits_for == "supplier":
                (await app.state.supplier.get(f"/items/{order.id}")).raise_for_status()
            else:
                approved = app.state.approvals[order.id] = asyncio.Event()
                await approved.wait()
            await app.state.redis.sadd("orders:sent", order.id)
            return
        except (RedisError, httpx2.HTTPError):
            log.warning("order %d is not sent yet", order.id, exc_info=True)
        await asyncio.sleep(PAUSE_S)
    log.error("order %d was given up", order.id)


@app.get("/orders")
async def read_orders(request: Request) -> dict[str, int]:
    redis, approvals = request.app.state.redis, request.app.state.approvals
    return {"sent": await redis.scard("orders:sent"), "waiting_for_approval": len(approvals)}


@app.post("/orders", status_code=202)
async def create_order(new: NewOrder, request: Request) -> Order:
    order = Order(id=await request.app.state.redis.incr("orders:last"), waits_for=new.waits_for)
    # A name satisfies the linter.  But the variable is gone when this function returns, and then it holds nothing.
    task = asyncio.create_task(send_when_ready(request.app, order))
    task.set_name(f"order-{order.id}")
    return order


@app.post("/orders/{order_id}/approval", status_code=202)
async def approve(order_id: Annotated[int, Path(ge=1)], request: Request) -> None:
    # To all workers: one of them has the order.
    async with request.app.state.redis.pipeline() as both:
        await both.sadd("orders:approved", order_id).publish("approvals", order_id).execute()
