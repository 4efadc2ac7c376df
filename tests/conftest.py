"""Shared by all tests: the catalogue, a small plan, and a run whose trials come from a formula."""

import signal
import sys
from pathlib import Path

import pytest

from lab.catalog import Catalog
from lab.model import App
from lab.run import stage

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The gotchas of this checkout."""
    return Catalog()


@pytest.fixture(scope="session", autouse=True)
def no_monkey_patching() -> object:
    """pytest must never import gevent: it patches the whole process, and every timing and thread with it."""
    yield
    assert "gevent" not in sys.modules
    assert "locust" not in sys.modules


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_children() -> None:
    """A shell starts what it puts in the background with SIGINT ignored, children inherit that, and tests of Ctrl-C would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of ``tests/small_app.py``."""
    monkeypatch.setattr(stage, "app_of", lambda gotcha, variant: App("tests.small_app:app"))
