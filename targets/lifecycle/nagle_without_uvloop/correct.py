"""Serves prices with two uvicorn workers on uvloop."""

from typing import Annotated

import uvicorn
from fastapi import FastAPI, Path
from pydantic import BaseModel

app = FastAPI()


class Price(BaseModel):
    product_id: int
    price_cents: int


@app.get("/prices/{product_id}")
async def read_price(product_id: Annotated[int, Path(ge=1, lt=2**31)]) -> Price:
    return Price(product_id=product_id, price_cents=100 * product_id)


def main() -> None:
    # uvloop sets TCP_NODELAY on every TCP connection.  Named, because with "auto" a missing package silently means asyncio.
    uvicorn.run("correct:app", workers=2, loop="uvloop")


if __name__ == "__main__":
    main()
