"""Which gotchas there are: found by folder name, described by a child, cached by content.

The cache makes ``bench.py list`` answer without importing locust; it lives in the user's cache folder and may be deleted.
"""

import contextlib
import difflib
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from lab.private import private_folder, why_not_private
from lab.words.errors import StoreError, UsageError

if TYPE_CHECKING:  # `list` reads the cached description alone
    from lab.model import GotchaPlan, Server

ROOT = Path(__file__).resolve().parent.parent.parent
DESCRIBE_TIMEOUT_S = 120


def _fingerprint(root: Path) -> str:
    """A hash over everything that a description depends on."""
    digest = hashlib.sha256(sys.version.encode())
    lab = root / "lab"
    files = [*(root / "scenarios").glob("*/*.py"), *(lab / "generator").glob("*.py"), *(lab / "words").glob("*.py")]
    files += [lab / "model.py", lab / "catalog" / "describe.py", lab / "catalog" / "faults.py"]
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    for path in sorted((root / "targets").glob("*/*/*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _run_child(root: Path, arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "lab.catalog.describe", "--root", str(root), *arguments]
    hint = "Run `python -m lab.catalog.describe` to see the whole error."
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DESCRIBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"the scenarios cannot be described within {DESCRIBE_TIMEOUT_S} s: one does not end when it is imported",
            hint,
        ) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UsageError(f"the scenarios cannot be described: {last}", hint)
    for line in reversed(lines):  # a scenario may print something, at its import and at the end
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict) and "gotchas" in document:
                return document
    raise UsageError(f"the scenarios cannot be described: {lines[-1][:200]}", hint)


def _normal(name: str) -> str:
    return name.strip().strip("/").lower().replace("-", "_")


def _normal_text(gotcha: dict[str, Any], wanted: str) -> bool:
    """Whether a gotcha's title or symptoms speak of what was typed."""
    text = " ".join([gotcha["title"], *gotcha["symptoms"]]).lower()
    return wanted.replace("_", " ") in text


class Catalog:
    """The gotchas of a checkout."""

    def __init__(self, root: Path = ROOT, cache: Path | None = None) -> None:
        self.root = root
        self._cache = cache or user_cache_path("fastapi-gotcha-lab") / "describe"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The description of everything, from the cache where nothing has changed."""
        path = self._cache / f"{_fingerprint(self.root)}.json"
        if not why_not_private(self._cache):  # a plan of somebody else's names programs to run
            try:
                document: dict[str, Any] = json.loads(path.read_text())
                return document
            except (OSError, ValueError):
                pass
        document = _run_child(self.root, [])
        try:
            private_folder(self._cache)
            for old in sorted(self._cache.glob("*.json"), key=lambda one: one.stat().st_mtime)[:-8]:
                old.unlink(missing_ok=True)
            temporary = path.with_suffix(f".{id(self)}.tmp")
            temporary.write_text(json.dumps(document))
            temporary.replace(path)
        except (OSError, StoreError):
            pass  # a cache that cannot be written, or is not ours alone, only costs a second
        return document

    @property
    def gotchas(self) -> list[dict[str, Any]]:
        """The plans as plain JSON values, in order of topic and name."""
        found: list[dict[str, Any]] = self.document["gotchas"]
        return found

    @property
    def broken(self) -> dict[str, str]:
        """Slug to error of the gotchas whose scenario cannot be imported, and of targets without a scenario."""
        errors = {one["gotcha"]: one["error"] for one in self.document["broken"]}
        known = {one["slug"] for one in self.gotchas} | set(errors)
        for naive in sorted((self.root / "targets").glob("*/*/naive.py")):
            slug = f"{naive.parent.parent.name}/{naive.parent.name}"
            if slug not in known:
                errors[slug] = f"there is no scenarios/{slug}.py"
        return errors

    def resolve(self, name: str) -> str:
        """The slug that ``name`` means: with or without topic, dashes or underscores, any unique prefix.

        Raises UsageError that suggests the nearest names.
        """
        wanted = _normal(name)
        slugs: list[str] = [one["slug"] for one in self.gotchas]
        everything = slugs + list(self.broken)
        exact = [slug for slug in everything if wanted in (slug, slug.split("/")[1])]
        matches = exact or [s for s in everything if s.startswith(wanted) or s.split("/")[1].startswith(wanted)]
        if len(matches) == 1:
            if matches[0] in self.broken:
                raise UsageError(
                    f"{matches[0]}: {self.broken[matches[0]]}", f"Mend scenarios/{matches[0]}.py and try again."
                )
            return matches[0]
        if matches:
            raise UsageError(f"{name!r} may mean {', '.join(matches)}", "Give more of the name.")
        near = self._near(wanted.split("/")[-1])
        hint = f"Did you mean {', '.join(near)}?" if near else "`bench.py list` shows all names."
        raise UsageError(f"there is no gotcha {name!r}", hint)

    def _near(self, wanted: str) -> list[str]:
        """Names that may have been meant: those that hold it or speak of it first, then those that are spelt alike."""
        found = [
            one["slug"].split("/")[1] for one in self.gotchas if wanted in one["slug"] or _normal_text(one, wanted)
        ]
        short = [one["slug"].split("/")[1] for one in self.gotchas]
        return list(dict.fromkeys([*found, *difflib.get_close_matches(wanted, short, n=3, cutoff=0.6)]))[:3]

    def select(self, *, topic: str = "", part: int = 0) -> list[str]:
        """Slugs of one topic or one part of the series; all where neither is given.  Raises UsageError for none."""
        wanted = _normal(topic)
        found = [
            one["slug"] for one in self.gotchas
            if (not wanted or one["slug"].split("/")[0] == wanted) and (not part or part in one["parts"])
        ]  # fmt: skip
        if not found:
            topics = sorted({one["slug"].split("/")[0] for one in self.gotchas})
            raise UsageError(f"no gotcha of {'topic ' + topic if topic else f'part {part}'}",
                             f"Topics are {', '.join(topics)}; parts are 1 to 18.")  # fmt: skip
        return found

    def plans(self, slugs: Sequence[str], servers: "Sequence[Server]" = ()) -> "tuple[GotchaPlan, ...]":
        """The registered plans of these gotchas, under other servers where given.  Raises UsageError for a broken one."""
        from lab.model import GotchaPlan
        from lab.words.codec import from_json

        if servers:
            only = [argument for slug in slugs for argument in ("--only", slug)]
            document = _run_child(self.root, [*only, "--servers", json.dumps([asdict(one) for one in servers])])
        else:
            document = self.document
        by_slug = {one["slug"]: one for one in document["gotchas"]}
        for slug in slugs:
            if slug not in by_slug:
                error = next((one["error"] for one in document["broken"] if one["gotcha"] == slug), "not found")
                raise UsageError(f"{slug}: {error}", f"Mend scenarios/{slug}.py and try again.")
        return tuple(from_json(GotchaPlan, json.dumps(by_slug[slug]), slug) for slug in slugs)
