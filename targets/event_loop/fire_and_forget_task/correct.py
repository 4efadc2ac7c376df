"""Orders that are sent when their wait is over: a delay, the supplier's answer or an approval, each in a task that is kept."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import httpx2
from fastapi import FastAPI, Path, Request
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

DELAY_S = 0.3
SUPPLIER_TIMEOUT_S = 10.0
COLLECT_EVERY_S = float(os.environ.get("COLLECT_EVERY_S", "0"))  # 0: when Python thinks it is time


async def collect_garbage() -> None:
    while COLLECT_EVERY_S:
        await asyncio.sleep(COLLECT_EVERY_S)
        gc.collect()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Weak, so that an order that is over takes its entry along and the registry does not grow.
    app.state.tasks, app.state.approvals = set[asyncio.Task[None]](), WeakValueDictionary[int, asyncio.Event]()

    def on_approval(message: dict[str, Any]) -> None:
        if (approved := app.state.approvals.get(int(message["data"]))) is not None:
            approved.set()

    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=20, timeout=5)
    async with (
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=SUPPLIER_TIMEOUT_S) as app.state.supplier,
        Redis.from_pool(pool) as app.state.redis,
        app.state.redis.pubsub(ignore_subscribe_messages=True) as messages,
    ):
        await messages.subscribe(approvals=on_approval)
        services = [asyncio.create_task(messages.run()), asyncio.create_task(collect_garbage())]
        yield
        for task in (*services, *app.state.tasks):
            task.cancel()


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    waits_for: Literal["delay", "supplier", "approval"]


class Order(NewOrder):
    id: int


async def send_when_ready(app: FastAPI, order: Order) -> None:
    if order.waits_for == "delay":
        await asyncio.sleep(DELAY_S)
    elif order.waits_for == "supplier":
        (await app.state.supplier.get(f"/items/{order.id}")).raise_for_status()
    else:
        approved = app.state.approvals[order.id] = asyncio.Event()
        await approved.wait()
    await app.state.redis.sadd("orders:sent", order.id)


@app.get("/orders")
async def read_orders(request: Request) -> dict[str, int]:
    redis, approvals = request.app.state.redis, request.app.state.approvals
    return {"sent": await redis.scard("orders:sent"), "waiting_for_approval": len(approvals)}


@app.post("/orders", status_code=202)
async def create_order(new: NewOrder, request: Request) -> Order:
    order = Order(id=await request.app.state.redis.incr("orders:last"), waits_for=new.waits_for)
    # Held by the application until it is done: whatever it waits for, the garbage collector leaves it alone.
    task = asyncio.create_task(send_when_ready(request.app, order))
    request.app.state.tasks.add(task)
    task.add_done_callback(request.app.state.tasks.discard)
    return order


@app.post("/orders/{order_id}/approval", status_code=202)
async def approve(order_id: Annotated[int, Path(ge=1)], request: Request) -> None:
    # To all workers: one of them has the order.
    await request.app.state.redis.publish("approvals", order_id)
