"""Lists events after the last page with sqlakeyset, which puts a range in front of the OR."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlakeyset.asyncio import select_page
from sqlalchemy import BigInteger, DateTime, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1))
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class Base(DeclarativeBase):
    pass


class EventRow(Base):
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Event(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    kind: int
    created_at: datetime


class EventPage(BaseModel):
    items: list[Event]
    next: str | None


Cursor = Annotated[str | None, Query(pattern=r"^\d{1,16}\.\d{1,18}$")]
PageSize = Annotated[int, Query(ge=1, le=100)]


def cursor_of(event: Event) -> str:
    return f"{(event.created_at - EPOCH) // timedelta(microseconds=1)}.{event.id}"


@app.get("/events")
async def list_events(request: Request, after: Cursor = None, page_size: PageSize = 50) -> EventPage:
    place = None
    if after is not None:
        microseconds, event_id = map(int, after.split("."))
        place = (EPOCH + timedelta(microseconds=microseconds), event_id)
    # With asyncpg: created_at <= x AND (created_at < x OR id < y). The first half is a range of the index, the rest filters one group.
    query = select(EventRow).order_by(EventRow.created_at.desc(), EventRow.id.desc())
    async with request.app.state.sessions() as session:
        page = await select_page(session, query, per_page=page_size, after=place)  # type: ignore[type-var]
    items = [Event.model_validate(row[0]) for row in page]
    more = f"/events?after={cursor_of(items[-1])}&page_size={page_size}" if page.paging.has_next else None
    return EventPage(items=items, next=more)
