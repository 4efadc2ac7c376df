"""Serves articles; saving one replaces what is stored, whoever stored it."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, Field

POOL_SIZE = 20
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
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"],
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        timeout=2,
        command_timeout=1,
        server_settings={"statement_timeout": "2s"},
    ) as app.state.database:
        yield


app = FastAPI(lifespan=lifespan)

ArticleId = Annotated[int, Path(ge=1, lt=2**31)]


class Article(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=200)]
    tags: Annotated[list[Annotated[str, Field(max_length=50)]], Field(max_length=5000)]


@asynccontextmanager
async def database(request: Request) -> AsyncIterator[Any]:
    try:
        async with request.app.state.database.acquire(timeout=1) as connection:
            yield connection
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem


@app.get("/articles/{article_id}")
async def read_article(article_id: ArticleId, request: Request) -> Article:
    async with database(request) as connection:
        row = await connection.fetchrow("SELECT title, tags FROM articles WHERE id = $1", article_id)
    if row is None:
        raise HTTPException(404, "No such article")
    return Article(title=row["title"], tags=row["tags"])


@app.put("/articles/{article_id}")
async def save_article(article_id: ArticleId, article: Article, request: Request) -> Article:
    async with database(request) as connection:
        # Replaces the article as it is now, which need not be the one that the client has read and changed.
        saved = await connection.fetchval(
            "UPDATE articles SET title = $2, tags = $3 WHERE id = $1 RETURNING id",
            article_id,
            article.title,
            article.tags,
        )
    if saved is None:
        raise HTTPException(404, "No such article")
    return article
