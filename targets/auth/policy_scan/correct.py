"""Decides what a user may do by asking the policies of the tenant and the action."""

import os
from collections import defaultdict
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
BY_PLACE: dict[tuple[int, str], list[Policy]] = defaultdict(list)
for each in POLICIES:
    BY_PLACE[each.tenant, each.action].append(each)

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
    # What every policy compares for equality is the key of an index: four policies are left to ask, however many there are.
    found = BY_PLACE.get((question.tenant, question.action), [])
    for number, policy in enumerate(found, 1):
        if allows(policy, question):
            return Decision(allowed=True, policies_read=number)
    return Decision(allowed=False, policies_read=len(found))


@app.post("/decisions")
async def make_decision(question: Question) -> Decision:
    return decide(question)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
