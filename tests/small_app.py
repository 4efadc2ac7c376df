"""A small target for the tests of trials: every answer reads the ten rows of ``items`` once, and it talks about its password."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI

CACHED = int(os.environ.get("STATEMENT_CACHE_SIZE", "100"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    print("connecting to", os.environ["DATABASE_URL"], flush=True)
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=2, max_size=2, statement_cache_size=CACHED
    ) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def count() -> dict[str, int]:
    return {"items": await app.state.pool.fetchval("SELECT count(*) FROM items")}


@app.get("/address")
async def address() -> dict[str, str]:
    return {"url": os.environ["DATABASE_URL"]}
