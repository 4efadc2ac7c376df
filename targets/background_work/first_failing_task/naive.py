"""Takes sign-ups; greets, bills and opens a workspace in three background tasks."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import httpx2
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

PRICES = {"team": 1900, "business": 4900}
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
    url = os.environ["DATABASE_URL"]
    async with (
        asyncpg.create_pool(url, min_size=5, max_size=5, timeout=2, command_timeout=1) as app.state.database,
        httpx2.AsyncClient(base_url=os.environ["UPSTREAM_URL"], timeout=1) as app.state.mailer,
    ):
        yield


app = FastAPI(lifespan=lifespan)


class NewSignup(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    plan: Annotated[str, Field(min_length=1, max_length=20)]


class Signup(NewSignup):
    id: int


async def greet(signup: Signup, state: Any) -> None:
    first, last = signup.name.split(" ")  # a bug that nobody has found yet: not everybody has two names
    (await state.mailer.post("/mails", json={"to": last, "text": f"Welcome, {first}!"})).raise_for_status()


async def bill(signup: Signup, state: Any) -> None:
    cents = PRICES[signup.plan]  # another one: the plan "trial" came later
    await state.database.execute("INSERT INTO invoices (signup_id, cents) VALUES ($1, $2)", signup.id, cents)


async def open_workspace(signup: Signup, state: Any) -> None:
    await state.database.execute("INSERT INTO workspaces (signup_id) VALUES ($1)", signup.id)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/signups", status_code=201)
async def sign_up(new: NewSignup, tasks: BackgroundTasks, request: Request) -> Signup:
    state = request.app.state
    query = "INSERT INTO signups (name, plan) VALUES ($1, $2) RETURNING id"
    try:
        signup_id = await state.database.fetchval(query, new.name, new.plan)
    except AWAY as problem:
        log.warning("No database: %r", problem)
        raise HTTPException(503, "Try again later", {"Retry-After": "1"}) from problem
    signup = Signup(id=signup_id, **new.model_dump())
    # One response has one list of tasks, run one after the other: the first that raises ends the list, and those after it never run.
    tasks.add_task(greet, signup, state)
    tasks.add_task(bill, signup, state)
    tasks.add_task(open_workspace, signup, state)
    return signup
