"""Decides what a user may do by asking every policy until one allows it."""

import os
from typing import Annotated, NamedTuple

from fastapi import FastAPI
from pydantic import BaseModel, Field


class Policy(NamedTuple):
    tenant: int
    action: str
    role: str
    most_sensitive: int


# Twenty policies for each tenant: an action, who may do it, and up to which sensitivity.
COUNT = int(os.environ.get("POLICIES", "1000"))
ACTIONS = ("read", "comment", "edit", "share", "delete")
ROLES = ("guest", "member", "editor", "owner")
POLICIES = [Policy(n // 20, ACTIONS[n // 4 % 5], ROLES[n % 4], n % 4 - n // 4 % 5 + 2) for n in range(COUNT)]

app = FastAPI()


class Question(BaseModel):
    tenant: Annotated[int, Field(ge=0)]
    action: Annotated[str, Field(max_length=20)]
    role: Annotated[str, Field(max_length=20)]
    sensitivity: Annotated[int, Field(ge=0, le=9)] = 0


class Decision(BaseModel):
    allowed: bool
    policies_read: int


def allows(policy: Policy, question: Question) -> bool:
    return (
        policy.tenant == question.tenant
        and policy.action == question.action
        and policy.role == question.role
        and question.sensitivity <= policy.most_sensitive
    )


def decide(question: Question) -> Decision:
    # One after the other: a request that nothing allows has asked all of them.
    for number, policy in enumerate(POLICIES, 1):
        if allows(policy, question):
            return Decision(allowed=True, policies_read=number)
    return Decision(allowed=False, policies_read=len(POLICIES))


@app.post("/decisions")
async def make_decision(question: Question) -> Decision:
    return decide(question)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
