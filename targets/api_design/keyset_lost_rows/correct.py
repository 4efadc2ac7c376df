"""Lists tasks after the last page by time and id; a task without a time has one for the order, and the cursor has all digits."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

ACQUIRE_S = 0.5  # for a free connection, opening one included; also for cleaning it up afterwards
STATEMENT_S = 1.0
AWAY = (
    OSError,  # refused or reset, and every time-out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,  # it is starting, or shutting down
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = "SELECT id, due_at FROM tasks ORDER BY COALESCE(due_at, '-infinity') DESC, id DESC LIMIT $1"
# Each task has a place in the order: none is NULL, and the index is on the same expression.
NEXT = """
    SELECT id, due_at FROM tasks
    WHERE (COALESCE(due_at, '-infinity'), id) < (COALESCE($2::timestamptz, '-infinity'), $3)
    ORDER BY COALESCE(due_at, '-infinity') DESC, id DESC LIMIT $1
"""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Without connections at the start, a worker comes up while the database is away.
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=0, max_size=10, timeout=ACQUIRE_S, command_timeout=STATEMENT_S
    ) as app.state.database:
        yield


async def answer_503(request: Request, problem: Exception) -> JSONResponse:
    logger.warning("database: %r", problem)
    return JSONResponse({"detail": "The database does not answer"}, 503, {"Retry-After": "1"})


app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(AWAY, answer_503))


class Task(BaseModel):
    id: int
    due_at: datetime | None


class TaskPage(BaseModel):
    items: list[Task]
    next: str | None


Cursor = Annotated[str | None, Query(pattern=r"^(none|\d{1,16})\.\d{1,18}$")]
PageSize = Annotated[int, Query(ge=1, le=1000)]


def cursor_of(task: Task) -> str:
    if task.due_at is None:
        return f"none.{task.id}"
    return f"{(task.due_at - EPOCH) // timedelta(microseconds=1)}.{task.id}"


@app.get("/tasks")
async def list_tasks(request: Request, after: Cursor = None, page_size: PageSize = 50) -> TaskPage:
    async with request.app.state.database.acquire(timeout=ACQUIRE_S) as database:
        if after is None:
            rows = await database.fetch(FIRST, page_size)
        else:
            time, task_id = after.split(".")
            due_at = None if time == "none" else EPOCH + timedelta(microseconds=int(time))
            rows = await database.fetch(NEXT, page_size, due_at, int(task_id))
    items = [Task(**row) for row in rows]
    more = f"/tasks?after={cursor_of(items[-1])}&page_size={page_size}" if len(items) == page_size else None
    return TaskPage(items=items, next=more)
