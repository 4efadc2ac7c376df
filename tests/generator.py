"""Runs loads by real generator processes, as the lab does, with user classes that a test writes down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.generator.engine import LoadChild, Measured, job_of, load_child
from lab.model import OUTCOMES, SAMPLE_COLUMNS, Condition
from lab.processes import Guard
from lab.words.record import GeneratorSeen

HEAD = "import gevent\nfrom locust import task\n\nfrom lab.generator.users import LabUser\n\n\n"
AT = {name: index for index, name in enumerate(SAMPLE_COLUMNS)}
SEED = 7


@dataclass(frozen=True)
class Load:
    """What a load left: rows, what the generator says of itself, and the rest."""

    rows: Any
    measured: Measured

    @property
    def seen(self) -> GeneratorSeen:
        """What the generator says of itself."""
        return self.measured.generator

    def column(self, name: str) -> Any:
        """One column of the rows."""
        return self.rows[:, AT[name]]

    def outcomes(self) -> dict[str, int]:
        """How many rows have which outcome."""
        codes, counts = np.unique(self.column("outcome"), return_counts=True)
        return {OUTCOMES[code]: int(count) for code, count in zip(codes, counts, strict=True)}

    def assert_counted(self) -> None:
        """Nothing lost, doubled or invented: what was counted where it happened agrees with the rows."""
        seen, left = self.seen, int((self.column("sent_ns") > 0).sum())
        assert (seen.rows, seen.sent, seen.never_sent) == (len(self.rows), left, len(self.rows) - left)
        assert seen.planned == len(self.rows)


@contextmanager
def generator(tmp_path: Path, users: str, processes: int = 1) -> Iterator[LoadChild]:
    """Generator processes that wait for their job; the user classes are in ``users.py``."""
    (tmp_path / "users.py").write_text(HEAD + users)
    with Guard() as guard, load_child(guard, tmp_path / "load", {}, processes) as child:
        yield child


def drive(
    tmp_path: Path, users: str, url: str, condition: Condition, *, processes: int = 1, seed: int = SEED,
    started: Callable[[LoadChild], None] = lambda child: None, fails: bool = False,
) -> Load:  # fmt: skip
    """Do the load.  ``condition.user`` names the class where there are several.  ``started`` is called when it has begun."""
    with generator(tmp_path, users, processes) as child:
        job = job_of(tmp_path / "users.py", condition, "naive", url, seed, processes)
        measured = child.run(job, 60.0, lambda at_ns: started(child), lambda message: None)
    assert bool(measured.error) is fails, measured.error
    return Load(np.load(measured.samples), measured)
