"""Creates users, and welcomes each by mail in a Celery task that is acknowledged late and given back by a lost process."""

import os
from typing import Annotated, Any

import httpx2
import psycopg
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel, Field

MAIL_TIMEOUT_S = 4.0
DATABASE_TIMEOUT_S = 2
# A job may be delivered twice: it is recorded once.
RECORD = """INSERT INTO welcomes (user_id)
    SELECT %(user_id)s WHERE NOT EXISTS (SELECT FROM welcomes WHERE user_id = %(user_id)s)"""

celery_app = Celery("users", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
# Acknowledged when it ends, given back when its pool process dies.  A task that raises is tried once, as by default.
celery_app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"], result_serializer="json", task_compression="gzip",
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1,
    task_soft_time_limit=300, task_time_limit=360, result_expires=3600,
)  # fmt: skip

app = FastAPI()


class NewUser(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class User(NewUser):
    id: int


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@celery_app.task(name="welcome")  # type: ignore[untyped-decorator]
def welcome(user_id: int) -> None:
    # The provider sends a mail with this key once, however often it is asked.
    key = {"Idempotency-Key": f"welcome-{user_id}"}
    url = f"{os.environ['UPSTREAM_URL']}/mails/welcome"
    answer = httpx2.post(url, json={"user_id": user_id}, headers=key, timeout=MAIL_TIMEOUT_S)
    answer.raise_for_status()
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=DATABASE_TIMEOUT_S) as database:
        database.execute(RECORD, {"user_id": user_id})


@app.post("/users", status_code=201)
def create_user(new: NewUser) -> User:
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=DATABASE_TIMEOUT_S) as database:
        row: Any = database.execute("INSERT INTO users (email) VALUES (%s) RETURNING id", (new.email,)).fetchone()
    welcome.delay(row[0])
    return User(id=row[0], **new.model_dump())
