"""Caches products in Redis, in one cache for all workers, for a minute."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

CACHE_TTL_S = 60
MISSING_TTL_S = 5  # an unknown id is cached too, but not for long: somebody may create the product
ACQUIRE_S, QUERY_S = 0.3, 1.0
CHANGING_TTL_S = 10  # much longer than a change can take: connection, UPDATE, its cancellation: 0.3 + 1.0 + 0.3 s
MISSING = b"missing"
CHANGING = b"changing"
AWAY = (
    RedisError, OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)  # fmt: skip

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # With RESP3 redis-py 8.1 uses a connection again that Redis has closed.
    redis_pool = BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], protocol=2, max_connections=50, timeout=1, socket_timeout=0.5, socket_connect_timeout=0.5
    )  # fmt: skip
    async with (
        Redis.from_pool(redis_pool) as app.state.cache,
        asyncpg.create_pool(os.environ["DATABASE_URL"], command_timeout=QUERY_S) as app.state.database,
    ):
        yield


app = FastAPI(lifespan=lifespan)


async def service_away(request: Request, problem: Exception) -> JSONResponse:
    log.warning("%s %s: %r", request.method, request.url.path, problem)
    return JSONResponse({"detail": "Try again later"}, 503, headers={"Retry-After": "1"})


for kind in AWAY:
    app.add_exception_handler(kind, service_away)

ProductId = Annotated[int, Path(ge=1, lt=2**31)]


class Price(BaseModel):
    price_cents: Annotated[int, Field(ge=0, lt=2**31)]


class Product(Price):
    id: int
    description: str


async def load_product(request: Request, product_id: int) -> bytes:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as connection:
        row = await connection.fetchrow("SELECT id, price_cents, description FROM products WHERE id = $1", product_id)
    return MISSING if row is None else Product(**row).model_dump_json().encode()


@app.get("/products/{product_id}")
async def read_product(product_id: ProductId, request: Request) -> Product:
    cache, key = request.app.state.cache, f"product:{product_id}"
    # One cache for all workers: what one has loaded the others find, what one changes is gone for all, and all expires.
    try:
        product = await cache.get(key)
    except RedisError as problem:
        log.warning("the cache is away: %r", problem)
        product = CHANGING  # Redis is away: read the database and store nothing
    if product is None or product == CHANGING:
        store = product is None
        product = await load_product(request, product_id)
        if store:
            with suppress(RedisError):  # NX: a change that has begun since is not overwritten
                await cache.set(key, product, nx=True, ex=MISSING_TTL_S if product == MISSING else CACHE_TTL_S)
    if product == MISSING:
        raise HTTPException(404, "No such product")
    return Product.model_validate_json(product)


@app.put("/products/{product_id}/price", status_code=204)
async def set_price(product_id: ProductId, price: Price, request: Request) -> None:
    cache, key = request.app.state.cache, f"product:{product_id}"
    # First the mark, then the change: if this worker dies in between, or Redis does, nobody serves the old price later.
    await cache.set(key, CHANGING, ex=CHANGING_TTL_S)
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as connection:
        done = await connection.execute(
            "UPDATE products SET price_cents = $2 WHERE id = $1", product_id, price.price_cents
        )
    with suppress(RedisError):  # otherwise the mark expires by itself
        await cache.delete(key)
    if done == "UPDATE 0":
        raise HTTPException(404, "No such product")
