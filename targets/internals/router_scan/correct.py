"""Includes every router once, in the application itself, the busiest first, and tries an unknown path once."""

import os
from typing import Annotated

from fastapi import APIRouter, FastAPI, HTTPException, Path
from pydantic import BaseModel

REPORTS = int(os.environ.get("REPORTS", "249"))


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


# Without the second try with another slash at the end, an unknown path is compared once instead of twice.
app = FastAPI(redirect_slashes=False)

# One level, so that only the chosen router is asked again.  Routes are compared in this order, so the busiest comes first.
app.include_router(resource_router("orders"), prefix="/api/v1")
for number in range(REPORTS):
    app.include_router(resource_router(f"report-{number:03}"), prefix="/api/v1")
