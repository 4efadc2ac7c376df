"""A shop with two workers under gunicorn, which replaces one that gives no sign."""

import os
import re
import sys
import urllib.request
from typing import Annotated

from fastapi import FastAPI, Path
from gunicorn.app.wsgiapp import run
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
    # The event loop itself gives a sign each second, and who was silent for the time-out is killed and replaced.
    sys.argv = ["gunicorn", "correct:app", "-k", "asgi", "--workers", "2", "--timeout", "3"]
    run()


if __name__ == "__main__":
    main()
