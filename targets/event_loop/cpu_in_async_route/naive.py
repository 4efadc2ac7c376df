"""Checks passwords in an async route: PBKDF2, on the event loop."""

import hashlib
import hmac
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

ITERATIONS = 100_000
SALT = bytes.fromhex("8f2d6c1b9a7e4d30b5c6a7f8091a2b3c")
STORED = bytes.fromhex("c883047fd370d3851f7a24dddc8c4a203529ffca1a6b654ef7a0f6c0c8156c93")

app = FastAPI()


class Login(BaseModel):
    password: Annotated[str, Field(min_length=1, max_length=128)]


def check(password: str) -> bool:
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, ITERATIONS), STORED)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/sessions", status_code=204)
async def log_in(login: Login) -> None:
    # Computes on the event loop: until it is done no other request of this worker runs, the health check neither.
    if not check(login.password):
        raise HTTPException(401, "Wrong password")
