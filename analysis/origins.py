"""Where each published gotcha's figures come from: one run each, with its own date and environment; and whether they are still of today."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lab.catalog.hashes import content_hash, measured_files
from lab.model import GotchaPlan
from lab.words.codec import from_json
from lab.words.record import Environment

FILE = "origins.json"
Mode: TypeAlias = Literal["quick", "faults", "full"]
DRAWING = {"matplotlib", "pandas"}
"""Packages in an environment that no measurement depends on."""


@dataclass(frozen=True)
class Origin:
    """The run of one published gotcha.  ``environment`` is its file below the published folder, ``command`` repeats the run.

    ``faults`` is the run in which its faults were tried where that was another one.
    """

    run: str
    mode: Mode
    seed: int
    created_at: str
    command: str
    environment: str
    faults: "Origin | None" = None

    @property
    def day(self) -> str:
        """The date of the run, "2026-11-27"."""
        return self.created_at[:10]


@dataclass(frozen=True)
class Origins:
    """origins.json: by slug."""

    gotchas: Mapping[str, Origin]
    format_version: int = 1


def origins_of(folder: Path) -> dict[str, Origin]:
    """The origins that are stored in a run's folder; none in a run that was not published.  Raises StoreError where they are damaged."""
    path = folder / FILE
    return dict(from_json(Origins, path.read_bytes(), str(path)).gotchas) if path.is_file() else {}


def environment_of(folder: Path, origin: Origin) -> Environment | None:
    """The environment of a published gotcha's run, None where it was not recorded.  Raises StoreError where it is damaged."""
    path = folder / origin.environment
    return from_json(Environment, path.read_bytes(), str(path)) if origin.environment and path.is_file() else None


def pinned(root: Path) -> dict[str, set[str]]:
    """The versions that the project pins, by package: several where they differ between Pythons; empty outside a checkout."""
    found: dict[str, set[str]] = {}
    path = root / "pyproject.toml"
    if not path.is_file():
        return found
    for pin in tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["uv"]["constraint-dependencies"]:
        if matched := re.match(r"([a-z0-9-]+)==([^ ;]+)", pin):
            found.setdefault(matched[1], set()).add(matched[2])
    return found


def staleness(plan: GotchaPlan, environment: Environment | None, root: Path, pins: Mapping[str, set[str]]) -> str:
    """What has changed since a gotcha was measured, "" where nothing has: its target or scenario, or a package that the project pins."""
    scenario, target = root / "scenarios" / f"{plan.slug}.py", root / "targets" / plan.slug
    if not scenario.is_file() or not target.is_dir():
        return "the gotcha is no longer part of the lab"
    changed = ["its code"] if content_hash(measured_files(scenario, target)) != plan.content_hash else []
    if environment is not None:
        for name, version in environment.packages.items():
            if name not in DRAWING and pins.get(name) and version not in pins[name]:
                changed.append(f"{name} ({version} then, {' or '.join(sorted(pins[name]))} now)")
    return f"measured before a change of {', '.join(changed)}" if changed else ""


def stale_gotchas(folder: Path, plans: tuple[GotchaPlan, ...], root: Path) -> dict[str, str]:
    """What has changed since, by slug, of those published gotchas where something has.  Raises StoreError where a file is damaged."""
    pins = pinned(root)
    found = {}
    for slug, origin in origins_of(folder).items():
        for plan in plans:
            if plan.slug == slug and (why := staleness(plan, environment_of(folder, origin), root, pins)):
                found[slug] = why
    return found
