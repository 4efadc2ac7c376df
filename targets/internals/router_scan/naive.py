"""Builds the paths out of nested routers, the newest last: each level compares all of its paths again, in every request."""

import os
from typing import Annotated

from fastapi import APIRouter, FastAPI, HTTPException, Path
from pydantic import BaseModel

REPORTS = int(os.environ.get("REPORTS", "249"))
LEVELS = int(os.environ.get("LEVELS", "2"))


class Item(BaseModel):
    resource: str
    id: int


def resource_router(resource: str) -> APIRouter:
    router = APIRouter(prefix=f"/{resource}", tags=[resource])

    @router.get("")
    async def list_items() -> list[Item]:
        return [Item(resource=resource, id=1)]

    @router.get("/{item_id}")
    async def read_item(item_id: Annotated[int, Path(ge=1)]) -> Item:
        if item_id > 1000:
            raise HTTPException(404, "No such item")
        return Item(resource=resource, id=item_id)

    return router


router = APIRouter(prefix="/api/v1")
for number in range(REPORTS):
    router.include_router(resource_router(f"report-{number:03}"))
router.include_router(resource_router("orders"))  # added last, and what everybody asks for

# Since FastAPI 0.137 a router asks those it includes whether they match, and each of these asks again once it is chosen.
for _ in range(LEVELS - 1):
    outer = APIRouter()
    outer.include_router(router)
    router = outer

app = FastAPI()
app.include_router(router)
