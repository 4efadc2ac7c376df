"""Where the files of a gotcha are: targets and scenarios in the tree, the self-test's in ``lab/selftest``."""

from pathlib import Path
from typing import TYPE_CHECKING

from lab.words.surroundings import App

if TYPE_CHECKING:
    from lab.model import GotchaPlan

ROOT = Path(__file__).resolve().parent.parent
SELFTEST = "selftest/"


def target_module(slug: str, variant: str) -> str:
    """The module of a variant, for ``-A`` of Celery."""
    if slug.startswith(SELFTEST):
        return "lab.selftest.apps"
    return f"targets.{slug.replace('/', '.')}.{variant}"


def target_app(slug: str, variant: str) -> str:
    """The ``module:attribute`` of a variant's app."""
    return f"{target_module(slug, variant)}:{variant if slug.startswith(SELFTEST) else 'app'}"


def app_of(gotcha: "GotchaPlan", variant: str) -> App:
    """The application of a variant."""
    return gotcha.apps.get(variant) or App(target_app(gotcha.slug, variant))


def server_names() -> str:
    """The servers that there are, without importing them: each is a file of ``lab/target/servers``."""
    names = {path.stem.replace("_", "-") for path in (ROOT / "lab" / "target" / "servers").glob("*.py")}
    return ", ".join(sorted(names - {"--init--", "kind"}))


def scenario_file(slug: str) -> Path:
    """The Locust file of a gotcha."""
    if slug.startswith(SELFTEST):
        return ROOT / "lab" / "selftest" / "users.py"
    return ROOT / "scenarios" / f"{slug}.py"
