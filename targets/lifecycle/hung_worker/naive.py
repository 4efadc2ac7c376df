"""A shop with two workers under uvicorn."""

import os
import re
import urllib.request
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Path
from pydantic import BaseModel

SUPPLIER = os.environ.get("UPSTREAM_URL", "http://supplier.example")
COUPON = re.compile("([a-z0-9]+)+")
app = FastAPI()


class Stock(BaseModel):
    item: str
    price: int


# Two ways to hang a worker that nobody meant to write: a call without a time-out, and a pattern that tries every split of its text.
@app.get("/stock/{item}")
async def read_stock(item: Annotated[str, Path(pattern="^[a-z]{1,20}$")]) -> Stock:
    with urllib.request.urlopen(f"{SUPPLIER}/{item}") as answer:
        return Stock.model_validate_json(answer.read())


@app.get("/coupons/{code}")
async def check_coupon(code: Annotated[str, Path(max_length=60)]) -> dict[str, bool]:
    return {"valid": COUPON.fullmatch(code) is not None}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    # The supervisor asks whether a worker's process answers.  A thread beside the event loop does, also when the loop hangs.
    uvicorn.run("naive:app", workers=2)


if __name__ == "__main__":
    main()
