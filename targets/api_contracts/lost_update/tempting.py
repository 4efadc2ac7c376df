"""Serves articles with an ETag; compares If-Match with the article that it reads, and then saves."""

import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Path, Request, Response
from pydantic import BaseModel, Field

POOL_SIZE = 20
# A tag of ours in If-Match.  A weak one (W/"3") is none: RFC 9110, 13.1.1 compares strongly.
STRONG_TAG = re.compile(r'(?<!W/)"(\d{1,18})"')
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
async def read_article(article_id: ArticleId, request: Request, response: Response) -> Article:
    async with database(request) as connection:
        row = await connection.fetchrow("SELECT title, tags, version FROM articles WHERE id = $1", article_id)
    if row is None:
        raise HTTPException(404, "No such article")
    response.headers["ETag"] = f'"{row["version"]}"'
    return Article(title=row["title"], tags=row["tags"])


@app.put("/articles/{article_id}")
async def save_article(
    article_id: ArticleId,
    article: Article,
    request: Request,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> Article:
    if if_match is None:
        raise HTTPException(428, "Send If-Match with the ETag of the article that you have changed")
    versions = None if if_match.strip() == "*" else [int(version) for version in STRONG_TAG.findall(if_match)]
    async with database(request) as connection:
        version = await connection.fetchval("SELECT version FROM articles WHERE id = $1", article_id)
        if version is None:
            raise HTTPException(404, "No such article")
        if versions is not None and version not in versions:
            raise HTTPException(412, "Somebody has changed it")
        # Between the SELECT and this UPDATE another request may have compared the same version.
        saved = await connection.fetchval(
            "UPDATE articles SET title = $2, tags = $3, version = version + 1 WHERE id = $1 RETURNING version",
            article_id,
            article.title,
            article.tags,
        )
    response.headers["ETag"] = f'"{saved}"'
    return article
