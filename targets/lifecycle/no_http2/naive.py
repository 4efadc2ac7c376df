"""Serves tiles of a map with uvicorn."""

import asyncio
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Path
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
    # httptools and h11 read HTTP/1.1 and nothing else: a client that begins with HTTP/2 gets a 400.
    uvicorn.run("naive:app")


if __name__ == "__main__":
    main()
