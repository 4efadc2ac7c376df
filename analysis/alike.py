"""Which stored runs are A/A runs of another: the same experiment on the same machine with the same software, done again."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from analysis.frames import FolderLike
from analysis.judge import judge_run
from analysis.model import GotchaVerdict, RunVerdicts
from lab.model import GotchaPlan, RunPlan, TrialPlan
from lab.store import RunFolder
from lab.words.codec import from_json
from lab.words.errors import StoreError
from lab.words.record import Environment

MOST_RUNS = 8
"""Stored runs of one kind that are read, newest first: the spread between eight has seven degrees of freedom, and each costs a judging."""


class StoredRun:
    """A run as a comparison reads it: its plan, its environment or None, and its gotchas judged once each.

    A run without trials (the published one) is taken as it was judged then.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._judged: dict[str, GotchaVerdict | None] = {}

    @property
    def name(self) -> str:
        """The run's id."""
        return self.folder.name

    @cached_property
    def plan(self) -> RunPlan:
        """What was registered.  Raises StoreError."""
        return self.folder.plan

    @cached_property
    def environment(self) -> Environment | None:
        """The machine and its software, None where it was not recorded."""
        try:
            return self.folder.environment
        except StoreError:
            return None

    def gotcha(self, slug: str) -> GotchaPlan | None:
        """The plan of a gotcha, None where the run has none of that name."""
        return next((one for one in self.plan.gotchas if one.slug == slug), None)

    def judged(self, slug: str) -> GotchaVerdict | None:
        """A gotcha's verdicts, None where there are none.  Raises StoreError where the run is damaged."""
        if slug not in self._judged:
            found = self._stored() if not self._has_trials else judge_run(_OneGotcha(self.folder, slug))
            self._judged[slug] = next((one for one in found.gotchas if one.gotcha == slug), None)
        return self._judged[slug]

    @property
    def _has_trials(self) -> bool:
        return (self.folder.path / "trials").is_dir()

    def _stored(self) -> RunVerdicts:
        path = self.folder.derived / "verdicts.json"
        try:
            return from_json(RunVerdicts, path.read_bytes(), str(path))
        except OSError as error:
            raise StoreError(f"{self.name} has neither trials nor verdicts", "Run it again.") from error


class _OneGotcha:
    """A run reduced to one of its gotchas, so that the others are not judged."""

    def __init__(self, folder: RunFolder, slug: str) -> None:
        self._folder, self._slug = folder, slug
        self.path = folder.path

    @cached_property
    def plan(self) -> RunPlan:
        plan = self._folder.plan
        return replace(
            plan,
            gotchas=tuple(one for one in plan.gotchas if one.slug == self._slug),
            trials=tuple(one for one in plan.trials if one.gotcha == self._slug),
        )

    @property
    def environment(self) -> Environment:
        return self._folder.environment

    @property
    def added(self) -> Sequence[TrialPlan]:
        return self._folder.added  # without them a second look would be judged at the level of the first

    def trials(self, gotcha: str) -> Sequence[FolderLike]:
        return self._folder.trials(gotcha)


def alike(one: StoredRun, other: StoredRun, slug: str) -> bool:
    """Whether ``other`` is ``one`` done again, as far as this gotcha goes."""
    a, b = one.gotcha(slug), other.gotcha(slug)
    if a is None or b is None or one.environment is None or other.environment is None:
        return False
    return (
        a.content_hash == b.content_hash
        and (one.plan.mode, one.plan.seed) == (other.plan.mode, other.plan.seed)
        and one.environment.surroundings == other.environment.surroundings
    )


def runs_like(one: StoredRun, stored: Iterable[StoredRun], slug: str) -> list[StoredRun]:
    """``one`` itself and the newest stored runs that are A/A runs of it; a damaged one is passed over."""
    found = [one]
    for other in sorted(stored, key=lambda run: run.name, reverse=True):
        if len(found) == MOST_RUNS:
            break
        try:
            if all(other.folder.path.resolve() != known.folder.path.resolve() for known in found) and alike(
                one, other, slug
            ):
                found.append(other)
        except StoreError:
            continue
    return found
