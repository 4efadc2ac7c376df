"""Serves products through a cache that keeps what it has found."""

import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field
from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TTL_S = 60
log = logging.getLogger(__name__)
# asyncpg's time-outs and a refused connection are OSErrors.
AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    waits = {"socket_connect_timeout": 0.2, "socket_timeout": 0.2, "retry": Retry(NoBackoff(), 0)}
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=32, timeout=0.2, **waits
    )
    async with (
        Redis.from_pool(pool) as app.state.redis,
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=5, max_size=5, timeout=2, command_timeout=1
        ) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)
Id = Annotated[int, Path(ge=1, lt=2**31)]


class NewProduct(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


class Product(NewProduct):
    id: int


@asynccontextmanager
async def database(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@contextmanager
def cache_may_be_away() -> Iterator[None]:
    try:
        yield
    except RedisError as problem:  # a cache that is away is a cache that is empty; whoever runs it wants to know
        log.warning("No cache: %r", problem)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def load(product_id: int, request: Request) -> str | None:
    async with database(request) as connection:
        name = await connection.fetchval("SELECT name FROM products WHERE id = $1", product_id)
    return None if name is None else Product(id=product_id, name=name).model_dump_json()


@app.get("/products/{product_id}")
async def read_product(product_id: Id, request: Request) -> Product:
    redis, key = request.app.state.redis, f"product:{product_id}"
    kept: str | bytes | None = None
    with cache_may_be_away():
        kept = await redis.get(key)
    if kept is None:
        kept = await load(product_id, request)
        # What does not exist is not kept: the next request for it asks the database again.
        if kept is not None:
            with cache_may_be_away():
                await redis.set(key, kept, ex=TTL_S)
    if kept is None:
        raise HTTPException(404, "No such product")
    return Product.model_validate(json.loads(kept))


@app.put("/products/{product_id}")
async def save_product(product_id: Id, new: NewProduct, request: Request) -> Product:
    query = "INSERT INTO products (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    async with database(request) as connection:
        await connection.execute(query, product_id, new.name)
    try:
        await request.app.state.redis.delete(f"product:{product_id}")
    except RedisError as problem:  # saved; readers see it when what is kept has expired
        log.warning("cannot invalidate: %r", problem)
    return Product(id=product_id, name=new.name)
