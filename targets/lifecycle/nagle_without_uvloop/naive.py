"""Serves prices with two uvicorn workers on the event loop of the standard library."""

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
    # asyncio sets TCP_NODELAY only on sockets whose protocol number says TCP; the one that uvicorn hands to its workers says 0.
    uvicorn.run("naive:app", workers=2, loop="asyncio")


if __name__ == "__main__":
    main()
