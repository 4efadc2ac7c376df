"""Serves tiles of a map with granian."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path
from granian.constants import HTTPModes, Interfaces
from granian.server import Server
from pydantic import BaseModel

TILE_S = 0.05
app = FastAPI()


class Tile(BaseModel):
    number: int
    color: str


@app.get("/tiles/{number}")
async def read_tile(number: Annotated[int, Path(ge=0, lt=10_000)]) -> Tile:
    await asyncio.sleep(TILE_S)  # where the tile would come from
    return Tile(number=number, color=f"#{number:06x}")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    # "auto" looks at the first bytes of a connection; over TLS it is ALPN.
    Server("on_granian:app", interface=Interfaces.ASGI, http=HTTPModes.auto).serve()


if __name__ == "__main__":
    main()
