"""A session without a machine: services, environment and executor are made up, the plan and the folder are real."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.catalog import Catalog
from lab.commands import session
from lab.commands.session import Request
from lab.model import Claim, ClosedLoad, Condition, GotchaPlan
from lab.words.metrics import correct, naive
from lab.words.record import Environment
from tests.fakes import FakeExecutor, gotcha_plan

SLUG = "event_loop/example"
FAST = Claim("ratio", "harm", "correct serves four times as many", correct.throughput_rps / naive.throughput_rps,
             predict=lambda c: 4.0, formula="4", source="the fake", null=1.0, tolerance=0.3)  # fmt: skip


def cells(*seconds: float) -> tuple[Condition, ...]:
    """Conditions that differ in how long they take."""
    return tuple(Condition(f"{s:g} s", ClosedLoad(10), duration_s=s) for s in seconds)


def fast_executor() -> FakeExecutor:
    """Correct serves four times as many, with a little noise."""
    return FakeExecutor({"naive": 100, "correct": 400}, {"naive": 0.1, "correct": 0.025}, 0.05)


class Machine:
    """Everything that a session needs of a machine, without one.  What it says can be changed between two sessions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, executor: Callable[[], FakeExecutor] = fast_executor) -> None:
        self.guard = SimpleNamespace(sweep=lambda path: None)
        self.versions: dict[str, str] = {}
        self.ceiling: float | None = 54_321.6
        self.environment = Environment("", "", "", 2, 1, {}, {}, {}, {"open files": "1024"}, {})
        self.executor = executor
        self.plan: GotchaPlan = gotcha_plan(FAST, conditions=cells(1.0, 2.0))
        self.started = 0

        @contextmanager
        def services(*_: Any, **__: Any) -> Iterator["Machine"]:
            self.started += 1
            yield self

        monkeypatch.setattr(session, "Services", services)
        monkeypatch.setattr(session, "capture", lambda versions: self.environment)
        monkeypatch.setattr(session, "quick_ceiling", lambda guard: self.ceiling)
        monkeypatch.setattr(session, "RealExecutor", lambda *_, **__: self.executor())
        monkeypatch.setattr(Catalog, "plans", lambda *_: [self.plan])
        monkeypatch.setattr(
            Catalog, "gotchas", property(lambda _: [{"slug": SLUG, "content_hash": self.plan.content_hash}])
        )

    def changed(self, **fields: Any) -> None:
        """Other files of the gotcha, or another machine: fields of the plan or of the environment."""
        for name, value in fields.items():
            if hasattr(self.environment, name):
                self.environment = replace(self.environment, **{name: value})
            else:
                self.plan = replace(self.plan, **{name: value})


def requested(tmp_path: Path, mode: Any = "quick", pairs: int | None = None) -> Request:
    """Ask for the example."""
    return Request(Catalog(), (SLUG,), mode, 1, pairs, (), "embedded", tmp_path, quiet=True)
