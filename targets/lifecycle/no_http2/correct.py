"""Serves tiles of a map with hypercorn."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path
from hypercorn.asyncio import serve
from hypercorn.config import Config
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
    # Both on one port: HTTP/2 with prior knowledge, by an upgrade, or by ALPN with a certificate; HTTP/1.1 for all others.
    asyncio.run(serve(app, Config()))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
